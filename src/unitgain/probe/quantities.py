"""The quantities of gradient flow: pure functions from a step's tensors to (K, L).

Shapes: K members, L layers (the output layer included), B examples, D units, I inputs of a layer. A layer that lacks
what a quantity needs (no bias; no activation behind the output layer) gets NaN.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

PerLayer = Sequence[Tensor | None]


@dataclass(frozen=True)
class LayerTensors:
    """What one optimizer step leaves behind, by layer; None where a layer has no such tensor.

    Args:
        preactivation_gradients: dJ/dz_l (K, B, D), of the objective as it is differentiated, i.e. of a mean over B.
        activations: h_l (K, B, D); None for the output layer.
        weights: W_l (K, ...), before the step.
        weight_gradients: dJ/dW_l (K, ...).
        bias_gradients: dJ/db_l (K, ...).
        weight_updates: the step's change of W_l (K, ...).
        saturated: tells which entries of activations are saturated, None where the activation cannot saturate.
    """

    preactivation_gradients: PerLayer
    activations: PerLayer = ()
    weights: PerLayer = ()
    weight_gradients: PerLayer = ()
    bias_gradients: PerLayer = ()
    weight_updates: PerLayer = ()
    saturated: Callable[[Tensor], Tensor] | None = field(default=None)


Quantity = Callable[[LayerTensors], Tensor]


def per_layer(tensors: PerLayer, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply ``function`` (N, ...) -> (N,) to every layer's members: (K, L).

    Layers of one shape are stacked and measured at once: a deep net costs as many kernels as a shallow one.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, tensor in enumerate(tensors):
        if tensor is not None:
            groups.setdefault(tuple(tensor.shape), []).append(i)
    columns: list[Tensor | None] = [None] * len(tensors)
    for shape, members in groups.items():
        stacked = torch.stack([t for i in members if (t := tensors[i]) is not None])
        values = function(stacked.view(-1, *shape[1:])).view(len(members), shape[0])
        for i, row in zip(members, values.unbind(0), strict=True):
            columns[i] = row
    first = next((c for c in columns if c is not None), torch.empty(1))
    blank = torch.full_like(first, torch.nan)
    return torch.stack([blank if c is None else c for c in columns], dim=1)


def norm(x: Tensor) -> Tensor:
    """The Frobenius norm of each row of x (N, ...), finite and right wherever float32's squares are not.

    Scaled by the largest entry, as LAPACK's xNRM2 does: plain float32 squares vanish below 1e-23.
    """
    flat = x.flatten(1)
    largest = torch.linalg.vector_norm(flat, ord=torch.inf, dim=1, keepdim=True)
    scale = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    norm_N: Tensor = torch.linalg.vector_norm(flat / scale, dim=1) * scale[:, 0]
    return norm_N


def grad_preactivation(t: LayerTensors) -> Tensor:
    r"""The gradient of one example's loss with respect to the layer's pre-activations, RMS over the batch.

    $\sqrt{E_b \|\partial \ell_b / \partial z_b\|^2}$, the quantity that mean-field theory speaks of
    (Schoenholz et al. 2017, arXiv 1611.01232, eq. 16). With $J = E_b[\ell_b]$ it is $\sqrt{B} \|dJ/dz\|_F$.
    """
    examples = next(g.shape[1] for g in t.preactivation_gradients if g is not None)
    return per_layer(t.preactivation_gradients, norm) * math.sqrt(examples)


def grad_weight(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the objective's gradient with respect to the layer's weights."""
    return per_layer(t.weight_gradients, norm)


def grad_bias(t: LayerTensors) -> Tensor:
    """The norm of the objective's gradient with respect to the layer's biases."""
    return per_layer(t.bias_gradients, norm)


def weight_norm(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the layer's weights before the step."""
    return per_layer(t.weights, norm)


def update_ratio(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the step's change of the weights over that of the weights themselves."""
    return per_layer(t.weight_updates, norm) / per_layer(t.weights, norm)


def activation_mean(t: LayerTensors) -> Tensor:
    """The mean of the layer's activations over the batch and the units."""
    return per_layer(t.activations, lambda h: h.flatten(1).mean(1))


def activation_variance(t: LayerTensors) -> Tensor:
    """The variance (of the population) of the layer's activations over the batch and the units."""

    def variance(h: Tensor) -> Tensor:
        # Two passes: torch.var's one-pass kernel takes 15 times as long on CPU.
        flat = h.flatten(1)
        return (flat - flat.mean(1, keepdim=True)).square_().mean(1)

    return per_layer(t.activations, variance)


def silent_fraction(t: LayerTensors) -> Tensor:
    """The share of the layer's units that are zero on every example of the batch.

    Not the same as dead: inputs that collapse onto each other leave units silent that another batch would wake.
    """

    def silent(h: Tensor) -> Tensor:
        return ((h.amax(1) == 0) & (h.amin(1) == 0)).to(h.dtype).flatten(1).mean(1)

    return per_layer(t.activations, silent)


def saturated_fraction(t: LayerTensors) -> Tensor:
    """The share of the layer's activations within 5 % of an asymptote of the nonlinearity."""
    saturated = t.saturated
    if saturated is None:
        return per_layer(t.activations, lambda h: torch.zeros_like(h[:, 0, 0]))
    return per_layer(t.activations, lambda h: saturated(h).to(h.dtype).flatten(1).mean(1))


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
        values = [quantity(tensors) for quantity in quantities.values()]
        # One that no layer has is a single row of NaN: it takes the members' axis from the others.
        return torch.stack(torch.broadcast_tensors(*values))  # type: ignore[no-untyped-call]
