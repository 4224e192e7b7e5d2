r"""Lengths, correlations and gradients through a given network, layer by layer, as its layers become wide.

Forward, with $M_l = E[h_l^2]$ and $C_l = E[h_l h_l']$ of two examples,

$q_l = \sigma_{w,l}^2 M_{l-1} + \sigma_{b,l}^2 + \mu_{b,l}^2$ and
$c_l q_l = \sigma_{w,l}^2 C_{l-1} + \sigma_{b,l}^2 + \mu_{b,l}^2$,

and what norm, activation and dropout make of $z_l \sim N(\mu_b, q_l - \mu_b^2)$ gives $M_l$ and $C_l$; a residual layer
adds its branch with the cross term $2 s E[h] E[branch]$. Backward, with $\delta_l = \partial \ell / \partial z_l$ and
$g_l = \partial \ell / \partial h_l$,

$E|\delta_l|^2 = t_l E|g_l|^2$ and $E|g_{l-1}|^2 = \sigma_{w,l}^2 E|\delta_l|^2$ (plus $E|g_l|^2$ if residual),

with $t_l = E[\phi'(z_l)^2]$ times what norm, dropout and branch scale contribute. Widths do not matter beyond
$\sigma_w^2 = fan_{in} Var(W)$.

Shapes: L layers, the output layer included where a name says so; H hidden layers.

Reference:
    Poole et al. 2016, arXiv 1606.05340, equations 3 to 5; Schoenholz et al. 2017, arXiv 1611.01232, equations 6, 16 and
    23; Yang and Schoenholz 2017, arXiv 1712.08969 (residual layers); Yang et al. 2019, arXiv 1902.08129 (batch norm).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import final

import numpy as np
from numpy.typing import NDArray

from unitgain.theory._branch import (
    NO_DROPOUT,
    NO_NORM,
    Branch,
    Dropout,
    Moments,
    Norm,
    NormKind,
    branch_of,
    moved,
)
from unitgain.theory._radial import Radial
from unitgain.theory._stream import Shared
from unitgain.theory._unmixed import Step, unmixed
from unitgain.theory.activations import Activation

Array = NDArray[np.float64]

__all__ = ["Dropout", "Layer", "Network", "Norm", "NormKind", "Signal", "propagate"]

_HUGE, _TINY = 1e200, 1e-280
"""Lengths beyond which a layer is taken to do what the one before it did."""


@final
@dataclass(frozen=True)
class Layer:
    r"""One linear map: variance $\sigma_w^2 / fan_{in}$ of its weights, mean and variance of its biases.

    Args:
        sigma_w: $\sigma_w$.
        sigma_b: $\sigma_b$.
        bias_mean: $\mu_b$.
        target: the standard deviation that its pre-activations are rescaled to on data without dropout (LSUV), which
            then decides $\sigma_w$; None for no rescaling.
        residual: whether the layer's input is added to its output.
        width: its units; None for very many. See `unitgain.theory._radial`, and `unitgain.theory._stream` for skips.
        identity: whether its weights are sigma_w times the identity. Where all hidden layers but perhaps the first are
            so, and nothing is dropped or drawn, units are followed one by one; elsewhere it is an orthogonal matrix.
    """

    sigma_w: float
    sigma_b: float = 0.0
    bias_mean: float = 0.0
    target: float | None = None
    residual: bool = False
    width: int | None = None
    identity: bool = False


@final
@dataclass(frozen=True)
class Network:
    """Hidden layers of one kind and a linear output.

    Args:
        activation: of the hidden layers.
        layers: the linear maps from the input on, the output layer's last.
        norm: of the hidden layers.
        dropout: of the hidden layers.
        branch_scale: s, what a residual layer's branch is multiplied by.
    """

    activation: Activation
    layers: tuple[Layer, ...]
    norm: Norm = NO_NORM
    dropout: Dropout = NO_DROPOUT
    branch_scale: float = 1.0


@final
@dataclass(frozen=True)
class Signal:
    r"""What theory says of each layer.

    Attributes:
        q: (L,) mean squares of the pre-activations, $q_l$.
        correlation: (L,) $c_l$, of the pre-activations of two examples.
        activation_mean: (H,) $E[\phi(z_l)]$, in front of a norm that stands behind the activation.
        activation_second_moment: (H,) $E[\phi(z_l)^2]$.
        activation_correlation: (H,) the cosine between two examples' activations.
        log10_gradient: (L,) log10 of the gradient's norm at $z_l$ relative to the output layer's.
        growth: (L - 1,) the squared gradient at $z_l$ over that at $z_{l+1}$.
        sigma_w: (L,) as used: where a layer has a target, what follows from it.
    """

    q: Array
    correlation: Array
    activation_mean: Array
    activation_second_moment: Array
    activation_correlation: Array
    log10_gradient: Array
    growth: Array
    sigma_w: Array

    @property
    def slope(self) -> float:
        """The least-squares slope of log10 of the gradient's norm over the hidden layers, towards the input.

        0 for a single hidden layer, NaN where a layer gets no gradient at all.
        """
        hidden = self.log10_gradient[:-1]
        if len(hidden) < 2:
            return 0.0
        if not np.isfinite(hidden).all():
            return math.nan
        return -float(np.polyfit(np.arange(len(hidden)), hidden, 1)[0])


def propagate(network: Network, q_0: float = 1.0, correlation: float = 0.0) -> Signal:
    r"""Follow lengths, correlations and gradients through the layers.

    Args:
        network: what to follow them through.
        q_0: mean square of the inputs' features.
        correlation: between two inputs; 0 for independent ones of zero mean.

    Example:
        >>> from unitgain.theory.activations import tanh
        >>> critical = Layer(sigma_w=1.76095**0.5, sigma_b=0.05**0.5)
        >>> signal = propagate(Network(tanh(), (critical,) * 51))
        >>> abs(signal.slope) < 1e-3, round(float(signal.q[-1]), 3)
        (True, 0.57)
    """
    if any(layer.target is not None for layer in network.layers):
        without = replace(network, dropout=NO_DROPOUT)
        sigma_w = _forward(without, q_0, correlation).sigma_w
        layers = tuple(
            replace(layer, sigma_w=float(s), target=None)
            for layer, s in zip(network.layers, sigma_w, strict=True)
        )
        network = replace(network, layers=layers)
    if _is_unmixed(network):
        return _unit_by_unit(network, q_0)
    forward = _forward(network, q_0, correlation)
    gradient = _backward(network, forward)
    activations = [branch.activation for branch in forward.branches]
    second = np.array([phi.second for phi in activations])
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.array([phi.pair for phi in activations]) / second
    return Signal(
        q=forward.q,
        correlation=forward.correlation,
        activation_mean=np.array([phi.mean for phi in activations]),
        activation_second_moment=second,
        activation_correlation=cosine,
        log10_gradient=gradient / (2 * math.log(10)),
        growth=np.array([_ratio(a, b) for a, b in pairwise(gradient.tolist())]),
        sigma_w=forward.sigma_w,
    )


def _is_unmixed(network: Network) -> bool:
    hidden = network.layers[1:-1]
    drawn = network.dropout.p > 0 or any(layer.sigma_b > 0 for layer in hidden)
    return bool(hidden) and not drawn and all(layer.identity for layer in hidden)


def _unit_by_unit(network: Network, q_0: float) -> Signal:
    steps = [
        Step(
            layer.sigma_w,
            layer.bias_mean,
            network.branch_scale if layer.residual else 1.0,
            layer.residual,
        )
        for layer in network.layers[:-1]
    ]
    first, last = network.layers[0], network.layers[-1]
    phi = network.activation
    biases = first.sigma_b**2 + first.bias_mean**2
    units = unmixed(phi.value, phi.slope, network.norm, steps, first.sigma_w**2 * q_0 + biases)
    output = last.sigma_w**2 * units.output.second + last.sigma_b**2 + last.bias_mean**2
    pair = last.sigma_w**2 * units.output.pair + last.sigma_b**2 + last.bias_mean**2
    q = np.array([*(z.second for z in units.z), output])
    gradient = np.append(units.log_gradient_H + _log(last.sigma_w**2), 0.0)
    second = np.array([phi.second for phi in units.activations])
    with np.errstate(invalid="ignore", divide="ignore"):
        return Signal(
            q=q,
            correlation=np.array([*(z.pair for z in units.z), pair]) / q,
            activation_mean=np.array([phi.mean for phi in units.activations]),
            activation_second_moment=second,
            activation_correlation=np.array([phi.pair for phi in units.activations]) / second,
            log10_gradient=gradient / (2 * math.log(10)),
            growth=np.array([_ratio(a, b) for a, b in pairwise(gradient.tolist())]),
            sigma_w=np.array([layer.sigma_w for layer in network.layers]),
        )


@dataclass(frozen=True)
class _Forward:
    q: Array
    correlation: Array
    sigma_w: Array
    inputs: Sequence[Moments]
    branches: Sequence[Branch]


def _forward(network: Network, q_0: float, correlation: float) -> _Forward:
    h = Moments(0.0, q_0, correlation * q_0)
    q, c, sigmas = [], [], []
    inputs: list[Moments] = []
    branches: list[Branch] = []
    for i, layer in enumerate(network.layers):
        biases = layer.sigma_b**2 + layer.bias_mean**2
        sigma_w = layer.sigma_w
        if layer.target is not None:
            wanted = max(layer.target**2 - layer.sigma_b**2, 0.0)
            sigma_w = math.sqrt(wanted / max(h.second, _TINY))
        length = sigma_w**2 * h.second + biases
        covariance = sigma_w**2 * h.pair + biases
        q.append(length)
        c.append(covariance / length if length > 0 else math.nan)
        sigmas.append(sigma_w)
        inputs.append(h)
        if i == len(network.layers) - 1:
            break
        if not length <= _HUGE and branches:
            branch = branches[-1]
            h = Moments(math.nan, math.inf, math.inf)
        else:
            branch = branch_of(
                network.activation,
                network.norm,
                network.dropout,
                max(length, _TINY),
                covariance,
                layer.bias_mean,
            )
            h = _joined(h, branch.output, network.branch_scale) if layer.residual else branch.output
        branches.append(branch)
    return _Forward(np.array(q), np.array(c), np.array(sigmas), inputs, branches)


def _joined(h: Moments, v: Moments, scale: float) -> Moments:
    """The moments of h + scale v: a unit's branch is independent of its input, but for their means."""
    cross = 2 * scale * h.mean * v.mean
    return Moments(
        h.mean + scale * v.mean,
        h.second + cross + scale**2 * v.second,
        h.pair + cross + scale**2 * v.pair,
    )


def _backward(network: Network, forward: _Forward) -> Array:
    """The log of E|delta_l|^2 relative to the output layer's, (L,)."""
    logs = [0.0]
    # log E|g|^2, g the gradient with respect to what the layer hands on, and what its units share.
    stream = _log(network.layers[-1].sigma_w ** 2)
    shared = Shared.of_random(forward.inputs[-1])
    radial = _radial_at_output(network, forward)
    for i in range(len(forward.branches) - 1, -1, -1):
        layer, branch, h = network.layers[i], forward.branches[i], forward.inputs[i]
        scale = network.branch_scale if layer.residual else 1.0
        if radial is None or layer.width is None:
            logs.append(stream + _log(scale**2 * branch.gain))
        else:
            variance = float(f"{forward.q[i] - layer.bias_mean**2:.12g}")
            phi = moved(network.activation, layer.bias_mean, 1.0)
            sigma_w, keep = float(forward.sigma_w[i + 1]), 1 - network.dropout.p
            radial, grown = radial.back(phi, variance, keep, sigma_w, layer.width)
            logs.append(logs[-1] + _log(grown))
        growth = layer.sigma_w**2 * scale**2 * branch.gain
        if not layer.residual:
            stream, shared = logs[-1] + _log(layer.sigma_w**2), Shared.of_random(h)
        elif layer.width is None or network.norm.kind != "none" or not shared.h.second < _HUGE:
            stream += math.log1p(growth)
        else:
            shared, grown = shared.back(h, branch, scale, layer.sigma_w, growth, layer.width)
            stream += _log(grown)
    return np.array(logs[::-1])


def _radial_at_output(network: Network, forward: _Forward) -> Radial | None:
    """What changes lengths, at the outputs; None where lengths are kept by norms, go around by skips, or overflow."""
    kept = network.norm.kind != "none" or any(layer.residual for layer in network.layers)
    if kept or network.dropout.alpha or not (forward.q < _HUGE).all() or not (forward.q > 0).all():
        return None
    return Radial.of_output(float(forward.q[-1]) - network.layers[-1].bias_mean ** 2)


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _ratio(first: float, second: float) -> float:
    """exp(first - second); NaN where both are nothing."""
    if first == second == -math.inf:
        return math.nan
    difference = first - second
    return math.exp(difference) if difference < 700 else math.inf
