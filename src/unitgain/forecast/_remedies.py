"""Changes of a configuration that theory says let the gradient through."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, final

from unitgain.errors import ConfigError
from unitgain.forecast._forecast import Question, forecast_of
from unitgain.forecast._layers import described
from unitgain.spec import RunSpec, parse
from unitgain.theory.bands import HEALTHY_DECADES
from unitgain.theory.criticality import critical_sigma_w

Changes = dict[str, Any]

_DIGITS = 4
_BRIEF = 2
_BRANCH_SCALES = (1.0, 0.5, 0.2, 0.1)
_NO_NORM = "torch.nn.Identity"
_NORMS = {
    "layer": "unitgain.nn.LayerNorm",
    "rms": "unitgain.nn.RMSNorm",
    "batch": "unitgain.nn.BatchNorm",
}


@final
@dataclass(frozen=True)
class Remedy:
    """One change that is forecast to be healthy.

    Attributes:
        overrides: as typed behind ``unitgain train``.
        slope: decades a layer of the gradient's norm with it, towards the input.
        decades: by which the norm changes between the first hidden layer and the last.
        text: what the change is.
        spec: the run with it.
    """

    overrides: tuple[str, ...]
    slope: float
    decades: float
    text: str
    spec: RunSpec = field(repr=False)

    def as_dict(self) -> Changes:
        """Plain types, for JSON."""
        return {
            "overrides": list(self.overrides),
            "slope": self.slope,
            "decades": self.decades,
            "text": self.text,
        }


@dataclass(frozen=True)
class _Candidate:
    """What to try: overrides, the same as keys of the resolved configuration, and words."""

    overrides: tuple[str, ...]
    changes: Changes
    text: str


def remedies(
    spec: RunSpec, *, inputs: int | None = None, outputs: int | None = None, q_0: float = 1.0
) -> list[Remedy]:
    """Changes that are forecast to be healthy, those first that change least: numbers of the initializer, then a norm,
    then residual branches, then fewer layers.

    Args:
        spec: of the run.
        inputs: as for `forecast_of`.
        outputs: likewise.
        q_0: likewise.

    Example:
        >>> tanh = {"_target_": "torch.nn.Tanh"}
        >>> model = {"_target_": "unitgain.nn.MLP", "depth": 50}
        >>> spec = parse({"activation": tanh, "model": model, "init": {"_target_": "unitgain.nn.init.torch_default"}})
        >>> remedies(spec)[0].overrides
        ('init=mean_field', 'init.sigma_w=1.156', 'init.sigma_b=0.07217')
    """
    resolved = spec.resolved()
    found: list[Remedy] = []
    for candidate in _candidates(spec):
        if any(text.startswith("model.branch_scale") for text in candidate.overrides) and any(
            "model.residual=true" in remedy.overrides for remedy in found
        ):
            continue
        if remedy := _tried(resolved, candidate, inputs, outputs, q_0):
            found.append(remedy)
    return found


def brief_remedies(
    spec: RunSpec, *, inputs: int | None = None, outputs: int | None = None, q_0: float = 1.0
) -> tuple[str, ...]:
    """The two shortest `remedies` of different groups, as typed: computed once for all runs that they are the same for.

    Args:
        spec: of the run.
        inputs: as for `forecast_of`.
        outputs: likewise.
        q_0: likewise.

    Example:
        >>> sigmoid = {"_target_": "torch.nn.Sigmoid"}
        >>> brief_remedies(parse({"activation": sigmoid, "model": {"_target_": "unitgain.nn.MLP", "depth": 20}}))
        ('init=critical', 'norm=batch')
    """
    return _brief(Question.of(spec, inputs, outputs, q_0))


@lru_cache(maxsize=1024)
def _brief(asked: Question) -> tuple[str, ...]:
    resolved = asked.spec.resolved()
    found: dict[str, str] = {}
    for candidate in sorted(_candidates(asked.spec), key=_length):
        group = candidate.overrides[0].partition("=")[0].partition(".")[0]
        if group in found:
            continue
        if _tried(resolved, candidate, asked.inputs, asked.outputs, asked.q_0):
            found[group] = " ".join(candidate.overrides)
        if len(found) == _BRIEF:
            break
    return tuple(found.values())


def _length(candidate: _Candidate) -> tuple[bool, int]:
    """What is typed; fewer layers, which are another network, come last."""
    return candidate.overrides[0].startswith("model.depth"), len(candidate.overrides)


def _tried(
    resolved: Changes,
    candidate: _Candidate,
    inputs: int | None,
    outputs: int | None,
    q_0: float,
) -> Remedy | None:
    """The candidate, if it is forecast to be healthy."""
    try:
        changed = parse(_changed(resolved, candidate.changes))
        forecast = forecast_of(changed, inputs=inputs, outputs=outputs, q_0=q_0)
    except ConfigError:
        # A key that the user set may exclude this one, or the network's widths its residual branches.
        return None
    if forecast.label != "healthy":
        return None
    slope, decades = forecast.slope, forecast.decades
    return Remedy(candidate.overrides, slope, decades, candidate.text, changed)


def _changed(resolved: Changes, changes: Changes) -> Changes:
    result = dict(resolved)
    for key, value in changes.items():
        outer, _, inner = key.partition(".")
        result[outer] = {**result[outer], inner: value} if inner else value
    return result


def _candidates(spec: RunSpec) -> Iterator[_Candidate]:
    normed = spec.norm.target != _NO_NORM
    yield from _of_numbers(spec)
    yield from _of_init(spec)
    if spec.dropout.arguments().get("p"):
        yield _Candidate(("dropout.p=0",), {"dropout.p": 0.0}, "no dropout")
    if normed:
        overrides = ("norm=none", "init=critical")
        changes = {"norm": {"_target_": _NO_NORM}, "init": _init("critical")}
        yield _Candidate(overrides, changes, "critical, no norm")
    yield from _of_norm(spec)
    yield from _of_residual(spec)
    yield from _of_depth(spec)


def _of_numbers(spec: RunSpec) -> Iterator[_Candidate]:
    """The critical sigma_w with the biases of the hidden layers as they are."""
    if spec.norm.target != _NO_NORM or spec.model.residual or spec.bias_init is not None:
        return
    network = described(spec, None, None).network
    sigma_b = network.layers[len(network.layers) // 2].sigma_b
    try:
        point = critical_sigma_w(network.activation, sigma_b, 1 - network.dropout.p)
    except ConfigError:
        return
    sigma_w = _rounded(point.sigma_w)
    text = f"critical at sigma_b = {_rounded(sigma_b):g}"
    if spec.init.target == "unitgain.nn.init.mean_field":
        yield _Candidate((f"init.sigma_w={sigma_w:g}",), {"init.sigma_w": sigma_w}, text)
        return
    overrides = (
        "init=mean_field",
        f"init.sigma_w={sigma_w:g}",
        *([f"init.sigma_b={_rounded(sigma_b):g}"] if sigma_b else []),
    )
    node = _init("mean_field", sigma_w=sigma_w, sigma_b=_rounded(sigma_b))
    yield _Candidate(overrides, {"init": node}, text)


def _of_init(spec: RunSpec) -> Iterator[_Candidate]:
    if spec.init.target != "unitgain.nn.init.critical":
        text = "critical initialization"
        yield _Candidate(("init=critical",), {"init": _init("critical")}, text)
        orthogonal = _init("critical", distribution="orthogonal")
        overrides = ("init=critical", "init.distribution=orthogonal")
        yield _Candidate(overrides, {"init": orthogonal}, "with orthogonal weights")


def _of_norm(spec: RunSpec) -> Iterator[_Candidate]:
    for name, target in _NORMS.items():
        if spec.norm.target != target:
            yield _Candidate((f"norm={name}",), {"norm": {"_target_": target}}, f"{name} norm")


def _of_residual(spec: RunSpec) -> Iterator[_Candidate]:
    skips = () if spec.model.residual else ("model.residual=true",)
    if not isinstance(spec.model.width, int):
        return
    for scale in _BRANCH_SCALES:
        if scale >= spec.model.branch_scale and not skips:
            continue
        scaled = () if scale == 1 else (f"model.branch_scale={scale:g}",)
        changes = {"model.residual": True, "model.branch_scale": scale}
        text = "residual branches" if scale == 1 else f"residual, scaled by {scale:g}"
        yield _Candidate((*skips, *scaled), changes, text)
    if spec.norm.target == _NO_NORM and spec.init.target != _SCALED["_target_"]:
        overrides = (*skips, "init=scaled_residual")
        both = {"model.residual": True, "init": _SCALED}
        yield _Candidate(overrides, both, "residual, scaled weights")


def _of_depth(spec: RunSpec) -> Iterator[_Candidate]:
    """The most layers whose gradient keeps within the healthy band."""
    slope = abs(forecast_of(spec).slope)
    if not (isinstance(spec.model.width, int) and 0 < slope < HEALTHY_DECADES):
        return
    depth = math.ceil(HEALTHY_DECADES / slope)
    if 2 <= depth < spec.model.depth:
        yield _Candidate((f"model.depth={depth}",), {"model.depth": depth}, "fewer layers")


def _init(name: str, **arguments: Any) -> Changes:
    return {"_target_": f"unitgain.nn.init.{name}", **arguments}


_SCALED = _init("scaled_residual")


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
