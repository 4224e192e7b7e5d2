import io
import signal
import time
import warnings
from pathlib import Path

import pytest
import torch

from unitgain.errors import CheckpointError
from unitgain.pack.optim import Optimizer
from unitgain.runs import RunDirectory, read_metrics, read_sealed, write_sealed
from unitgain.train import fit
from unitgain.train.checkpoint import read_checkpoint

SGD = "unitgain.pack.optim.SGD"
STEPS = 6  # of an epoch on iris: 90 rows in batches of 16

RUNS = {
    "plain": {},
    "dropout": {"dropout": {"_target_": "unitgain.nn.Dropout", "p": 0.3}},
    "alpha_dropout": {
        "dropout": {"_target_": "unitgain.nn.AlphaDropout", "p": 0.2},
        "activation": {"_target_": "torch.nn.SELU"},
    },
    "batch_norm": {"norm": {"_target_": "unitgain.nn.BatchNorm"}},
    "cosine_with_warmup": {
        "scheduler": {"_target_": "unitgain.pack.schedule.Cosine", "warmup_steps": 8}
    },
    "one_cycle": {
        "scheduler": {"_target_": "unitgain.pack.schedule.OneCycle", "cycle_momentum": True}
    },
    "early_stopping_under_way": {
        "optimizer": {"_target_": SGD, "lr": 1e-12},
        "callbacks": {"early_stopping": {"patience": 2, "min_delta": 0.1}},
        "trainer": {"max_epochs": 5},
    },
    "most_is_best": {"monitor": "val/accuracy"},
    "sgd_momentum": {"optimizer": {"_target_": SGD, "lr": 0.05, "momentum": 0.9, "dampening": 0.1}},
    "rmsprop_centered": {
        "optimizer": {
            "_target_": "unitgain.pack.optim.RMSprop",
            "lr": 0.003,
            "centered": True,
            "momentum": 0.5,
        }
    },
    "adamw_clipped": {
        "optimizer": {"_target_": "unitgain.pack.optim.AdamW"},
        "trainer": {"gradient_clip_norm": 0.1},
    },
    "float64": {"trainer": {"precision": "64"}},
    "bf16": {"trainer": {"precision": "bf16-mixed"}},
    "data_driven_init": {"init": {"_target_": "unitgain.nn.init.lsuv"}},
    "probe_across_epochs": {"probe": {"every": 7}},
    "probe_with_a_history": {
        "probe": {
            "every": 1,
            "per_decade": 3,
            "quantities": ["grad_preactivation", "dead_fraction", "gradient_cosine"],
        },
        "activation": {"_target_": "torch.nn.ReLU"},
        "init": {"_target_": "unitgain.nn.init.he"},
        "bias_init": {"_target_": "unitgain.nn.init.bias_normal", "std": 2.0},
    },
}


@pytest.mark.parametrize("kind", RUNS)
def test_resumed_equals_uninterrupted(train, interrupt_at, assert_same_run, kind):
    changes = RUNS[kind]
    whole = train("whole", **changes)
    assert whole.status == "finished"
    # In an epoch's first step, in the midst of one, and in the last step of one.
    for epoch, step in enumerate((0, STEPS + 2, 3 * STEPS - 1)):
        name = f"broken-{epoch}"
        with interrupt_at(step):
            broken = train(name, **changes)
        if step == 3 * STEPS - 1:
            # No step follows in the epoch: it counts, and the next one is abandoned, if there is one.
            assert broken.status in ("finished", "interrupted")
        else:
            assert broken.status == "interrupted"
            assert RunDirectory(broken.directory).read_summary()["epoch"] == epoch
            assert (
                f"interrupted in epoch {epoch + 1}; go on with: unitgain resume" in broken.message
            )
        again = train(name, resume=True, **changes)
        assert again.status == "finished"
        assert again.metrics == whole.metrics
        assert_same_run(whole.directory, again.directory)


def test_interrupted_again_and_again(train, interrupt_at, assert_same_run):
    whole = train("whole", trainer={"max_epochs": 4})
    for step in (2, STEPS + 1, STEPS + 4, 3 * STEPS):
        with interrupt_at(step):
            broken = train("broken", resume=step > 2, trainer={"max_epochs": 4})
        assert broken.status == "interrupted"
    again = train("broken", resume=True, trainer={"max_epochs": 4})
    assert_same_run(whole.directory, again.directory)


def test_interrupted_run_keeps_its_epochs_and_nothing_more(train, interrupt_at):
    with interrupt_at(2 * STEPS + 3):
        result = train(probe={"every": 1})
    run = RunDirectory(result.directory)
    summary = run.read_summary()
    assert (summary["status"], summary["epoch"], summary["step"]) == ("interrupted", 2, 2 * STEPS)
    assert read_metrics(run.metrics)["epoch"].tolist() == [0, 1]
    last = read_checkpoint(run.last_checkpoint)
    assert (last["epoch"], last["step"]) == (2, 2 * STEPS)
    # What is known of the best state so far is reported.
    assert set(summary["metrics"]) >= {"test/loss", "test/accuracy"}


def test_interrupted_before_the_first_epoch_ended(train, interrupt_at, assert_same_run):
    with interrupt_at(1):
        broken = train("broken")
    summary = RunDirectory(broken.directory).read_summary()
    assert summary["epoch"] == 0
    assert summary["metrics"] == {}
    assert summary["best"]["value"] is None
    assert not (broken.directory / "metrics.csv").exists()
    again = train("broken", resume=True)
    assert_same_run(train("whole").directory, again.directory)


def test_the_handler_of_ctrl_c_is_put_back(train, interrupt_at):
    before = signal.getsignal(signal.SIGINT)
    with interrupt_at(2):
        train()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_pack_is_interrupted_and_resumed_as_one(
    make_spec, tmp_path, interrupt_at, assert_same_run
):
    dropout = {"_target_": "unitgain.nn.Dropout", "p": 0.2}
    specs = [make_spec(seed=seed, dropout=dropout) for seed in (0, 1, 2)]
    alone = []
    for k, spec in enumerate(specs):
        fit([spec], [tmp_path / f"alone-{k}"])
        alone.append(tmp_path / f"alone-{k}")
    packed = [tmp_path / f"packed-{k}" for k in range(3)]
    with interrupt_at(STEPS + 3):
        results = fit(specs, packed)
    assert [r.status for r in results] == ["interrupted"] * 3
    results = fit(specs, packed, resume=True)
    assert [r.status for r in results] == ["finished"] * 3
    for one, other in zip(alone, packed, strict=True):
        assert_same_run(one, other)


def test_members_that_stand_at_different_epochs_are_not_resumed_as_one(
    make_spec, tmp_path, interrupt_at
):
    specs = [make_spec(seed=seed) for seed in (0, 1)]
    for k, spec in enumerate(specs):
        with interrupt_at(k * STEPS + 2):
            fit([spec], [tmp_path / f"{k}"])
    with pytest.raises(CheckpointError, match=r"must resume at one epoch, got \[0, 1\]"):
        fit(specs, [tmp_path / "0", tmp_path / "1"], resume=True)


@pytest.mark.parametrize("kind", ["plain", "early_stopping_under_way"])
def test_killed_between_the_last_checkpoint_and_the_summary(train, assert_same_run, kind):
    whole = train("whole", **RUNS[kind])
    train("killed", **RUNS[kind])
    run = RunDirectory(whole.directory.with_name("killed"))
    run.summary.unlink()
    assert run.status == "unfinished"
    again = train("killed", resume=True, **RUNS[kind])
    assert again.status == "finished"
    assert again.metrics == whole.metrics
    assert_same_run(whole.directory, again.directory)


def test_rows_that_no_checkpoint_counts_on_may_be_damaged(train, broken_off, assert_same_run):
    """Epochs came after the checkpoint, and are trained again."""
    with broken_off.metrics.open("ab") as file:
        file.write(b"2,30,0.3x,\n")
    again = train("broken", resume=True)
    assert again.status == "finished"
    assert_same_run(train("whole").directory, again.directory)


@pytest.mark.parametrize("left", [b"", b"PAR1"])
def test_gradients_that_no_checkpoint_counts_on_may_be_damaged(train, left):
    changes = {"optimizer": {"lr": 1e30}, "probe": {"every": 3}}
    whole = train("whole", **changes)
    run = RunDirectory(train("killed", **changes).directory)
    assert read_checkpoint(run.last_checkpoint)["epoch"] == 0
    run.summary.unlink()
    run.gradients.write_bytes(left)
    assert train("killed", resume=True, **changes).status == "diverged"
    assert run.gradients.read_bytes() == RunDirectory(whole.directory).gradients.read_bytes()


def test_a_verdict_counts_no_step_twice(train):
    # The measurements of the epoch in which it diverged are on disk ahead of its last checkpoint.
    changes = {"optimizer": {"lr": 1e30}, "probe": {"every": 3}}
    whole = train("whole", **changes)
    train("killed", **changes)
    run = RunDirectory(whole.directory.with_name("killed"))
    run.summary.unlink()
    assert train("killed", resume=True, **changes).status == "diverged"
    first = RunDirectory(whole.directory)
    assert run.read_summary()["verdict"] == first.read_summary()["verdict"]
    assert run.gradients.read_bytes() == first.gradients.read_bytes()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.fixture
def broken_off(train, interrupt_at):
    """A run of three epochs, interrupted in the third, with a checkpoint an epoch."""
    with interrupt_at(2 * STEPS + 1):
        return RunDirectory(train("broken").directory)


def test_damaged_checkpoint_falls_back_to_the_one_before(train, broken_off, assert_same_run):
    cut(broken_off.last_checkpoint)
    with pytest.warns(UserWarning, match=r"last.ckpt .* going on from last.prev.ckpt"):
        again = train("broken", resume=True)
    assert again.status == "finished"
    assert_same_run(train("whole").directory, again.directory)


def test_two_damaged_checkpoints_are_an_error(train, broken_off):
    cut(broken_off.last_checkpoint)
    cut(broken_off.checkpoints_dir / "last.prev.ckpt")
    with pytest.raises(CheckpointError, match=r"must be whole: .*last.ckpt") as caught:
        train("broken", resume=True)
    assert len(caught.value.lines) == 2


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"optimizer": {"lr": 0.5}}, {"trainer": {"max_epochs": 9}}]
)
def test_changed_configuration_is_an_error(train, broken_off, changes):
    with pytest.raises(CheckpointError, match=r"config.yaml has changed since; restore"):
        train("broken", resume=True, **changes)


def test_what_moves_no_number_may_change(train, broken_off, assert_same_run):
    changes = {"name": "another", "tags": ["b"], "callbacks": {"checkpoint": {"every_s": 60}}}
    again = train("broken", resume=True, **changes)
    assert_same_run(train("whole").directory, again.directory)


def test_checkpoint_of_another_format_is_an_error(train, broken_off, tmp_path):
    content = torch.load(broken_off.last_checkpoint, weights_only=True)
    torch.save(content | {"format": 99, "unitgain": "9.9"}, tmp_path / "new.ckpt")
    write_sealed(broken_off.last_checkpoint, (tmp_path / "new.ckpt").read_bytes())
    assert read_sealed(broken_off.last_checkpoint)
    with pytest.raises(CheckpointError, match=r"format 1, got 99; read it with unitgain 9.9"):
        train("broken", resume=True)


def test_a_run_whose_best_checkpoint_is_lost_is_not_gone_on_with(train, broken_off):
    cut(broken_off.best_checkpoint)
    with pytest.raises(CheckpointError, match=r"best.ckpt .* train the run again"):
        train("broken", resume=True)


def test_no_score_is_told_of_a_best_state_that_is_not_there(train, broken_off, interrupt_at):
    # As after a kill between best.ckpt and last.ckpt: the one is of a later epoch than the other speaks of.
    content = read_checkpoint(broken_off.last_checkpoint)
    content["tracker"]["best_epoch"] = 0
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_sealed(broken_off.last_checkpoint, buffer.getvalue())
    with interrupt_at(2 * STEPS + 1):
        assert train("broken", resume=True).status == "interrupted"
    summary = broken_off.read_summary()
    assert (summary["best"]["epoch"], summary["metrics"]) == (0, {})


def test_without_a_checkpoint_a_run_starts_afresh(make_spec, tmp_path, assert_same_run):
    run = RunDirectory(tmp_path / "new").create()
    typed = ["data=iris", "seed=0"]
    run.write_overrides(typed)
    with pytest.warns(UserWarning, match="no checkpoint was written before the run ended; it st"):
        [result] = fit([make_spec()], [run.path], resume=True)
    assert result.status == "finished"
    # What the user typed when the run was first started stays.
    assert run.read_overrides() == typed
    [whole] = fit([make_spec()], [tmp_path / "whole"], overrides=[typed])
    assert_same_run(whole.directory, run.path)


def test_resuming_a_finished_run_changes_nothing(train, assert_same_run):
    whole, other = train("whole"), train("other")
    assert train("other", resume=True).metrics == other.metrics
    assert_same_run(whole.directory, other.directory)


def test_checkpoints_are_not_written_more_often_than_asked(train, monkeypatch):
    from unitgain.train import member

    written = []
    original = member.write_sealed
    monkeypatch.setattr(
        member,
        "write_sealed",
        lambda path, *a, **k: (written.append(path.name), original(path, *a, **k)),
    )
    train("often", callbacks={"checkpoint": {"every_s": 0}})
    assert written.count("last.ckpt") == 3
    written.clear()
    result = train("seldom", callbacks={"checkpoint": {"every_s": 1000}})
    assert written.count("last.ckpt") == 1
    assert read_checkpoint(result.directory / "checkpoints" / "last.ckpt")["epoch"] == 3


def test_an_error_in_the_midst_leaves_a_run_to_resume(train, monkeypatch, assert_same_run):
    original = Optimizer.step

    def failing(self, gradient, step):
        if step == 2 * STEPS + 1:
            raise OSError(28, "No space left on device")
        original(self, gradient, step)

    with monkeypatch.context() as patch:
        patch.setattr(Optimizer, "step", failing)
        with pytest.raises(OSError, match="No space left"):
            train("broken")
    run = RunDirectory(train("whole").directory.with_name("broken"))
    assert run.status == "unfinished"
    assert_same_run(run.path.with_name("whole"), train("broken", resume=True).directory)


PROGRAM = """
import json, sys
from pathlib import Path
from unitgain.spec import parse
from unitgain.train import fit

spec = parse(json.loads(sys.argv[1]))
[result] = fit([spec], [Path(sys.argv[2])])
print("ended as", result.status)
"""
LONG = {"trainer": {"max_epochs": 80}, "dropout": {"_target_": "unitgain.nn.Dropout", "p": 0.1}}


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """The directory of an uninterrupted long run, made once."""
    return tmp_path_factory.mktemp("long") / "whole"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_ended_can_be_resumed(
    how, long_run, make_spec, tmp_path, python, assert_same_run
):
    spec = make_spec(**LONG)
    if not long_run.exists():
        fit([spec], [long_run])
    run = RunDirectory(tmp_path / "broken")
    process = python(
        PROGRAM, spec.model_dump_json(by_alias=True, serialize_as_any=True), str(run.path)
    )
    deadline = time.monotonic() + 120
    while not run.metrics.exists() or run.metrics.read_bytes().count(b"\n") < 6:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(how)
    output, _ = process.communicate(timeout=60)
    epochs = len(read_metrics(run.metrics)["epoch"])
    assert 5 <= epochs < 80, "it had ended by itself: make it longer"
    if how == signal.SIGINT:
        assert process.returncode == 0
        assert "ended as interrupted" in output
        assert run.status == "interrupted"
        assert run.read_summary()["epoch"] == epochs
        written_behind = 0
    else:
        assert process.returncode == -signal.SIGKILL
        assert run.status == "unfinished"
        # An epoch's checkpoint is put in place while the next epoch trains, and that one's row is written first.
        written_behind = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 <= epochs - read_checkpoint(run.last_checkpoint)["epoch"] <= written_behind
        [result] = fit([spec], [run.path], resume=True)
    assert result.status == "finished"
    assert_same_run(long_run, run.path)
