"""One member's files while it trains."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray
from torch import Tensor

from unitgain.errors import CheckpointError
from unitgain.pack.engine import Blame, Pack
from unitgain.probe.record import USED, Course, Fault
from unitgain.probe.verdict import Verdict, judge
from unitgain.runs import (
    Batch,
    GradientsWriter,
    MetricsWriter,
    Record,
    RunDirectory,
    cut_back,
    drop_previous,
    read_metrics,
    record_of,
    to_yaml,
    write_sealed,
)
from unitgain.spec import RunSpec, run_hash
from unitgain.train.checkpoint import origin_of, pack_member, read_checkpoint
from unitgain.train.loggers import LoggerFactory, RunContext, factories
from unitgain.train.outlook import Outlook
from unitgain.train.saver import Snapshot
from unitgain.train.watch import RunResult


@final
class Member:
    """The run directory of one member, its writers and its loggers.

    Args:
        index: which run of the fit.
        spec: of the run.
        run: where it goes.
        overrides: what the user typed.
        resumed: the content of the checkpoint to go on from, or None.
        outlook: what theory says of the run.
        chosen: the exponent of its weights, where cross-validation chose it.
    """

    def __init__(
        self,
        index: int,
        spec: RunSpec,
        run: RunDirectory,
        overrides: Sequence[str],
        resumed: Mapping[str, Any] | None,
        outlook: Outlook,
        chosen: Mapping[str, Any] | None = None,
    ) -> None:
        self.index, self.spec, self.run, self.outlook = index, spec, run, outlook
        self._overrides = list(overrides)
        self._hash, self.origin = run_hash(spec), origin_of(spec)
        self.epochs = resumed["epoch"] if resumed else 0
        self._chosen: dict[str, Any] = {"weighting": chosen} if chosen else {}
        self.verdict: Verdict | None = None
        self.first_loss: float | None = resumed.get("first_loss") if resumed else None
        self._course = Course()
        self._losses: list[float] = []
        self.blame: dict[str, Any] | None = None
        self.message: str | None = None
        self.signal = 0
        self.pruned = False
        keep_epoch = self.epochs - 1 if resumed else None
        keep_step = resumed["step"] - 1 if resumed else None
        if resumed:
            cut_back(run, resumed)
        self.metrics = MetricsWriter(run.metrics, keep_until=keep_epoch)
        self.gradients = GradientsWriter(run.gradients, keep_until=keep_step)
        if resumed:
            self._read_back()
        self._synced = False
        self._unknown_best: int | None = None
        self._best_saved = resumed["tracker"]["best_epoch"] if resumed else -1
        context = RunContext(
            run.path, spec.resolved(), overrides, spec.name or run.path.name, spec.tags
        )
        self._loggers: list[tuple[LoggerFactory, Logger]] = [
            (factory, logger) for factory in factories(spec) if (logger := factory.open(context))
        ]

    def append(self, epoch: int, step: int, row: Mapping[str, float]) -> None:
        """Write an epoch's numbers."""
        self.metrics.append(epoch, step, row)
        self._losses.append(row["train/loss"])
        for _, logger in self._loggers:
            logger.log_metrics({"epoch": epoch, **row}, step)

    def append_gradients(self, steps: list[int], values: Mapping[str, NDArray[np.float64]]) -> None:
        """Keep what was measured: (S, L) a quantity."""
        self.gradients.append(steps, values)
        self._course.append(steps, values)
        for _, logger in self._loggers:
            for i, step in enumerate(steps):
                logger.log_metrics(_by_layer(values, i), step)

    def save(
        self,
        pack: Pack,
        k: int,
        state: Snapshot,
        best_state: Snapshot | None,
        epochs: int,
        tracker: Mapping[str, Any],
    ) -> Callable[[Batch], None]:
        """What writes checkpoints, the best one first, so that the last one never speaks of a best that isn't there.

        Args:
            pack: whose member it is.
            k: its place there.
            state: of the pack.
            best_state: of the pack's best epochs.
            epochs: behind the state.
            tracker: how the member stands.
        """
        facts = {"config_hash": self._hash, "seed": self.spec.seed, "tracker": dict(tracker)}
        facts |= {"epoch": epochs, "step": epochs * pack.steps_per_epoch}
        facts |= {"first_loss": self.first_loss, "warm_start": self.origin}
        facts |= self._chosen
        metrics, last_step = self.metrics.record(), epochs * pack.steps_per_epoch - 1

        def write(batch: Batch) -> None:
            best_epoch = tracker["best_epoch"]
            if best_state is not None and best_epoch >= 0 and best_epoch != self._best_saved:
                step = (best_epoch + 1) * pack.steps_per_epoch
                best = facts | {"epoch": best_epoch + 1, "step": step}
                content = pack_member(pack, k, best_state.tensors(), best)
                write_sealed(self.run.best_checkpoint, content, batch=batch)
                self._best_saved = best_epoch
            self.metrics.sync(batch)
            self.gradients.flush(batch)
            self._sync_once(batch)
            rows = self.gradients.record_until(last_step)
            counted = {"files": {"metrics.csv": metrics, "gradients.parquet": rows}}
            content = pack_member(pack, k, state.tensors(), facts | counted)
            write_sealed(self.run.last_checkpoint, content, keep_previous=True, batch=batch)

        return write

    def judge(self, pack: Pack) -> Verdict | None:
        """The verdict on what was recorded, None where nothing was."""
        if not self._course.steps:
            return None
        blame = self.blame
        record = self._course.record(
            losses=tuple(self._losses),
            first_loss=self.first_loss,
            steps_per_epoch=pack.steps_per_epoch,
            planned_steps=pack.epochs * pack.steps_per_epoch,
            fault=None if blame is None else Fault(blame["step"], blame["layer"], blame["where"]),
        )
        self.verdict = judge(record, self.outlook.expected, self.outlook.remedy)
        return self.verdict

    def _read_back(self) -> None:
        """What a verdict needs of the time before the checkpoint."""
        # Not the file, which may be ahead of the checkpoint: its steps come again.
        if (gradients := self.gradients.rows()) is not None:
            grids = {name: gradients.grid(name) for name in USED if name in gradients.names}
            if grids:
                step_S, _ = next(iter(grids.values()))
                self._course.append(
                    step_S.tolist(), {name: grid[1] for name, grid in grids.items()}
                )
        if self.run.metrics.exists():
            self._losses = read_metrics(self.run.metrics)["train/loss"].tolist()

    def best_at(self, epoch: int) -> dict[str, Tensor] | None:
        """The parameters in best.ckpt, if it is of this epoch."""
        if epoch < 0:
            return None
        self._unknown_best = epoch
        try:
            content = read_checkpoint(self.run.best_checkpoint)
        except CheckpointError as error:
            warnings.warn(f"{error}; the best state until now is lost", stacklevel=2)
            return None
        if content["tracker"]["best_epoch"] != epoch:
            return None  # a better one, which the run was to reach after its checkpoint and reaches again
        self._unknown_best = None
        state: dict[str, Tensor] = content["state_dict"]
        return state

    def knows_best(self, epoch: int) -> bool:
        """Whether the parameters of the best epoch are at hand, this being the best one."""
        return epoch >= 0 and epoch != self._unknown_best

    def diverged(self, blame: Blame, layers: int) -> None:
        """Note where the member went."""
        layer = "the output layer" if blame.layer == layers else f"layer {blame.layer}"
        what = {"loss": "the loss", "pre-activation": f"the pre-activation of {layer}"}
        first = what.get(blame.where, f"the gradient at {layer}")
        self.blame = {"step": blame.step, "layer": blame.layer, "where": blame.where}
        see = "; gradients.parquet shows what came before" if self.spec.probe.measures else ""
        self.message = (
            f"every loss must be finite, but at step {blame.step} {first} was the first that is not; "
            f"lower optimizer.lr or set trainer.gradient_clip_norm=1{see}"
        )

    def write_summary(self, summary: Mapping[str, Any], batch: Batch) -> None:
        """Write what is left to write, summary.json last of all."""
        self.gradients.flush(batch)
        self._sync_once(batch)
        self.run.write_summary({**summary, "files": self._files()}, batch)

    def _files(self) -> dict[str, Record]:
        """What the files are that the run leaves, as this process knows it."""
        found = {
            "config.yaml": record_of(to_yaml(self.spec.resolved())),
            "overrides.yaml": record_of(to_yaml(self._overrides)),
        }
        if self.metrics.last_epoch is not None:
            found["metrics.csv"] = self.metrics.record()
        if (gradients := self.gradients.record()) is not None:
            found["gradients.parquet"] = gradients
        if self.run.best_checkpoint.exists():
            found["checkpoints/best.ckpt"] = {"sealed": True}
        return found

    def close(self, summary: Mapping[str, Any]) -> None:
        """Drop what only a run under way needs, and end the loggers."""
        if summary["status"] == "finished":
            drop_previous(self.run.last_checkpoint)
        for factory, logger in self._loggers:
            final = {f"final/{name}": value for name, value in summary["metrics"].items()}
            logger.log_metrics(final, summary["step"])
            factory.close(logger, summary["status"])

    def result(self, summary: Mapping[str, Any]) -> RunResult:
        """What is told of the run."""
        message = self.message
        if summary["pruned"]:
            message = f"pruned after epoch {summary['epoch']}; go on with: unitgain resume {self.run.path}"
        elif summary["status"] == "interrupted":
            cause = summary.get("cause", "interrupted")
            message = f"{cause} in epoch {summary['epoch'] + 1}; go on with: unitgain resume {self.run.path}"
        return RunResult(
            directory=self.run.path,
            status=summary["status"],
            metrics=summary["metrics"],
            verdict=self.verdict.text
            if self.verdict
            else "no verdict: gradient flow was not measured.",
            monitor=summary["best"]["value"],
            message=message,
            signal=self.signal,
        )

    def _sync_once(self, batch: Batch) -> None:
        """Have the disk keep the files of the run's beginning, which were written without waiting for it."""
        if not self._synced:
            self.run.sync(batch)
            self._synced = True

    def abort(self) -> None:
        """End the loggers of a fit that an error broke off."""
        for factory, logger in self._loggers:
            factory.close(logger, "failed")


def _by_layer(values: Mapping[str, NDArray[np.float64]], i: int) -> dict[str, float]:
    return {
        f"gradient_flow/{name}/layer_{layer:02d}": float(value)
        for name, value_SL in values.items()
        for layer, value in enumerate(value_SL[i], start=1)
        if np.isfinite(value)
    }
