"""Gradient flow of any LightningModule of plain torch.nn layers, as an ordinary callback.

Shapes: S measurements, Q quantities, L layers.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unitgain.errors import ConfigError
from unitgain.nn.activations import as_activation, saturation_bounds
from unitgain.probe import QUANTITIES, Recorder, Verdict, judge, measure
from unitgain.runs import GradientsWriter


@final
class GradientFlow(pl.Callback):
    """Records how gradients flow through a module's ``torch.nn.Linear`` layers, and judges it.

    Works with automatic optimization, gradient accumulation, clipping (norms are those before it) and automatic mixed
    precision (norms are unscaled). Hooks live during measured steps only. The loss is taken to be a batch's mean.

    Args:
        every: optimizer steps between two measurements.
        directory: where gradients.parquet goes; None: the trainer's ``default_root_dir``.
        quantities: names from ``unitgain.probe.QUANTITIES``; all by default.

    Attributes:
        verdict: the judgement of the first measurement, None before it.

    Raises:
        ConfigError: an unknown quantity, or ``every`` below one.

    Example:
        >>> callback = GradientFlow(every=50)
        >>> callback.verdict is None
        True
    """

    def __init__(
        self,
        every: int = 10,
        directory: str | Path | None = None,
        quantities: Sequence[str] = tuple(QUANTITIES),
    ) -> None:
        unknown = [name for name in quantities if name not in QUANTITIES]
        if unknown:
            raise ConfigError(
                f"quantities: must be of {', '.join(QUANTITIES)}, got {', '.join(unknown)}"
            )
        if every < 1:
            raise ConfigError(f"every: must be at least 1 step, got {every}")
        self.every, self.directory = every, directory
        self.verdict: Verdict | None = None
        self._quantities = {name: QUANTITIES[name] for name in quantities}
        self._recorder: Recorder | None = None
        self._measuring = False
        self._layers: int | None = None
        self._pending: list[tuple[int, Tensor]] = []
        self._writer: GradientsWriter | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the layers and open the file."""
        self._recorder = Recorder(pl_module)
        self.verdict, self._layers = None, None
        self._pending.clear()
        if not any(isinstance(m, nn.Linear) for m in pl_module.modules()):
            warnings.warn(
                f"GradientFlow watches torch.nn.Linear layers, but {type(pl_module).__name__} has none: "
                "nothing will be recorded",
                stacklevel=2,
            )
        directory = Path(self.directory if self.directory is not None else trainer.default_root_dir)
        if trainer.is_global_zero:
            directory.mkdir(parents=True, exist_ok=True)
            self._writer = GradientsWriter(directory / "gradients.parquet")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Register the hooks, if this step is measured."""
        if self._recorder is not None and trainer.global_step % self.every == 0:
            self._recorder.__enter__()
            self._measuring = True

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Keep the parameters' gradients as they are before clipping."""
        if self._measuring and self._recorder is not None:
            self._recorder.keep_parameter_gradients()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Measure, after the optimizer's step."""
        recorder = self._recorder
        if not self._measuring or recorder is None:
            return
        recorder.__exit__(None, None, None)
        self._measuring = False
        if not (recorder.layers and recorder.stepped):
            return
        tensors = recorder.tensors(_loss_scale(trainer), _saturated(recorder.activation))
        self._layers = self._layers or recorder.layers
        if recorder.layers != self._layers:
            warnings.warn(
                f"GradientFlow needs one number of linear layers in every step, but step {trainer.global_step - 1} "
                f"called {recorder.layers} and the first measured one {self._layers}: this step is left out",
                stacklevel=2,
            )
            return
        self._pending.append((trainer.global_step - 1, measure(tensors, self._quantities)))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy what was measured to the host, judge the first of it, and hand it to the loggers."""
        if not self._pending:
            return
        steps = [step for step, _ in self._pending]
        value_SQL = torch.stack([value[:, 0] for _, value in self._pending]).double().cpu().numpy()
        self._pending.clear()
        values = {name: value_SQL[:, q] for q, name in enumerate(self._quantities)}
        if self.verdict is None and "grad_preactivation" in values:
            self.verdict = judge(values["grad_preactivation"][0, :-1], steps[0])
        if self._writer is None:
            return
        self._writer.append(steps, values)
        self._writer.flush()
        for logger in trainer.loggers:
            for i, step in enumerate(steps):
                row = {
                    f"gradient_flow/{name}/layer_{layer:02d}": float(x)
                    for name, value_SL in values.items()
                    for layer, x in enumerate(value_SL[i], start=1)
                }
                logger.log_metrics(row, step)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave no hook behind."""
        if self._measuring and self._recorder is not None:
            self._recorder.__exit__(None, None, None)
            self._measuring = False


def _loss_scale(trainer: pl.Trainer) -> float:
    """What the loss was multiplied by before the backward pass."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    scale = 1.0 if scaler is None else float(scaler.get_scale())
    return scale / trainer.accumulate_grad_batches


def _saturated(activation: nn.Module | None) -> Any:
    if activation is None:
        return None
    try:
        return saturation_bounds(as_activation(activation)).share
    except ConfigError:
        # Not elementwise, such as a softmax: saturation has no meaning there.
        return None
