"""One training run's gradient flow: what is due at a step, what was measured, its file and its verdict.

`watch` and the Lightning callback call the same methods in the same order. Shapes: S measured steps, Q quantities, W
weights, L layers.
"""

import json
import math
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unitgain.errors import ConfigError
from unitgain.nn.activations import as_activation, saturation_bounds
from unitgain.probe.groups import layer_groups
from unitgain.probe.history import History
from unitgain.probe.light import WeightNorms, norms_of
from unitgain.probe.processes import is_first, over_processes, several_processes
from unitgain.probe.quantities import QUANTITIES, LayerTensors, measure
from unitgain.probe.record import Course
from unitgain.probe.recorder import Recorder
from unitgain.probe.schedule import due
from unitgain.probe.verdict import Verdict, judge
from unitgain.runs import Batch, GradientsWriter

ROWS = 1000
"""Measured steps that may lie on the device before they are copied to the host."""

_SHARE = 0.003
"""The share of its thread's own time that writing the file again and again may take."""

Names = tuple[str, ...]
Values = Mapping[str, NDArray[np.float64]]

USUAL: Names = tuple(name for name in QUANTITIES if not name.startswith("gradient_"))
"""What the verdict needs and what costs little beside it; comparing the gradients of examples costs more."""


@final
@dataclass(frozen=True)
class Plan:
    """What is measured, and when.

    Args:
        probe: "light", the norms of the weights' gradients, or "full", all ``quantities``.
        every: optimizer steps between two measurements; None for none.
        per_decade: measurements in each power of ten of steps, as in `due`.
        at: further steps to measure.
        quantities: names from ``QUANTITIES``, for "full".

    Raises:
        ConfigError: values that make no sense.
    """

    probe: Literal["light", "full"] = "full"
    every: int | None = 10
    per_decade: int | None = None
    at: Collection[int] = ()
    quantities: Sequence[str] = USUAL

    def __post_init__(self) -> None:
        if self.probe not in ("light", "full"):
            raise ConfigError(f"probe: must be light or full, got {self.probe}")
        for name, value in (("every", self.every), ("per_decade", self.per_decade)):
            if value is not None and value < 1:
                raise ConfigError(f"{name}: must be at least 1 step, got {value}")
        if not (self.every or self.per_decade or self.at):
            raise ConfigError("every: nothing would be measured; give every, per_decade or at")
        unknown = [name for name in self.quantities if name not in QUANTITIES]
        if unknown:
            raise ConfigError(
                f"quantities: must be of {', '.join(QUANTITIES)}, got {', '.join(unknown)}"
            )

    def due(self, step: int) -> bool:
        """Whether a step is measured."""
        return due(step, every=self.every, per_decade=self.per_decade, at=self.at)


@dataclass
class _Pending:
    """Rows that are still on the device: their steps, layers and values."""

    steps: list[int] = field(default_factory=list)
    names: list[Names] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


@final
class Flow:
    """Measures the optimizer steps of a module, keeps the rows and judges them.

    Args:
        module: any module.
        plan: what, and when.
        directory: where gradients.parquet and layers.json go; None for no files.
        follow: is given the steps and values (S, L) of each flush, in the process that writes files.

    Attributes:
        layer_names: the layers, in the order of their numbers in gradients.parquet, from 1.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: Plan,
        directory: Path | None = None,
        follow: Callable[[Sequence[int], Values], None] | None = None,
    ) -> None:
        self.plan, self.directory, self._follow = plan, directory, follow
        self._course, self._judged_layers = Course(), 0
        self._verdict: Verdict | None = None
        self.layer_names: Names = ()
        self._distributed = several_processes()
        self._names = self._quantities()
        self._functions = {name: QUANTITIES[name] for name in self._names}
        self._norms: WeightNorms | None = None
        self._recorder: Recorder | None = None
        groups = layer_groups(module)
        if not groups:
            warnings.warn(
                f"gradient flow is watched in layers with weights, but {type(module).__name__} has none: "
                "nothing will be recorded",
                stacklevel=3,
            )
        elif plan.probe == "full":
            self._recorder = Recorder(module, self._names)
        # Every process has the same gradients of weights.
        elif is_first():
            self._norms = WeightNorms(groups)
            self.layer_names = tuple(group.name for group in groups)
        self._parameters = list(module.parameters())
        self._history: History | None = None
        self._history_of: Names = ()
        self._measuring, self._kept, self._scaled = False, False, False
        self._scale: float | Tensor = 1.0
        self._shares: dict[nn.Module, Callable[[Tensor], Tensor] | None] = {}
        self._flowing: dict[Names, tuple[bool, ...]] = {}
        self._pending = _Pending()
        self._writer: GradientsWriter | None = None
        self._unwritten, self._written_at, self._wrote_s = False, -math.inf, 0.0
        if directory is not None and is_first():
            directory.mkdir(parents=True, exist_ok=True)
            self._writer = GradientsWriter(directory / "gradients.parquet")

    @property
    def verdict(self) -> Verdict | None:
        """The judgement of what was recorded up to the last flush, None before there is any of it."""
        if self._verdict is None and self._course.steps:
            self._verdict = judge(self._course.record())
        return self._verdict

    def _quantities(self) -> list[str]:
        if self.plan.probe == "light":
            return ["grad_weight"]
        names = list(self.plan.quantities)
        if self._distributed and "activation_variance" in names and "activation_mean" not in names:
            names.append("activation_mean")
        return names

    def begin(self, step: int) -> None:
        """Forward and backward passes follow that belong to this step; the first ones, or further ones."""
        recorder = self._recorder
        if recorder is None or not self.plan.due(step):
            return
        if self._measuring:
            recorder.resume()
        else:
            recorder.__enter__()
            self._measuring = True

    def pause(self) -> None:
        """The passes are over for now: no hook stays."""
        if self._recorder is not None:
            self._recorder.__exit__()

    def before_step(
        self, step: int, of: Sequence[Tensor] | None = None, scale: float | Tensor | None = None
    ) -> None:
        """An optimizer is about to take its step.

        Args:
            step: which one.
            of: its parameters, if it isn't the only optimizer.
            scale: a gradient scaler's factor, None without one. The parameters' gradients are free of it.
        """
        self._scale = 1.0 if scale is None else scale
        self._scaled = self._scaled or scale is not None
        if self._kept:
            # They were kept before they were clipped.
            self._kept = False
            return
        if self._norms is not None and self.plan.due(step):
            self._add(step, self.layer_names, self._norms.take(of))
        if self._measuring and self._recorder is not None:
            self._recorder.keep_parameter_gradients(of)

    def clip_grad_norm_(
        self, step: int, max_norm: float, of: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Clip the gradients by their norm; what is recorded of them is what they were before.

        Args:
            step: which one.
            max_norm: the greatest norm that is left as it is.
            of: the parameters of the optimizer that is about to take its step, if it isn't the only one.

        Returns:
            the norm of all of them, as of ``torch.nn.utils.clip_grad_norm_``.
        """
        parameters = self._parameters if of is None else of
        clipped = [p for p in parameters if p.grad is not None]
        if not clipped:
            return torch.zeros(())
        norm_P = norms_of([p.grad for p in clipped if p.grad is not None])
        if self._norms is not None and self.plan.due(step):
            self._add(step, self.layer_names, self._norms.pick(clipped, norm_P))
        if self._measuring and self._recorder is not None:
            self._recorder.keep_parameter_gradients(of)
        self._kept = True
        norm: Tensor = torch.linalg.vector_norm(norm_P)
        nn.utils.clip_grads_with_norm_(clipped, max_norm, norm.to(norm_P.dtype))
        return norm

    def after_step(self, step: int) -> None:
        """The optimizer, or the last of several, has taken its step."""
        self._kept = False
        recorder = self._recorder
        if recorder is None or not self._measuring:
            return
        recorder.__exit__()
        self._measuring = False
        if recorder.stepped:
            tensors = recorder.tensors(self._scale, self._saturated(recorder.activation))
            if names := recorder.names:
                if self._scaled:
                    self._flowing[names] = recorder.flowing
                self._add(step, names, self._measured(tensors, names))
        recorder.restart()

    def skip_step(self) -> None:
        """Whatever was recorded of this step is dropped."""
        self._kept = self._measuring = False
        if self._recorder is not None:
            self._recorder.__exit__()
            self._recorder.restart()

    def _saturated(self, activation: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        if activation is None:
            return None
        if activation not in self._shares:
            try:
                self._shares[activation] = saturation_bounds(as_activation(activation)).share
            except ConfigError:
                # Not elementwise, such as a softmax: saturation has no meaning there.
                self._shares[activation] = None
        return self._shares[activation]

    def _measured(self, tensors: LayerTensors, names: Names) -> Tensor:
        if self._history is None:
            self._history_of = names
            self._history = History.of(self._names, tensors.activations, tensors.weight_gradients)
        # Another set of layers has nothing to compare itself with.
        if names == self._history_of:
            tensors = replace(tensors, history=self._history)
        # Gradients that overflowed give rows that aren't numbers, which is what they are.
        with np.errstate(all="ignore"):
            value_QL = measure(tensors, self._functions)[:, 0]
        tensors.remember()
        return value_QL

    def _add(self, step: int, names: Names, values: Tensor) -> None:
        pending = self._pending
        pending.steps.append(step)
        pending.names.append(names)
        pending.values.append(values)
        if len(pending.steps) >= ROWS:
            self.flush()

    def flush(self, *, last: bool = False) -> None:
        """Copy what was measured to the host and write it. The processes of a distributed run call it together.

        Args:
            last: nothing follows, so that the file must be complete.
        """
        pending, self._pending = self._pending, _Pending()
        steps, values = self._rows(pending) if pending.steps else ([], {})
        if steps:
            # Layers that were called later have no beginning to be judged by.
            self._judged_layers = self._judged_layers or len(self.layer_names)
            self._course.append(steps, {n: x[:, : self._judged_layers] for n, x in values.items()})
            self._verdict = None
            if self._writer is not None:
                self._writer.append(steps, values)
                self._unwritten = True
            if self._follow is not None and is_first():
                self._follow(steps, values)
        self._write(last)

    def _rows(self, pending: _Pending) -> tuple[list[int], dict[str, NDArray[np.float64]]]:
        """The pending rows in the order of the layers' numbers; NaN for a layer that a step did not call."""
        number = {name: i for i, name in enumerate(self.layer_names)}
        for names in pending.names:
            for name in names:
                number.setdefault(name, len(number))
        self.layer_names = tuple(number)
        light = self.plan.probe == "light"
        steps, value_SQL = (self._light_rows if light else self._full_rows)(pending)
        keep = self._taken(pending.names, value_SQL) if self._scaled else np.full(len(steps), True)
        chosen = ("grad_weight",) if light else self.plan.quantities
        values = {n: value_SQL[keep, q] for q, n in enumerate(self._names) if n in chosen}
        return [step for step, kept in zip(steps, keep.tolist(), strict=True) if kept], values

    def _taken(self, names: list[Names], value_SQL: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which steps' gradients are finite: a gradient scaler lets no other step happen."""
        number = {name: i for i, name in enumerate(self.layer_names)}
        norms = [q for q, name in enumerate(self._names) if name.startswith("grad_")]
        taken = np.array([not np.isinf(value_QL[norms]).any() for value_QL in value_SQL])
        if "grad_preactivation" in self._names and self._flowing:
            q = self._names.index("grad_preactivation")
            for s, of_step in enumerate(names):
                flowing = zip(of_step, self._flowing[of_step], strict=True)
                layers = [number[name] for name, flows in flowing if flows]
                taken[s] &= np.isfinite(value_SQL[s, q, layers]).all()
        return taken

    def _full_rows(self, pending: _Pending) -> tuple[list[int], NDArray[np.float64]]:
        if all(names == self.layer_names for names in pending.names):
            value_SQL = torch.stack(pending.values)
        else:
            number = {name: i for i, name in enumerate(self.layer_names)}
            shape = (len(pending.steps), len(self._names), len(number))
            value_SQL = pending.values[0].new_full(shape, torch.nan)
            for row_QL, names, value_QL in zip(
                value_SQL, pending.names, pending.values, strict=True
            ):
                row_QL[:, [number[name] for name in names]] = value_QL
        if self._distributed:
            value_SQL = over_processes(value_SQL, self._names)
        return pending.steps, value_SQL.double().cpu().numpy()

    def _light_rows(self, pending: _Pending) -> tuple[list[int], NDArray[np.float64]]:
        assert self._norms is not None
        kinds = {v.dtype for v in pending.values}
        rows = pending.values if len(kinds) == 1 else [v.double() for v in pending.values]
        value_SL = self._norms.by_layer(torch.stack(rows).double().cpu().numpy())
        steps = sorted(set(pending.steps))
        if len(steps) < len(pending.steps):
            # Several optimizers gave parts of one row.
            merged = np.full((len(steps), value_SL.shape[1]), np.nan)
            for step, row in zip(pending.steps, value_SL, strict=True):
                s = steps.index(step)
                merged[s] = np.where(np.isnan(row), merged[s], row)
            value_SL = merged
        return steps, value_SL[:, None]

    def _write(self, last: bool) -> None:
        """The file is written whole each time, so not at every flush, and only in the end it is waited for."""
        if self._writer is None or self.directory is None or not self._unwritten:
            return
        now = time.thread_time()
        if last or _SHARE * (now - self._written_at) >= self._wrote_s:
            start = time.monotonic()
            with Batch(durable=last) as batch:
                self._writer.flush(batch)
                batch.add(
                    self.directory / "layers.json", f"{json.dumps(self.layer_names)}\n".encode()
                )
            self._written_at, self._wrote_s = time.thread_time(), time.monotonic() - start
            self._unwritten = False

    def close(self, *, failed: bool = False) -> None:
        """Leave no hook behind, and nothing unwritten.

        Args:
            failed: an error ended the run, so that other processes may not be there to add to what is pending.
        """
        self.skip_step()
        if failed and self._distributed:
            self._pending = _Pending()
        self.flush(last=True)
