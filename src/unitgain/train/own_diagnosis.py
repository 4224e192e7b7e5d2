"""A module of the user's own at initialization: what a forward and a backward pass say, and what would heal it.

Shapes: L layers (the output layer last), Q quantities, B examples.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from unitgain.errors import ConfigError
from unitgain.nn.activations import as_activation, saturation_bounds
from unitgain.nn.facts import theory_of
from unitgain.probe import QUANTITIES, Recorder, measure
from unitgain.probe.sharpness import sharpness
from unitgain.theory.derived import critical_point
from unitgain.theory.mean_field import MeanField
from unitgain.theory.network import Dropout, Layer, Network, propagate
from unitgain.train.diagnosis import (
    FAULTLESS,
    OF_ONE_STEP,
    Diagnosis,
    Measured,
    Predicted,
    Proposal,
)
from unitgain.train.own_model import Given, explained_pass
from unitgain.train.run_diagnosis import as_trained, gains_of

_QUANTITIES = tuple(name for name in OF_ONE_STEP if name != "update_ratio")
_KEEPING = (nn.Dropout, nn.Flatten, nn.Identity)
_MAPS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ROUNDS, _CLOSE = 5, 0.01
_MOST_INPUTS = 4096


def diagnose_module(
    module: nn.Module, given: Given, name: str, *, sharp: bool = False
) -> Diagnosis:
    """Measure a module as it is, and what is known to heal such as it.

    Args:
        module: in the state to be looked at; it is left as it is.
        given: a batch and a loss.
        name: of the module.
        sharp: take the sharpness, too.

    Raises:
        ConfigError: it can't be run, or has no layers that gradients reach.
    """
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _diagnosis(module, given, name, sharp)


def _diagnosis(module: nn.Module, given: Given, name: str, sharp: bool) -> Diagnosis:
    measured, activation = _measured(module, given, name)
    predicted = _predicted(module, given, activation)
    expected = None if predicted is None else predicted.expected(name)
    verdict = measured.verdict(expected)
    proposals = []
    if verdict.label not in FAULTLESS:
        proposals = list(_proposals(module, given, name, activation))
    parameters = sum(p.numel() for p in module.parameters())
    return Diagnosis(
        name,
        f"{len(measured.names)} layers, {parameters} parameters; {given.words}",
        measured,
        verdict,
        predicted,
        tuple(sorted(proposals, key=lambda each: not each.heals)),
        _gains(module, given),
        _sharpness(module, given, name) if sharp else None,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Small batches gain nothing from more, and on a busy machine wait for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _gains(module: nn.Module, given: Given) -> tuple[float, float] | None:
    """Those of the outputs' Jacobian, where inputs and outputs are numbers, and not too many."""
    x, forward = given.inputs, type(module).forward
    if forward in (nn.Module.forward, pl.LightningModule.forward):
        return None
    if x is None or not x.is_floating_point() or x[0].numel() > _MOST_INPUTS:
        return None
    copied = as_trained(copy.deepcopy(module), given.loss)
    try:
        with torch.no_grad():
            y = copied(x[:1])
        if not isinstance(y, Tensor) or y.shape[0] != 1 or y[0].numel() > _MOST_INPUTS:
            return None
        return gains_of(copied, x)
    except (RuntimeError, TypeError, ValueError):
        # Its forward may take what its training_step makes of a batch: then there is no such Jacobian.
        return None


def _sharpness(module: nn.Module, given: Given, name: str) -> float:
    copied = as_trained(copy.deepcopy(module), given.loss)
    loss = partial(_loss_of, copied, given, name)
    return sharpness(loss, copied.parameters(), [None]).eigenvalue


def _loss_of(module: nn.Module, given: Given, name: str, _: object) -> Tensor:
    return explained_pass(module, given, name)


def _measured(module: nn.Module, given: Given, name: str) -> tuple[Measured, nn.Module | None]:
    """One forward and backward pass in training mode, of a copy; and the activation that was seen."""
    copied = copy.deepcopy(module).train()
    copied.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[]), Recorder(copied) as recorder:
        torch.manual_seed(0)
        loss = explained_pass(copied, given, name)
        loss.backward()  # type: ignore[no-untyped-call]
    if not recorder.layers:
        raise ConfigError(f"{name}: must have layers that a gradient reaches, but has none")
    bounds = _saturated(recorder.activation)
    tensors = recorder.tensors(saturated=bounds)
    quantities = {each: QUANTITIES[each] for each in _QUANTITIES}
    value_KQL = measure(tensors, quantities).transpose(0, 1).double().numpy()
    measured = Measured.of(value_KQL, _QUANTITIES, recorder.names, float(loss.detach()))
    return measured, recorder.activation


def _saturated(activation: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
    if activation is None:
        return None
    try:
        bounds = saturation_bounds(as_activation(activation))
    except ConfigError:
        # Not elementwise, such as a softmax: saturation has no meaning there.
        return None
    return bounds.share if bounds.lower is not None or bounds.upper is not None else None


@dataclass(frozen=True)
class _Stack:
    """Linear layers in a row with one activation between them."""

    linears: tuple[nn.Linear, ...]
    activation: nn.Module
    rate: float


def stack_of(module: nn.Module) -> _Stack | None:
    """The layers, if the module is a chain of linear maps and one activation, which is what theory knows.

    All layers must lie in one ``nn.Sequential``: what another ``forward`` does between them can't be seen.
    """
    chains = [m for m in module.modules() if isinstance(m, nn.Sequential)]
    if not chains:
        return None
    parts = list(_leaves(chains[0]))
    linears = tuple(part for part in parts if isinstance(part, nn.Linear))
    everywhere = [m for m in module.modules() if any(True for _ in m.parameters(recurse=False))]
    others = [part for part in parts if not isinstance(part, (nn.Linear, *_KEEPING))]
    between = [type(part) for part in parts if not isinstance(part, _KEEPING)]
    alternating = all((kind is nn.Linear) == (i % 2 == 0) for i, kind in enumerate(between))
    rates = {part.p for part in parts if isinstance(part, nn.Dropout)}
    if (
        not alternating
        or len(linears) != len(everywhere)
        or len(linears) < 3
        or len({repr(part) for part in others}) != 1
        or len(rates) > 1
    ):
        return None
    return _Stack(linears, others[0], rates.pop() if rates else 0.0)


def _leaves(chain: nn.Sequential) -> Iterator[nn.Module]:
    for part in chain:
        if isinstance(part, nn.Sequential):
            yield from _leaves(part)
        else:
            yield part


def _predicted(module: nn.Module, given: Given, seen: nn.Module | None) -> Predicted | None:
    """What theory says of a chain of layers with weights of these sizes."""
    stack = stack_of(module)
    if stack is None or seen is None or given.inputs is None:
        return None
    try:
        activation = theory_of(as_activation(stack.activation))
    except ConfigError:
        return None
    layers = tuple(Layer(_sigma_w(linear), _sigma_b(linear)) for linear in stack.linears)
    network = Network(activation, layers, dropout=Dropout(stack.rate))
    signal = propagate(network, float(given.inputs.double().square().mean()))
    middle = layers[len(layers) // 2]
    field = MeanField(activation, middle.sigma_w, middle.sigma_b, 1 - stack.rate)
    hidden = signal.log10_gradient[:-1]
    return Predicted(
        signal.slope,
        10.0 ** float(hidden[0] - hidden[-1]),
        tuple(signal.log10_gradient.tolist()),
        tuple(signal.activation_second_moment.tolist()),
        tuple(signal.activation_correlation.tolist()),
        field.phase.value,
        field.chi_1,
        field.trainable_depth,
    )


def _sigma_w(linear: nn.Linear) -> float:
    return math.sqrt(linear.in_features * float(linear.weight.detach().double().square().mean()))


def _sigma_b(linear: nn.Linear) -> float:
    return (
        0.0 if linear.bias is None else float(linear.bias.detach().double().square().mean().sqrt())
    )


def _proposals(
    module: nn.Module, given: Given, name: str, seen: nn.Module | None
) -> Iterator[Proposal]:
    """Other initial weights for all layers but the last, each tried on a copy."""
    kinds = [kind for kind in _MAPS if any(isinstance(m, kind) for m in module.modules())]
    if sum(isinstance(m, _MAPS) for m in module.modules()) < 2:
        return
    layers = _layers_in_words(kinds)
    for words, lines, change in (*_critical(seen, layers), _lsuv(layers, given)):
        changed = copy.deepcopy(module)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            change(changed)
        measured, activation = _measured(changed, given, name)
        predicted = _predicted(changed, given, activation)
        expected = None if predicted is None else predicted.expected(name)
        yield Proposal(
            words,
            lines,
            None if predicted is None else predicted.slope,
            measured,
            measured.verdict(expected),
        )


_Change = tuple[str, tuple[str, ...], Callable[[nn.Module], None]]


def _layers_in_words(kinds: Sequence[type[nn.Module]]) -> str:
    names = [f"nn.{kind.__name__}" for kind in kinds]
    which = names[0] if len(names) == 1 else f"({', '.join(names)})"
    return f"*hidden, _ = [m for m in model.modules() if isinstance(m, {which})]"


def _critical(seen: nn.Module | None, layers: str) -> Iterator[_Change]:
    """Weights and biases at the critical point of the activation that was seen."""
    if seen is None:
        return
    try:
        activation = theory_of(as_activation(seen))
    except ConfigError:
        return
    point = critical_point(activation)
    sigma_w, sigma_b = float(f"{point.sigma_w:.4g}"), float(f"{point.sigma_b:.4g}")
    bias = (
        f"nn.init.normal_(layer.bias, std={sigma_b:g})" if sigma_b else "nn.init.zeros_(layer.bias)"
    )
    scale = "layer.weight[0].numel() ** -0.5"
    for words, line, fill in (
        (
            f"critical weights and biases of {activation.name}",
            f"nn.init.normal_(layer.weight, std={sigma_w:g} * {scale})",
            lambda w: nn.init.normal_(w, std=sigma_w * w[0].numel() ** -0.5),
        ),
        (
            "the same with orthogonal weights",
            f"nn.init.orthogonal_(layer.weight, gain={sigma_w:g})",
            lambda w: nn.init.orthogonal_(w, gain=sigma_w),
        ),
    ):

        def change(module: nn.Module, fill: Callable[[Tensor], Tensor] = fill) -> None:
            for layer in hidden_maps(module):
                fill(layer.weight)
                if layer.bias is not None and sigma_b:
                    nn.init.normal_(layer.bias, std=sigma_b)
                elif layer.bias is not None:
                    nn.init.zeros_(layer.bias)

        lines = (layers, "for layer in hidden:", f"    {line}", f"    {bias}")
        yield words, lines, change


def _lsuv(layers: str, given: Given) -> _Change:
    """Each layer's weights rescaled until its outputs have variance one on the batch (arXiv 1511.06422)."""

    def change(module: nn.Module) -> None:
        module.train()
        for layer in hidden_maps(module):
            for _ in range(_ROUNDS):
                seen: list[float] = []
                hook = layer.register_forward_hook(partial(_keep_spread, seen))
                given.loss(module)
                hook.remove()
                if not seen or not 0 < seen[0] < math.inf or abs(seen[0] - 1) < _CLOSE:
                    break
                layer.weight.data /= seen[0]

    lines = (
        layers,
        "for layer in hidden:  # in the order of the forward pass",
        "    std = []",
        "    hook = layer.register_forward_hook(lambda m, i, z: std.append(z.std()))",
        "    model(x)",
        "    hook.remove()",
        "    layer.weight.data /= std[0]",
    )
    return "weights scaled to outputs of variance 1 on a batch (LSUV)", lines, change


def _keep_spread(seen: list[float], _module: nn.Module, _inputs: object, output: Tensor) -> None:
    seen.append(float(output.detach().std()))


def hidden_maps(module: nn.Module) -> list[nn.Linear]:
    """The linear and convolutional layers but for the last."""
    *hidden, _ = [m for m in module.modules() if isinstance(m, _MAPS)]
    return hidden  # type: ignore[return-value]
