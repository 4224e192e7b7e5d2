"""The light probe: the norms of all weights' gradients in one pass, without hooks and without waiting for a device.

Shapes: S measured steps, W weights, L layers.
"""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.probe.groups import Group, distinct_weights

_LEAST, _GREATEST = 1e-18, 1e18
"""Norms between which float32's squares were good: below 1e-23 they vanish, above 1e19 they overflow."""


@final
class WeightNorms:
    """Norms of the gradients of layers' weights.

    Args:
        groups: the layers.

    Example:
        >>> from torch import nn
        >>> from unitgain.probe.groups import layer_groups
        >>> net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
        >>> with torch.no_grad():
        ...     _ = [p.fill_(2.0) for p in net.parameters()]
        >>> net(torch.tensor([[3.0, 4.0]])).sum().backward()
        >>> norms = WeightNorms(layer_groups(net))
        >>> norms.by_layer(norms.take().numpy()[None]).tolist()
        [[10.0, 14.0]]
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.weights = distinct_weights(list(groups))
        place = {id(p): i for i, p in enumerate(self.weights)}
        self._places = [[place[id(p)] for p in group.weights] for group in groups]
        self._nan = torch.tensor(torch.nan)

    def take(self, of: Sequence[Tensor] | None = None) -> Tensor:
        """The norms of the gradients as they are now, (W,); NaN for a weight without one.

        Args:
            of: only of these parameters, where several optimizers take their steps at different times.
        """
        gradients = [p.grad for p in self.weights]
        present = [g for g in gradients if g is not None]
        chosen = None if of is None else {id(p) for p in of}
        if len(present) == len(gradients) and chosen is None:
            return norms_of(present)
        keep = [
            g is not None and (chosen is None or id(p) in chosen)
            for p, g in zip(self.weights, gradients, strict=True)
        ]
        present = [g for g, kept in zip(gradients, keep, strict=True) if kept and g is not None]
        if not present:
            return self._nan.expand(len(keep))
        norms = norms_of(present)
        row = norms.new_full((len(keep),), torch.nan)
        return row.index_copy_(0, torch.tensor(keep).nonzero()[:, 0].to(row.device), norms)

    def pick(self, parameters: Sequence[Tensor], norm_P: Tensor) -> Tensor:
        """The same row (W,) out of norms of these parameters' gradients that are there already."""
        place = {id(p): i for i, p in enumerate(parameters)}
        row = norm_P.new_full((len(self.weights),), torch.nan)
        to = [w for w, p in enumerate(self.weights) if id(p) in place]
        source = [place[id(self.weights[w])] for w in to]
        row[to] = norm_P[source]
        return row

    def by_layer(self, value_SW: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S, L) from the norms of weights: the root of the squares' sum where a layer has several."""
        value_SL = value_SW[:, [places[0] for places in self._places]]
        for layer, places in enumerate(self._places):
            if len(places) > 1:
                part = value_SW[:, places]
                norm = np.sqrt(np.nansum(part**2, axis=1))
                value_SL[:, layer] = np.where(np.isnan(part).all(1), np.nan, norm)
        return value_SL


def norms_of(gradients: Sequence[Tensor]) -> Tensor:
    """The norms of some gradients, right also where float32's squares are not, on the first one's device.

    On CPU in float32, with a second look in float64 at those that need it, where it is free to look. Elsewhere in
    float64 at once: the pass waits for memory, not for arithmetic, and nobody waits for its result.
    """
    gradients = [g if g.layout == torch.strided else g.coalesce().values() for g in gradients]
    device = gradients[0].device
    if device.type != "cpu" or any(g.dtype == torch.float64 for g in gradients):
        norms = torch._foreach_norm(gradients, 2, torch.float64)
        return torch.stack([n.to(device, non_blocking=True) for n in norms])
    norm_W = torch.stack(torch._foreach_norm(gradients, 2, torch.float32))
    least, greatest = norm_W.aminmax()
    if float(least) > _LEAST and float(greatest) < _GREATEST:
        return norm_W
    again = (~((norm_W > _LEAST) & (norm_W < _GREATEST))).nonzero()[:, 0]
    exact = torch._foreach_norm([gradients[i] for i in again.tolist()], 2, torch.float64)
    return norm_W.double().index_copy_(0, again, torch.stack(exact))
