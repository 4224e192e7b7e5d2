"""``unitgain reproduce``: runs come out the same again, and what doesn't is named."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from unitgain.cli import main
from unitgain.runs import (
    Gradients,
    RunDirectory,
    newest_valid,
    read_gradients,
    record_of,
    write_sealed,
)
from unitgain.runs._gradients import _to_parquet
from unitgain.spec import RunSpec, parse
from unitgain.train import fit

ADAM = {"_target_": "unitgain.pack.optim.Adam"}
NAMES = ("metrics.csv", "gradients.parquet", "best.ckpt", "last.ckpt", "summary.json")


def spec(seed: int = 0, lr: float = 1e-2, **changes: Any) -> RunSpec:
    config = {
        "seed": seed,
        "model": {"_target_": "unitgain.nn.MLP", "depth": 2, "width": 12},
        "optimizer": ADAM | {"lr": lr},
        "dropout": {"_target_": "unitgain.nn.Dropout", "p": 0.1},
        "data": {"_target_": "unitgain.data.sources.wine", "batch_size": 24},
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "progress": False},
        "probe": {"every": 2},
    }
    return parse(config | changes)


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """Three members of a pack; the rate of the last one is too large for it."""
    folder = tmp_path_factory.mktemp("pack")
    specs = [spec(0), spec(1, 1e-3), spec(2, 1e30)]
    results = fit(specs, [folder / str(k) for k in range(3)])
    assert [result.status for result in results] == ["finished", "finished", "diverged"]
    return folder


@pytest.fixture
def run(pack, tmp_path) -> RunDirectory:
    """A copy of the first member, to be changed."""
    shutil.copytree(pack / "0", tmp_path / "copy")
    return RunDirectory(tmp_path / "copy")


def digest(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def record_anew(run: RunDirectory) -> None:
    """Let the summary record the files as they are, as if the run had left them so."""
    summary = run.read_summary() or {}
    for path in (run.metrics, run.gradients):
        summary["files"][path.name] = record_of(path.read_bytes())
    run.write_summary(summary)


def answer(capsys) -> str:
    return capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("member", ["0", "1", "2"])
def test_a_member_of_a_pack_reproduces_alone_bit_by_bit(pack, capsys, member):
    before = digest(pack / member)
    assert main(["reproduce", str(pack / member)]) == 0
    there = [name for name in NAMES if name in {Path(path).name for path in before}]
    assert answer(capsys) == f"bit-identical: {', '.join(there)}"
    assert digest(pack / member) == before


def test_threads_are_those_of_the_run(tmp_path, capsys):
    trainer = {"max_epochs": 1, "accelerator": "cpu", "progress": False, "threads": 2}
    fit([spec(trainer=trainer)], [tmp_path / "run"])
    before = torch.get_num_threads()
    assert main(["reproduce", str(tmp_path / "run"), "--keep", str(tmp_path / "kept")]) == 0
    assert answer(capsys).startswith("bit-identical: ")
    assert RunDirectory(tmp_path / "kept").read_environment()["threads"] == 2
    assert torch.get_num_threads() == before


def test_another_number_of_the_history_is_named(run, capsys):
    lines = run.metrics.read_text().splitlines()
    cells = lines[2].split(",")
    names = lines[0].split(",")
    at = names.index("val/loss")
    value = float(cells[at])
    cells[at] = repr(value * (1 + 2**-52))
    lines[2] = ",".join(cells)
    run.metrics.write_text("\n".join(lines) + "\n")
    record_anew(run)
    assert main(["reproduce", str(run.path)]) == 1
    wrong = float(cells[at])
    assert (
        answer(capsys) == f"differs (recorded and now): epoch 1, val/loss: {wrong!r} and {value!r}"
    )


def test_another_gradient_is_named(run, capsys):
    old = read_gradients(run.gradients)
    values = old.values.copy()
    values[5] *= 2
    changed = Gradients(old.steps, old.layers, old.codes, values, old.names)
    run.gradients.write_bytes(_to_parquet(changed))
    record_anew(run)
    assert main(["reproduce", str(run.path)]) == 1
    assert f"step {old.steps[5]}, {old.names[old.codes[5]]} of layer" in answer(capsys)


def test_a_file_that_is_not_as_the_run_left_it_is_no_evidence(run, capsys):
    run.metrics.write_bytes(run.metrics.read_bytes().replace(b"1,", b"2,", 1))
    assert main(["reproduce", str(run.path)]) == 2
    assert "metrics.csv must be as the run left it: " in capsys.readouterr().err


def test_another_weight_is_named(run, capsys):
    import io

    content = torch.load(io.BytesIO(newest_valid(run.checkpoints_dir).payload), weights_only=True)
    name = next(iter(content["state_dict"]))
    content["state_dict"][name].view(-1)[0] += 0.5
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_sealed(run.last_checkpoint, buffer.getvalue())
    assert main(["reproduce", str(run.path)]) == 1
    assert answer(capsys).endswith(f"last.ckpt, state_dict {name}: up to 0.5 apart")


def test_another_metric_of_the_summary_is_named(run, capsys):
    summary = run.read_summary() or {}
    summary["metrics"]["test/loss"] += 1e-9
    run.write_summary(summary)
    assert main(["reproduce", str(run.path)]) == 1
    assert "summary.json, test/loss: " in answer(capsys)


def test_elsewhere_tolerances_hold_and_what_differs_is_told(run, capsys):
    environment = run.read_environment()
    elsewhere = environment | {"isa": "ALTIVEC", "numerics_fingerprint": "0" * 16}
    elsewhere["versions"] = environment["versions"] | {"torch": "2.9.0"}
    run.write_environment(elsewhere)
    summary = run.read_summary() or {}
    summary["metrics"]["test/loss"] *= 1.0005
    run.write_summary(summary)
    assert main(["reproduce", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert f"numerics  isa: ALTIVEC, now {environment['isa']}\n" in text
    assert f"numerics  torch: 2.9.0, now {environment['versions']['torch']}\n" in text
    assert text.endswith("within 0.001: metrics.csv, summary.json\n")
    summary["metrics"]["test/loss"] *= 1.01
    run.write_summary(summary)
    assert main(["reproduce", str(run.path)]) == 1
    assert "summary.json, test/loss: " in answer(capsys)


def test_elsewhere_two_rows_may_fall_otherwise_and_no_more(run, capsys):
    run.write_environment(run.read_environment() | {"numerics_fingerprint": "0" * 16})
    summary = run.read_summary() or {}
    right = summary["metrics"]["test/accuracy"]
    for rows, status in ((1.5, 0), (3, 1)):
        moved = right - rows / summary["rows"]["test"]
        run.write_summary(summary | {"metrics": summary["metrics"] | {"test/accuracy": moved}})
        assert main(["reproduce", str(run.path)]) == status
    assert "numerics  platform: " in capsys.readouterr().out


def test_changed_data_are_told_before_training(tmp_path, capsys):
    table = tmp_path / "table.csv"
    rows = [f"{i % 7},{i % 3},{i % 2}" for i in range(120)]
    table.write_text("a,b,y\n" + "\n".join(rows) + "\n")
    data = {
        "_target_": "unitgain.data.sources.csv",
        "task": "classification",
        "path": str(table),
        "target_column": "y",
    }
    fit([spec(data=data)], [tmp_path / "run"])
    assert main(["reproduce", str(tmp_path / "run")]) == 0
    table.write_text("a,b,y\n" + "\n".join(["6.5,1,0", *rows[1:]]) + "\n")
    capsys.readouterr()
    assert main(["reproduce", str(tmp_path / "run"), "--keep", str(tmp_path / "kept")]) == 2
    assert "it has changed since" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_code_that_has_changed_is_told(run, capsys):
    git = {"commit": "1" * 40, "dirty": True}
    run.write_environment(run.read_environment() | {"git": git})
    assert main(["reproduce", str(run.path)]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(
        "code      commit 111111111111 with changes that aren't committed, now "
    )


def test_what_is_missing_is_told(run, capsys):
    run.best_checkpoint.unlink()
    assert main(["reproduce", str(run.path)]) == 0
    text = capsys.readouterr().out
    assert "missing   best.ckpt: not compared" in text
    assert text.splitlines()[-1].count("best.ckpt") == 0


def test_what_cannot_be_reproduced(run, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    (tmp_path / "void").mkdir()
    assert main(["reproduce"]) == 2
    assert main(["reproduce", str(tmp_path / "void")]) == 2
    assert main(["reproduce", str(run.path), "--keep", str(full)]) == 2
    assert main(["reproduce", str(run.path), "--keep", str(run.path / "again")]) == 2
    run.summary.write_text(json.dumps({"status": "interrupted", "metrics": {}}))
    assert main(["reproduce", str(run.path)]) == 2
    run.summary.unlink()
    assert main(["reproduce", str(run.path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    texts = ["one run", "no config.yaml", "--keep", "outside the run", "interrupted", "unfinished"]
    assert len(errors) == len(texts)
    for error, text in zip(errors, texts, strict=True):
        assert text in error


def test_a_warm_start_whose_weights_are_others_now_is_told(tmp_path, capsys):
    run = ["train", "data=iris", "model.depth=1", "trainer.max_epochs=1", "figures=false"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*run, f"hydra.run.dir={first}"]) == 0
    assert main([*run, f"warm_start={first}", f"hydra.run.dir={second}"]) == 0
    assert main(["reproduce", str(second)]) == 0
    shutil.rmtree(first)
    assert main([*run, "seed=1", f"hydra.run.dir={first}"]) == 0
    capsys.readouterr()
    assert main(["reproduce", str(second)]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"differs (recorded and now): best.ckpt of warm_start={first}: ")
