"""However a fit ends, every member's last checkpoint is of its last epoch."""

import lightning.pytorch as pl
import torch

from unitgain.runs import RunDirectory
from unitgain.train import evaluate, fit
from unitgain.train.recorder import Recorder
from unitgain.train.tracker import Tracker

RARELY = {"checkpoint": {"every_s": 1000.0}}


def last_epoch(directory) -> int:
    return torch.load(RunDirectory(directory).last_checkpoint, weights_only=True)["epoch"]


def test_a_callback_of_the_users_own_stops_the_fit(train, monkeypatch):
    def stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        original(self, trainer, pl_module)
        trainer.should_stop = trainer.current_epoch == 1

    original = Recorder.on_train_epoch_end
    monkeypatch.setattr(Recorder, "on_train_epoch_end", stop)
    result = train("run", trainer={"max_epochs": 9}, callbacks=RARELY)
    assert result.status == "finished"
    assert last_epoch(result.directory) == 2
    assert evaluate(result.directory) == result.metrics


def test_a_member_that_stops_in_the_last_epoch_does_not_keep_the_others_from_saving(
    make_spec, tmp_path, monkeypatch
):
    original = Tracker.update
    monkeypatch.setattr(
        Tracker,
        "update",
        lambda self, epoch, *a: original(self, epoch, *a) or ([0] if epoch == 2 else []),
    )
    specs = [make_spec(seed=seed, callbacks=RARELY) for seed in (0, 1)]
    results = fit(specs, [tmp_path / "a", tmp_path / "b"])
    assert [last_epoch(r.directory) for r in results] == [3, 3]
    assert [r.status for r in results] == ["finished", "finished"]
