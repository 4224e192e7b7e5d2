"""The callback that turns epochs into files: metrics, gradient flow, checkpoints and the end of each member.

Shapes: K members, L layers, S steps, Q quantities.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, final

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from unitgain.data import Prepared
from unitgain.pack.engine import Blame, Pack
from unitgain.runs import cause_of_signal
from unitgain.runs.pruning import Pruning
from unitgain.spec import RunSpec
from unitgain.train.checkpoint import restore_member
from unitgain.train.member import Member
from unitgain.train.module import PackedModule
from unitgain.train.saver import Saver, Snapshot
from unitgain.train.scores import Scores
from unitgain.train.tracker import Tracker
from unitgain.train.watch import RunResult, Watch

Row = dict[str, float]


@final
class Recorder(pl.Callback):
    """Writes what each member leaves, decides who stops, and ends the fit when nobody is left.

    Members that have stopped leave the pack together, once they are an eighth of it: what their share of each step
    costs is then more than to build the pack anew.

    Args:
        spec: of any member.
        members: their files, in the order of the pack.
        resumed: the content of each member's checkpoint, when the fit goes on from one.
        watch: who follows.
        signal: tells the number of the signal that has asked the fit to end, else 0.
    """

    def __init__(
        self,
        spec: RunSpec,
        members: Sequence[Member],
        resumed: Sequence[Mapping[str, Any]] | None,
        watch: Watch | None = None,
        signal: Callable[[], int] = int,
    ) -> None:
        self.spec, self.resumed, self.watch, self._signal = spec, resumed, watch, signal
        self.members = list(members)
        self.pruning = Pruning.connect()
        self.results: dict[int, RunResult] = {}
        self.scores = Scores(spec)
        early = spec.callbacks.early_stopping
        mode = self.scores.mode(spec)
        self.tracker = Tracker(len(members), mode, early.patience, early.min_delta)
        self.epoch_state: dict[str, Tensor] = {}
        self.saver = Saver()
        self._size = len(members)
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
            self._release(_module(pl_module), range(len(self.members)))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the state at the epoch's boundary: an abandoned epoch goes back to it."""
        self.epoch_state = _module(pl_module).pack.state(self.epoch_state or None)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch."""
        module = _module(pl_module)
        if module.steps is None:
            self._abandon(trainer, module.pack)
            return
        epoch = trainer.current_epoch
        step = (epoch + 1) * module.pack.steps_per_epoch
        loss_SK = module.steps.loss_SK.double().cpu().numpy()
        if epoch == 0:
            for k in self.tracker.running:
                self.members[k].first_loss = float(loss_SK[0, k])
        self._write_gradients(module)
        self._find_diverged(module, epoch, loss_SK)
        rows = self._rows(module, loss_SK)
        for k in self.tracker.running:
            self.members[k].append(epoch, step, rows[k])
            self.members[k].epochs = epoch + 1
        value_K = np.array([row[self.spec.monitor] for row in rows])
        if stopped := self.tracker.update(epoch, value_K, module.pack.mlp.block_state()):
            for k in stopped:
                self.tracker.status[k] = "finished"
            self._save(stopped, module.pack, module.pack.tensors(), epoch + 1)
        if self.pruning is not None and epoch + 1 < (trainer.max_epochs or 0):
            self._prune(self.pruning, module.pack, value_K, epoch + 1)
        trainer.callback_metrics.update(
            {name: torch.tensor(value) for name, value in rows[0].items()}
        )
        running = self.tracker.running
        if time.monotonic() - self._saved_at >= self.spec.callbacks.checkpoint.every_s:
            self._save(running, module.pack, module.pack.tensors(), epoch + 1)
        if self.watch is not None:
            steps = module.pack.steps_per_epoch * len(self.members)
            self.watch.epoch(epoch + 1, trainer.max_epochs or 0, len(running), steps)
        if not running:
            trainer.should_stop = True
        elif len(self.members) - len(running) >= max(len(self.members) // 8, 1):
            self._compact(module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and score the best state of each member on every part, while it is still on the device."""
        module = _module(pl_module)
        running = self.tracker.running
        epochs = self.members[running[0]].epochs if running else 0
        self.epoch_state = {}
        if running and self._saved_epochs < epochs:
            # Whoever stopped the fit: its last epoch, or a callback of the user's own.
            self._save(running, module.pack, module.pack.tensors(), epochs, still=True)
        self._release(module, range(len(self.members)))

    def close(self) -> None:
        """End what is open, after an error too."""
        self.saver.close()
        if self.pruning is not None:
            self.pruning.close()
        for member in self.members:
            if member.index not in self.results:
                member.abort()

    def _prune(
        self, pruning: Pruning, pack: Pack, value_K: "np.ndarray[Any, Any]", epochs: int
    ) -> None:
        """Let the members end that a search gives up: they are saved, and could be resumed."""
        going = {self.members[k].run.path: k for k in self.tracker.running}
        found = pruning.ask(epochs, {path: float(value_K[k]) for path, k in going.items()})
        pruned = [k for path, k in going.items() if path in found]
        if not pruned:
            return
        for k in pruned:
            self.members[k].pruned = True
            self.tracker.status[k] = "interrupted"
        self._save(pruned, pack, pack.tensors(), epochs)

    def _compact(self, module: PackedModule) -> None:
        """Let the members go that have stopped, and go on with the others alone."""
        running = self.tracker.running
        self._release(module, [k for k in range(len(self.members)) if k not in running])
        module.keep(running)
        self.members = [self.members[k] for k in running]
        self.tracker = self.tracker.take(running)
        self.epoch_state = {}

    def _release(self, module: PackedModule, rows: Sequence[int]) -> None:
        """Score members of the pack at their best, write their summaries and let the watcher know."""
        if not rows:
            return
        self.saver.wait()
        for k in rows:
            if self.tracker.status[k] == "running":
                self.tracker.status[k] = "finished"
        final = self._final(module, rows)
        summaries = [
            self._summary(k, module.pack, row) | _weighting(module.tables[k])
            for k, row in zip(rows, final, strict=True)
        ]
        members = [self.members[k] for k in rows]
        self.saver.run(
            [partial(m.write_summary, s) for m, s in zip(members, summaries, strict=True)]
        )
        self.saver.wait()
        for member, summary in zip(members, summaries, strict=True):
            member.close(summary)
            self.results[member.index] = result = member.result(summary)
            if self.watch is not None:
                self.watch.ended(member.index, result)

    def _final(self, module: PackedModule, rows: Sequence[int]) -> list[Row]:
        """Loss and metrics of members at their best, on every part."""
        final: list[Row] = [{} for _ in rows]
        if self.tracker.best_state is None:
            return final
        pack = module.take(rows)
        last = pack.state() if pack is module.pack else {}
        index = torch.tensor(list(rows), device=pack.mlp.theta.device)
        pack.mlp.load_block_state(
            {n: t.index_select(0, index) for n, t in self.tracker.best_state.items()}
        )
        for part in ("train", "val", "test"):
            for name, value_K in self.scores.of(pack, part).items():
                for row, value in zip(final, value_K.tolist(), strict=True):
                    row[f"{part}/{name}"] = value
        if last:
            pack.load_state(last)
        return final

    def _summary(self, k: int, pack: Pack, final: Row) -> dict[str, Any]:
        """What summary.json says of member ``k``."""
        member, tracker = self.members[k], self.tracker
        verdict = member.judge(pack)
        seconds = time.monotonic() - self._started_at
        cause = cause_of_signal(member.signal)
        return {
            "status": tracker.status[k],
            **({} if cause is None else {"cause": cause}),
            "epoch": member.epochs,
            "step": member.epochs * pack.steps_per_epoch,
            "steps_per_epoch": pack.steps_per_epoch,
            "metrics": final if member.knows_best(int(tracker.best_epoch_K[k])) else {},
            "best": {
                "monitor": member.spec.monitor,
                "value": tracker.best_value(k),
                "epoch": int(tracker.best_epoch_K[k]),
            },
            "verdict": None if verdict is None else verdict.as_dict(),
            "forecast": None if member.origin else member.outlook.forecast.as_dict(),
            "diverged": member.blame,
            "pruned": member.pruned or None,
            "warm_start": member.origin,
            "parameters": pack.mlp.parameters_per_member,
            "rows": {part: pack.data.size(part) for part in ("train", "val", "test")},
            "seconds": round(seconds / self._size, 6),
            "pack": {"members": self._size, "seconds": round(seconds, 6)},
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
            self.members[k].append_gradients(steps.probe_step, values)

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
        for k, blame in self._blame(module, epoch, lost, finite_SK[:, lost]).items():
            self.members[k].diverged(blame, module.pack.mlp.depth + 1)
            self.tracker.status[k] = "diverged"
        self._save(lost, module.pack, self.epoch_state, epoch)

    def _blame(
        self, module: PackedModule, epoch: int, lost: list[int], finite_SK: "np.ndarray[Any, Any]"
    ) -> dict[int, Blame]:
        """Where members went first: they run the epoch again, as a pack of their own."""
        pack = module.take(lost)
        now, steps = pack.state(), len(finite_SK) - 1
        first = {j: int(np.argmin(finite_SK[:, j])) for j in range(len(lost))}
        after = [j for j, i in first.items() if i == steps]
        limit, offset = self.spec.trainer.eval_batch_size, epoch * steps
        found = pack.blame_part("val", offset + steps, after, limit) if after else {}
        index = torch.tensor(lost, device=pack.mlp.theta.device)
        pack.load_state({n: t.index_select(0, index) for n, t in self.epoch_state.items()})
        found |= pack.blame(epoch, {j: offset + i for j, i in first.items() if i < steps})
        pack.load_state(now)
        return {lost[j]: blame for j, blame in found.items()}

    def _abandon(self, trainer: pl.Trainer, pack: Pack) -> None:
        pack.load_state(self.epoch_state)
        running = self.tracker.running
        self._save(running, pack, self.epoch_state, trainer.current_epoch)
        for k in running:
            self.tracker.status[k] = "interrupted"
            self.members[k].signal = self._signal()
        trainer.should_stop = True

    def _save(
        self,
        members: Sequence[int],
        pack: Pack,
        state: Mapping[str, Tensor],
        epochs: int,
        still: bool = False,
    ) -> None:
        """Begin to write checkpoints; the pack may go on meanwhile, unless its tensors are ``still``."""
        if list(members) == self.tracker.running:
            self._saved_at = time.monotonic()
            self._saved_epochs = epochs
        best_state = self.tracker.best_state
        best = None if best_state is None else Snapshot(best_state, still=still)
        now = Snapshot(state, still=still)
        self.saver.run(
            [
                self.members[k].save(pack, k, now, best, epochs, self.tracker.facts(k))
                for k in members
            ]
        )


def _weighting(table: Prepared) -> dict[str, Any]:
    """What weights leave of the training rows, where they were estimated, and how far they are from the truth."""
    if table.importance is None:
        return {}
    found = table.importance.diagnostics
    facts = {name: getattr(found, name) for name in ("ess", "ess_share", "pareto_k", "max_share")}
    if table.importance.error is not None:
        facts["error"] = table.importance.error
    return {"weighting": facts | dict(table.importance.chosen or {})}


def _module(module: pl.LightningModule) -> PackedModule:
    if not isinstance(module, PackedModule):
        raise TypeError(f"a Recorder records a PackedModule, not a {type(module).__name__}")
    return module
