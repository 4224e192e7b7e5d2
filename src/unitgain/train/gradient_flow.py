"""Gradient flow of any LightningModule, as an ordinary callback.

Shapes: S measurements, L layers.
"""

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

import lightning.pytorch as pl
from lightning.pytorch.loggers import Logger
from torch.optim import Optimizer

from unitgain.errors import ConfigError
from unitgain.probe import Verdict
from unitgain.probe.flow import USUAL, Flow, Plan, Values
from unitgain.probe.loop import scale_of


@final
class GradientFlow(pl.Callback):
    """Records how gradients flow through a module's layers, and judges it.

    Works with gradient accumulation (what is recorded is that of the whole accumulated step), clipping (norms are those
    before it), automatic mixed precision (norms are unscaled), torch.compile (measured steps run uncompiled, since
    hooks aren't called in a compiled graph), several processes (rows are those of the whole batch) and manual
    optimization, where a step is over with the batch in which each optimizer has taken one. Hooks live during measured
    steps only.
    The loss is taken to be a batch's mean.

    Args:
        every: optimizer steps between two measurements; None for none.
        directory: where gradients.parquet and layers.json go; None: the trainer's ``default_root_dir``.
        quantities: names from ``unitgain.probe.QUANTITIES``; by default those that the verdict needs and cheap ones.
        probe: "full" for the quantities, "light" for the norms of the weights' gradients alone, which need no hook.
        per_decade: measurements in each power of ten of steps.
        at: further steps to measure.
        clip_norm: clip the gradients by this norm, in place of the trainer's ``gradient_clip_val``: what is recorded
            and what clips are then computed once.
        log: hand what is measured to the trainer's loggers too, as ``gradient_flow/QUANTITY/layer_01``, ...

    Attributes:
        verdict: the judgement, None before the first measurement was looked at.
        layer_names: the layers, in the order of their numbers in gradients.parquet, from 1.

    Raises:
        ConfigError: arguments that make no sense.

    Example:
        >>> callback = GradientFlow(every=50)
        >>> callback.verdict is None
        True
    """

    def __init__(
        self,
        every: int | None = 10,
        directory: str | Path | None = None,
        quantities: Sequence[str] = USUAL,
        *,
        probe: Literal["light", "full"] = "full",
        per_decade: int | None = None,
        at: Collection[int] = (),
        clip_norm: float | None = None,
        log: bool = False,
    ) -> None:
        if clip_norm is not None and not clip_norm > 0:
            raise ConfigError(f"clip_norm: must be above 0, got {clip_norm}; None for no clipping")
        self.plan = Plan(probe, every, per_decade, at, quantities)
        # Lightning puts a method called log on its callbacks.
        self.directory, self.clip_norm, self.logs = directory, clip_norm, log
        self._flow: Flow | None = None
        self._step = 0
        self._stepped: set[Optimizer] = set()

    @property
    def verdict(self) -> Verdict | None:
        """The judgement."""
        return None if self._flow is None else self._flow.verdict

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The layers' names."""
        return () if self._flow is None else self._flow.layer_names

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the layers and open the file."""
        if self.clip_norm is not None and trainer.gradient_clip_val:
            raise ConfigError(
                f"clip_norm: must be the only clipping, but the trainer's gradient_clip_val is "
                f"{trainer.gradient_clip_val}; set that to None"
            )
        directory = Path(self.directory if self.directory is not None else trainer.default_root_dir)
        loggers = partial(_log, trainer.loggers) if self.logs else None
        self._flow = Flow(pl_module, self.plan, directory, loggers)
        self._step = trainer.global_step // max(len(trainer.optimizers), 1)
        self._stepped = set()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Register the hooks, if this step is measured."""
        if self._flow is not None:
            self._flow.begin(self._step)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Keep the parameters' gradients as they are before clipping."""
        if self._flow is None:
            return
        self._stepped.add(optimizer)
        alone = len(trainer.optimizers) == 1
        of = None if alone else [p for group in optimizer.param_groups for p in group["params"]]
        scale = scale_of(getattr(trainer.precision_plugin, "scaler", None))
        if self.clip_norm is not None:
            self._flow.clip_grad_norm_(self._step, self.clip_norm, of)
        self._flow.before_step(self._step, of, scale)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Measure, after the optimizer's step."""
        if self._flow is None:
            return
        self._flow.pause()
        if len(self._stepped) == len(trainer.optimizers):
            self._stepped.clear()
            self._flow.after_step(self._step)
            self._step += 1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy what was measured to the host, and hand it to the loggers if they get it."""
        if self._flow is not None:
            self._flow.flush()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what is left."""
        if self._flow is not None:
            self._flow.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave no hook behind, and write what there is."""
        if self._flow is not None:
            self._flow.close(failed=True)


def _log(loggers: Sequence[Logger], steps: Sequence[int], values: Values) -> None:
    """Hand rows to the loggers, a dictionary a step."""
    for i, step in enumerate(steps):
        row = {
            f"gradient_flow/{name}/layer_{layer:02d}": float(x)
            for name, value_SL in values.items()
            for layer, x in enumerate(value_SL[i], start=1)
        }
        for logger in loggers:
            logger.log_metrics(row, step)
