"""The quantities of gradient flow: pure functions from a step's tensors to (K, L).

Shapes: K members, L layers (the output layer included), B examples, D units, G layers of one shape. A layer that lacks
what a quantity needs (no bias; no activation behind the output layer) gets NaN.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self, final

import torch
from torch import Tensor


@final
@dataclass(frozen=True)
class Layers:
    """Tensors by layer, those of one shape stacked: a deep net is measured with as many kernels as a shallow one.

    Args:
        count: L.
        groups: layers (their indices) and their tensors (G, K, ...).
    """

    count: int
    groups: tuple[tuple[tuple[int, ...], Tensor], ...]

    @classmethod
    def of(cls, tensors: Sequence[Tensor | None]) -> Self:
        """Stack tensors (K, ...) of the layers in order; None for a layer that has none."""
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, tensor in enumerate(tensors):
            if tensor is not None:
                shapes.setdefault(tuple(tensor.shape), []).append(i)
        groups = []
        for indices in shapes.values():
            stacked = torch.stack([t for i in indices if (t := tensors[i]) is not None])
            groups.append((tuple(indices), stacked))
        return cls(len(tensors), tuple(groups))

    def reduce(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply ``function`` (G, K, ...) -> (G, K) to each group: (K, L), NaN for layers without a tensor."""
        return self.table([function(tensor) for _, tensor in self.groups])

    def table(self, values: Sequence[Tensor]) -> Tensor:
        """Put the values of the groups, (G, K) each, in the order of the layers: (K, L)."""
        if not values:
            return torch.full((1, self.count), torch.nan)
        if len(values) == 1 and len(self.groups[0][0]) == self.count:
            return values[0].T
        table = values[0].new_full((self.count, values[0].shape[1]), torch.nan)
        for (layers, _), value in zip(self.groups, values, strict=True):
            first, last = layers[0], layers[-1]
            if last - first + 1 == len(layers):
                table[first : last + 1] = value
            else:
                table[list(layers)] = value
        return table.T


@dataclass(frozen=True)
class LayerTensors:
    """What one optimizer step leaves behind, by layer.

    Args:
        preactivation_gradients: dJ/dz_l (K, B, D), of the objective as it is differentiated, i.e. of a mean over B.
        activations: h_l (K, B, D); the output layer has none.
        inputs: what each linear map is given, (K, B, D_in): h_{l-1} behind dropout, a residual sum or a norm.
        weights: W_l (K, ...), after the step.
        weight_gradients: dJ/dW_l (K, ...).
        bias_gradients: dJ/db_l (K, ...).
        weight_updates: the step's change of W_l (K, ...).
        saturated: the share of saturated entries of activations (G, K, ...) -> (G, K), None where the activation cannot
            saturate.
    """

    preactivation_gradients: Layers
    activations: Layers
    inputs: Layers
    weights: Layers
    weight_gradients: Layers
    bias_gradients: Layers
    weight_updates: Layers
    saturated: Callable[[Tensor], Tensor] | None = None

    @cached_property
    def weight_norms(self) -> Tensor:
        """The Frobenius norms of the weights, (K, L)."""
        return norm(self.weights)

    @cached_property
    def activation_means(self) -> list[Tensor]:
        """The means of the activations of each group, (G, K)."""
        return [h.flatten(2).mean(2) for _, h in self.activations.groups]


Quantity = Callable[[LayerTensors], Tensor]

_SAFE_LEAST, _SAFE_GREATEST = 1e-15, 1e15
_DIGITS = 0.01
"""The share of a mean square that a variance must be to be told from it in float32."""


def norm(layers: Layers) -> Tensor:
    """The Frobenius norm of each member's tensor of each layer, (K, L), right also where float32's squares are not.

    Float32 squares vanish below 1e-23 and overflow above 1e19. A norm outside [1e-15, 1e15] is taken again in float64,
    entry by entry, so that no member's bits depend on another's.
    """
    plain = layers.reduce(lambda x: torch.linalg.vector_norm(x.flatten(2), dim=2))
    if plain.dtype != torch.float32:
        return plain
    # Only on CPU is it free to look; elsewhere both are computed rather than waited for.
    if plain.device.type == "cpu":
        least, greatest = plain.aminmax()
        if float(least) >= _SAFE_LEAST and float(greatest) <= _SAFE_GREATEST:
            return plain
    safe = (plain >= _SAFE_LEAST) & (plain <= _SAFE_GREATEST)
    exact = layers.reduce(
        lambda x: torch.linalg.vector_norm(x.flatten(2), dim=2, dtype=torch.float64)
    )
    return torch.where(safe, plain, exact.to(plain.dtype))


def grad_preactivation(t: LayerTensors) -> Tensor:
    r"""The gradient of one example's loss with respect to the layer's pre-activations, RMS over the batch.

    $\sqrt{E_b \|\partial \ell_b / \partial z_b\|^2}$, the quantity that mean-field theory speaks of
    (Schoenholz et al. 2017, arXiv 1611.01232, eq. 16). With $J = E_b[\ell_b]$ it is $\sqrt{B} \|dJ/dz\|_F$.
    """
    examples = next((g.shape[2] for _, g in t.preactivation_gradients.groups), 1)
    return norm(t.preactivation_gradients) * math.sqrt(examples)


def grad_weight(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the objective's gradient with respect to the layer's weights."""
    return norm(t.weight_gradients)


def grad_bias(t: LayerTensors) -> Tensor:
    """The norm of the objective's gradient with respect to the layer's biases."""
    return norm(t.bias_gradients)


def weight_norm(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the layer's weights after the step."""
    return t.weight_norms


def update_ratio(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the step's change of the weights over that of the weights themselves."""
    return norm(t.weight_updates) / t.weight_norms


def activation_mean(t: LayerTensors) -> Tensor:
    """The mean of the layer's activations over the batch and the units."""
    return t.activations.table(t.activation_means)


def activation_variance(t: LayerTensors) -> Tensor:
    """The variance (of the population) of the layer's activations over the batch and the units."""
    means = zip(t.activations.groups, t.activation_means, strict=True)
    return t.activations.table([_variance(h.flatten(2), mean) for (_, h), mean in means])


def _variance(x_GKN: Tensor, mean_GK: Tensor) -> Tensor:
    """The variance of each row: its mean square less its squared mean, unless that would leave few digits.

    That takes half the time of two passes, and a fifteenth of torch.var's on CPU.
    """
    square: Tensor = torch.linalg.vector_norm(x_GKN, dim=2).square_().div_(x_GKN.shape[2])
    plain = torch.addcmul(square, mean_GK, mean_GK, value=-1.0)
    if x_GKN.device.type == "cpu" and float((plain / square).amin()) > _DIGITS:
        least, greatest = plain.aminmax()
        if float(least) > _SAFE_LEAST and float(greatest) < _SAFE_GREATEST:
            return plain
    safe = (plain > _DIGITS * square) & (plain > _SAFE_LEAST) & (plain < _SAFE_GREATEST)
    return torch.where(safe, plain, (x_GKN - mean_GK.unsqueeze(2)).square_().mean(2))


def silent_fraction(t: LayerTensors) -> Tensor:
    """The share of the layer's units that are zero on every example of the batch.

    Not the same as dead: inputs that collapse onto each other leave units silent that another batch would wake.
    """

    def silent(h: Tensor) -> Tensor:
        return ((h.amax(2) == 0) & (h.amin(2) == 0)).to(h.dtype).flatten(2).mean(2)

    return t.activations.reduce(silent)


def saturated_fraction(t: LayerTensors) -> Tensor:
    """The share of the layer's activations within 5 % of an asymptote of the nonlinearity."""
    if t.saturated is None:
        return t.activations.table([torch.zeros_like(mean) for mean in t.activation_means])
    return t.activations.reduce(t.saturated)


QUANTITIES: Mapping[str, Quantity] = {
    function.__name__: function
    for function in (
        grad_preactivation,
        grad_weight,
        grad_bias,
        weight_norm,
        update_ratio,
        activation_mean,
        activation_variance,
        silent_fraction,
        saturated_fraction,
    )
}


def measure(tensors: LayerTensors, quantities: Mapping[str, Quantity]) -> Tensor:
    """All quantities of one step as one tensor (Q, K, L) on the device of the data."""
    with torch.no_grad():
        device = tensors.preactivation_gradients.groups[0][1].device
        values = [quantity(tensors).to(device) for quantity in quantities.values()]
        # One that no layer has is a single row of NaN on the host: it takes the members' axis from the others.
        return torch.stack(torch.broadcast_tensors(*values))  # type: ignore[no-untyped-call]
