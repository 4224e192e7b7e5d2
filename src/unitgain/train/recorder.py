"""The callback that turns epochs into files: metrics, gradient flow, checkpoints and the end of each member.

Shapes: K members, L layers, S steps, Q quantities.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, final

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from unitgain.pack.engine import Pack
from unitgain.probe.verdict import judge
from unitgain.spec import RunSpec
from unitgain.train.checkpoint import restore_member
from unitgain.train.member import Member
from unitgain.train.module import PackedModule
from unitgain.train.scores import Scores
from unitgain.train.tracker import Tracker

Row = dict[str, float]


@final
class Recorder(pl.Callback):
    """Writes what each member leaves, decides who stops, and ends the fit when nobody is left.

    Args:
        specs: of the members.
        members: their files.
        resumed: the content of each member's checkpoint, when the fit goes on from one.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        members: Sequence[Member],
        resumed: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        spec = specs[0]
        self.specs, self.members, self.resumed = specs, members, resumed
        self.scores = Scores(spec)
        early = spec.callbacks.early_stopping
        self.tracker = Tracker(len(specs), self.scores.mode(spec), early.patience, early.min_delta)
        self.epoch_state: dict[str, Tensor] = {}
        self.final: list[Row] = [{} for _ in specs]
        self._saved_at = time.monotonic()
        self._saved_epochs = 0
        self._started_at = time.monotonic()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put resumed members back into the pack."""
        pack = _module(pl_module).pack
        if self.resumed is None:
            return
        for k, content in enumerate(self.resumed):
            self.tracker.restore(k, content["tracker"])
            best = self.members[k].best_at(content["tracker"]["best_epoch"])
            restore_member(pack, k, {**content, "state_dict": best} if best else content)
        self.tracker.best_state = {n: t.clone() for n, t in pack.mlp.block_state().items()}
        for k, content in enumerate(self.resumed):
            restore_member(pack, k, content)
            if self.tracker.out_of_patience(k):
                self.tracker.status[k] = "finished"
        if not self.tracker.running or self.resumed[0]["epoch"] >= (trainer.max_epochs or 0):
            # The run ended behind its last checkpoint: Lightning's loop has nothing left to do.
            trainer.should_stop = True
            self._finish(pack)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the state at the epoch's boundary: an abandoned epoch goes back to it."""
        self.epoch_state = _module(pl_module).pack.state()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch."""
        module = _module(pl_module)
        if module.steps is None:
            self._abandon(trainer, module.pack)
            return
        epoch = trainer.current_epoch
        step = (epoch + 1) * module.pack.steps_per_epoch
        loss_SK = module.steps.loss_SK.double().cpu().numpy()
        self._write_gradients(module)
        self._find_diverged(module, epoch, loss_SK)
        rows = self._rows(module, loss_SK)
        for k in self.tracker.running:
            self.members[k].append(epoch, step, rows[k])
            self.members[k].epochs = epoch + 1
        value_K = np.array([row[self.specs[0].monitor] for row in rows])
        for k in self.tracker.update(epoch, value_K, module.pack.mlp.block_state()):
            self.tracker.status[k] = "finished"
            self._save([k], module.pack, module.pack.state(), epoch + 1)
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in rows[0].items()}
        )
        if time.monotonic() - self._saved_at >= self.specs[0].callbacks.checkpoint.every_s:
            self._save(self.tracker.running, module.pack, module.pack.state(), epoch + 1)
        if not self.tracker.running:
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and score the best state of each member on every part, while it is still on the device."""
        pack = _module(pl_module).pack
        running = self.tracker.running
        epochs = self.members[running[0]].epochs if running else 0
        if running and self._saved_epochs < epochs:
            # Whoever stopped the fit: its last epoch, or a callback of the user's own.
            self._save(running, pack, pack.state(), epochs)
        self._finish(pack)

    def _finish(self, pack: Pack) -> None:
        for k in self.tracker.running:
            self.tracker.status[k] = "finished"
        if self.tracker.best_state is None:
            return
        last = pack.state()
        pack.mlp.load_block_state(self.tracker.best_state)
        for part in ("train", "val", "test"):
            for name, value_K in self.scores.of(pack, part).items():
                for k, row in enumerate(self.final):
                    row[f"{part}/{name}"] = float(value_K[k])
        pack.load_state(last)

    def summary(self, k: int, pack: Pack) -> dict[str, Any]:
        """What summary.json says of member ``k``."""
        member, tracker = self.members[k], self.tracker
        seconds = time.monotonic() - self._started_at
        return {
            "status": tracker.status[k],
            "epoch": member.epochs,
            "step": member.epochs * pack.steps_per_epoch,
            "steps_per_epoch": pack.steps_per_epoch,
            "metrics": self.final[k] if tracker.best_epoch_K[k] >= 0 else {},
            "best": {
                "monitor": self.specs[k].monitor,
                "value": tracker.best_value(k),
                "epoch": int(tracker.best_epoch_K[k]),
            },
            "verdict": None if member.verdict is None else member.verdict.as_dict(),
            "diverged": member.blame,
            "parameters": pack.mlp.parameters_per_member,
            "rows": {part: pack.data.size(part) for part in ("train", "val", "test")},
            "seconds": round(seconds / len(self.members), 6),
            "pack": {"members": len(self.members), "seconds": round(seconds, 6)},
        }

    def _rows(self, module: PackedModule, loss_SK: "np.ndarray[Any, Any]") -> list[Row]:
        if module.validation is None:
            raise RuntimeError("an epoch was trained but not validated")
        pack = module.pack
        batch_S = np.full(len(loss_SK), float(pack.data.batch_size))
        if pack.data.last_rows:
            batch_S[-1] = pack.data.last_rows
        # numpy sums a contiguous row in one order, whatever the number of rows.
        train_K = np.ascontiguousarray((loss_SK * batch_S[:, None]).T).sum(1) / batch_S.sum()
        values = self.scores.of_prediction(pack, module.validation)
        lr_K = pack.last_lr()
        rows = []
        for k in range(len(self.members)):
            row = {"lr": float(lr_K[k]), "train/loss": float(train_K[k])}
            rows.append(row | {f"val/{name}": float(v[k]) for name, v in values.items()})
        return rows

    def _write_gradients(self, module: PackedModule) -> None:
        steps = module.steps
        if steps is None or not steps.probe_step:
            return
        value_SQKL = torch.stack(steps.probe_QKL).double().cpu().numpy()
        names = list(module.pack.probe.quantities)
        for k in self.tracker.running:
            values = {name: value_SQKL[:, q, k] for q, name in enumerate(names)}
            member = self.members[k]
            member.append_gradients(steps.probe_step, values)
            if member.verdict is None and "grad_preactivation" in values:
                member.verdict = judge(values["grad_preactivation"][0, :-1], steps.probe_step[0])

    def _find_diverged(
        self, module: PackedModule, epoch: int, loss_SK: "np.ndarray[Any, Any]"
    ) -> None:
        if module.validation is None:
            raise RuntimeError("an epoch was trained but not validated")
        # The last step's update shows in the next loss only: that of the validation part.
        val_K = module.validation.loss_K.double().cpu().numpy()
        finite_SK = np.isfinite(np.vstack([loss_SK, val_K]))
        lost = [k for k in self.tracker.running if not finite_SK[:, k].all()]
        if not lost:
            return
        pack, limit = module.pack, self.specs[0].trainer.eval_batch_size
        now = pack.state()
        for k in lost:
            i = int(np.argmin(finite_SK[:, k]))
            step = epoch * pack.steps_per_epoch + i
            pack.load_state(self.epoch_state if i < len(loss_SK) else now)
            blame = (
                pack.blame(epoch, step, k)
                if i < len(loss_SK)
                else pack.blame_part("val", step, k, limit)
            )
            self.members[k].diverged(blame, pack.mlp.depth + 1)
            self.tracker.status[k] = "diverged"
        pack.load_state(now)
        self._save(lost, pack, self.epoch_state, epoch)

    def _abandon(self, trainer: pl.Trainer, pack: Pack) -> None:
        pack.load_state(self.epoch_state)
        running = self.tracker.running
        self._save(running, pack, self.epoch_state, trainer.current_epoch)
        for k in running:
            self.tracker.status[k] = "interrupted"
        trainer.should_stop = True

    def _save(
        self, members: Sequence[int], pack: Pack, state: Mapping[str, Tensor], epochs: int
    ) -> None:
        if list(members) == self.tracker.running:
            self._saved_at = time.monotonic()
            self._saved_epochs = epochs
        for k in members:
            self.members[k].save(
                pack, k, state, self.tracker.best_state, epochs, self.tracker.facts(k)
            )


def _module(module: pl.LightningModule) -> PackedModule:
    if not isinstance(module, PackedModule):
        raise TypeError(f"a Recorder records a PackedModule, not a {type(module).__name__}")
    return module
