"""The quantities of gradient flow: pure functions from a step's tensors to (K, L).

Shapes: K members, L layers (the output layer included), B examples, D units, G layers of one shape. A layer that lacks
what a quantity needs (no bias; no activation behind the output layer) gets NaN.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from unitgain.probe import _device, _host
from unitgain.probe.history import History
from unitgain.probe.layers import Array, Layers
from unitgain.probe.noise import cosines, gradient_moments


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
        history: what earlier measured steps left, None where that isn't kept.
    """

    preactivation_gradients: Layers
    activations: Layers
    inputs: Layers
    weights: Layers
    weight_gradients: Layers
    bias_gradients: Layers
    weight_updates: Layers
    saturated: Callable[[Tensor], Tensor] | None = None
    history: History | None = None

    @property
    def examples(self) -> int:
        """B."""
        return next((g.shape[2] for _, g in self.preactivation_gradients.groups), 1)

    @property
    def on_host(self) -> bool:
        """Whether numpy can read all of it."""
        return all(getattr(self, field).on_host for field in _FIELDS)

    def norm(self, field: str) -> Tensor:
        """The Frobenius norm of each member's and layer's tensor of a field, (K, L), right also where squares aren't.

        Float32 squares vanish below 1e-23 and overflow above 1e19. A norm outside [1e-15, 1e15] is taken in float64,
        entry by entry, so that no member's bits depend on another's.
        """
        layers: Layers = getattr(self, field)
        if layers.on_host:
            return torch.from_numpy(_host.norms([layers])[0]).T
        return _device.norms([layers])[0]

    @cached_property
    def statistics(self) -> tuple[list[Tensor], list[Tensor]]:
        """Mean, mean square, variance, mean cosine, share of silent units; and which are silent, (G, K, D)."""
        if not self.activations.on_host:
            return _device.statistics(self.activations)
        table_SLK, silent = self.host_statistics
        return [torch.from_numpy(t).T for t in table_SLK], [torch.from_numpy(s) for s in silent]

    @cached_property
    def host_statistics(self) -> tuple[Array, list[Array]]:
        """The same as arrays, (5, L, K) and (G, K, D)."""
        return _host.statistics(self.activations)

    @cached_property
    def gradient_moments(self) -> tuple[Tensor, Tensor]:
        """The trace of the covariance of examples' gradients, and the squared norm of their mean, (K, L) each."""
        return gradient_moments(
            self.preactivation_gradients, self.inputs, self.weights, self.bias_gradients
        )

    @cached_property
    def silent_runs(self) -> list[Tensor] | None:
        """On how many measured steps in a row, this one included, each unit was silent, (G, K, D); None: not kept."""
        if self.history is None or self.history.silent_runs is None:
            return None
        return self.history.runs(self.statistics[1])

    def remember(self) -> None:
        """Let the steps to come compare themselves with this one."""
        if self.history is not None:
            self.history.advance(self.silent_runs, self.weight_gradients)


Quantity = Callable[[LayerTensors], Tensor]


def grad_preactivation(t: LayerTensors) -> Tensor:
    r"""The gradient of one example's loss with respect to the layer's pre-activations, RMS over the batch.

    $\sqrt{E_b \|\partial \ell_b / \partial z_b\|^2}$, the quantity that mean-field theory speaks of
    (Schoenholz et al. 2017, arXiv 1611.01232, eq. 16). With $J = E_b[\ell_b]$ it is $\sqrt{B} \|dJ/dz\|_F$.
    """
    return t.norm("preactivation_gradients") * math.sqrt(t.examples)


def grad_weight(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the objective's gradient with respect to the layer's weights."""
    return t.norm("weight_gradients")


def grad_bias(t: LayerTensors) -> Tensor:
    """The norm of the objective's gradient with respect to the layer's biases."""
    return t.norm("bias_gradients")


def weight_norm(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the layer's weights after the step."""
    return t.norm("weights")


def update_ratio(t: LayerTensors) -> Tensor:
    """The Frobenius norm of the step's change of the weights over that of the weights themselves."""
    return t.norm("weight_updates") / t.norm("weights")


def activation_mean(t: LayerTensors) -> Tensor:
    """The mean of the layer's activations over the batch and the units."""
    return t.statistics[0][0]


def activation_variance(t: LayerTensors) -> Tensor:
    """The variance (of the population) of the layer's activations over the batch and the units."""
    return t.statistics[0][2]


def activation_second_moment(t: LayerTensors) -> Tensor:
    r"""The mean square of the layer's activations over the batch and the units.

    In a wide network it is $E[\phi(\sqrt{q_l} z)^2]$, from which the length map makes $q_{l+1}$ (Poole et al. 2016,
    arXiv 1606.05340, eq. 3).
    """
    return t.statistics[0][1]


def activation_correlation(t: LayerTensors) -> Tensor:
    r"""The mean cosine between the activations of two examples, over all pairs of the batch.

    $\frac{1}{B (B - 1)} \sum_{a \ne b} \cos(h_a, h_b)$: one where the layer no longer tells its inputs apart, as the
    correlation map predicts of deep networks (Schoenholz et al. 2017, arXiv 1611.01232, eq. 5). Examples on which every
    unit is zero have no direction and are left out; NaN if that leaves fewer than two.
    """
    return t.statistics[0][3]


def silent_fraction(t: LayerTensors) -> Tensor:
    """The share of the layer's units that are zero on every example of the batch.

    Not the same as dead: inputs that collapse onto each other leave units silent that another batch would wake.
    """
    return t.statistics[0][4]


def dead_fraction(t: LayerTensors) -> Tensor:
    """The share of the layer's units that were silent on each of the last `WINDOW` measured steps.

    NaN until so many were measured, and where no history is kept.
    """
    if t.history is None or t.silent_runs is None:
        return t.activations.table([_unknown(h) for _, h in t.activations.groups])
    return t.activations.table(t.history.dead_shares(t.silent_runs))


def saturated_fraction(t: LayerTensors) -> Tensor:
    """The share of the layer's activations within 5 % of an asymptote of the nonlinearity."""
    if t.saturated is None:
        return t.activations.table([_unknown(h).zero_() for _, h in t.activations.groups])
    return t.activations.reduce(t.saturated)


def gradient_noise_scale(t: LayerTensors) -> Tensor:
    r"""The batch size at which the noise of the layer's gradient is as large as the gradient itself.

    $\mathrm{tr} \Sigma / \|G\|^2$ from unbiased estimates of both (see `gradient_moments`), of the layer's weights and
    biases and of the data's part of the objective: a penalty isn't in it. Infinite where the estimate of $\|G\|^2$
    isn't positive, so that a batch can't tell the gradient from zero.

    Reference:
        McCandlish et al. 2018, arXiv 1812.06162, equation 2.9.
    """
    trace_KL, square_KL = t.gradient_moments
    scale_KL = torch.where(square_KL <= 0, torch.inf, trace_KL / square_KL)
    return scale_KL.to(_dtype(t))


def gradient_snr(t: LayerTensors) -> Tensor:
    r"""The squared norm of the layer's true gradient over the variance of the batch's estimate of it.

    $\|G\|^2 / (\mathrm{tr} \Sigma / B)$, which is B over `gradient_noise_scale`; zero where the estimate of $\|G\|^2$
    isn't positive.
    """
    trace_KL, square_KL = t.gradient_moments
    return (square_KL.clamp(min=0) / (trace_KL / t.examples)).to(_dtype(t))


def gradient_cosine(t: LayerTensors) -> Tensor:
    """The cosine between the gradients of the layer's weights at this and at the last measured step.

    NaN at the first one, where a gradient is zero, and where no history is kept.
    """
    if t.history is None or t.history.gradients is None:
        return t.weight_gradients.table([_unknown(g) for _, g in t.weight_gradients.groups])
    return cosines(t.weight_gradients, t.history.gradients)


def _dtype(t: LayerTensors) -> torch.dtype:
    """That of the data, but at least float32."""
    _, gradient = t.preactivation_gradients.groups[0]
    return torch.float64 if gradient.dtype == torch.float64 else torch.float32


def _unknown(h: Tensor) -> Tensor:
    return h.new_full(h.shape[:2], torch.nan)


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
        activation_second_moment,
        activation_correlation,
        silent_fraction,
        dead_fraction,
        saturated_fraction,
        gradient_noise_scale,
        gradient_snr,
        gradient_cosine,
    )
}

_STATISTICS = (
    "activation_mean",
    "activation_second_moment",
    "activation_variance",
    "activation_correlation",
    "silent_fraction",
)
"""The order of `LayerTensors.statistics`."""

_READERS: Mapping[str, frozenset[str]] = {
    "preactivation_gradients": frozenset(
        {"grad_preactivation", "gradient_noise_scale", "gradient_snr"}
    ),
    "activations": frozenset({*_STATISTICS, "dead_fraction", "saturated_fraction"}),
    "inputs": frozenset({"gradient_noise_scale", "gradient_snr"}),
    "weight_gradients": frozenset({"grad_weight", "grad_bias", "gradient_cosine"}),
    "weight_updates": frozenset({"update_ratio"}),
}
"""Which of the quantities read what a step has to keep for them."""

_FIELDS = ("preactivation_gradients", "activations", "inputs", "weights", "weight_gradients")
_NORMED: Mapping[str, tuple[str, ...]] = {
    "grad_preactivation": ("preactivation_gradients",),
    "grad_weight": ("weight_gradients",),
    "grad_bias": ("bias_gradients",),
    "weight_norm": ("weights",),
    "update_ratio": ("weights", "weight_updates"),
}
"""What the quantities that are norms are norms of."""


def reads(quantities: Collection[str], field: str) -> bool:
    """Whether some of these quantities may read a field of `LayerTensors`; one that isn't shipped may read any.

    Example:
        >>> reads(["grad_weight"], "weight_updates"), reads(["grad_weight", "my_own"], "weight_updates")
        (False, True)
    """
    return any(name not in QUANTITIES or name in _READERS[field] for name in quantities)


def measure(tensors: LayerTensors, quantities: Mapping[str, Quantity]) -> Tensor:
    """All quantities of one step as one tensor (Q, K, L) on the device of the data."""
    if tensors.on_host:
        return _measured_on_host(tensors, quantities)
    with torch.no_grad():
        _, like = tensors.weights.groups[0]
        # One that no layer has is a single row of NaN on the host: it takes the members' axis from the others.
        values = [q(tensors).to(like.device, non_blocking=True) for q in quantities.values()]
        return torch.stack(torch.broadcast_tensors(*values))  # type: ignore[no-untyped-call]


def _measured_on_host(t: LayerTensors, quantities: Mapping[str, Quantity]) -> Tensor:
    """The same by numpy, with the norms of all fields taken at once.

    At every step the caches hold other things: what counts is how much code runs, and numpy has less of it than torch.
    """
    ready = _ready(t, *_plan(tuple(quantities)))
    _, like = t.weights.groups[0]
    shape = (len(quantities), t.weights.count, like.shape[1])
    table_QLK = np.empty(shape, np.float64 if like.dtype == torch.float64 else np.float32)
    for value_LK, (name, quantity) in zip(table_QLK, quantities.items(), strict=True):
        own = ready.get(name) if quantity is QUANTITIES.get(name) else None
        if own is None:
            with torch.no_grad():
                own = quantity(t).numpy(force=True).T
        value_LK[:] = own
    return torch.from_numpy(table_QLK).transpose(1, 2)


@lru_cache
def _plan(names: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """The fields whose norms these quantities take, and whether they take the activations' statistics."""
    fields = dict.fromkeys(field for name in names for field in _NORMED.get(name, ()))
    return tuple(fields), not set(_STATISTICS).isdisjoint(names)


def _ready(t: LayerTensors, fields: tuple[str, ...], statistics: bool) -> dict[str, Array]:
    """What follows from norms and statistics, (L, K) each."""
    ready: dict[str, Array] = {}
    if fields:
        norm = dict(zip(fields, _host.norms([getattr(t, f) for f in fields]), strict=True))
        ready = {name: norm[field[0]] for name, field in _NORMED.items() if field[0] in norm}
        if "preactivation_gradients" in norm:
            ready["grad_preactivation"] = norm["preactivation_gradients"] * math.sqrt(t.examples)
        if "weight_updates" in norm:
            with np.errstate(all="ignore"):
                ready["update_ratio"] = norm["weight_updates"] / norm["weights"]
    if statistics:
        ready.update(zip(_STATISTICS, t.host_statistics[0], strict=True))
        if t.saturated is None:
            ready["saturated_fraction"] = 0.0 * ready["silent_fraction"]
        if t.history is not None and t.silent_runs:
            dead = [share.numpy() for share in t.history.dead_shares(t.silent_runs)]
            ready["dead_fraction"] = t.activations.host_table(dead)
    return ready
