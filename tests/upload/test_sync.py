"""``unitgain sync``: runs uploaded later, again, and completed."""

import json

import pytest

from unitgain.cli import main
from unitgain.runs import read_metrics

OFFLINE = {"mode": "offline"}


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No process follows, and paths are short."""
    monkeypatch.delenv("UNITGAIN_UPLOADS", raising=False)
    monkeypatch.chdir(tmp_path)


def epochs(run):
    return [row["epoch"] for row in run.rows if "epoch" in row]


def test_offline_runs_are_uploaded_once_and_completed_when_they_have_grown(
    train, peer, stop_at, capsys
):
    done = train("sweep/a", logger=OFFLINE, name="first")
    cut = train("sweep/b", logger=OFFLINE, watch=stop_at(14))
    assert main(["sync", "sweep"]) == 0
    runs = {run.settings["displayName"]: run for run in peer.runs.values()}
    assert epochs(runs["first"]) == [0, 1, 2]
    assert epochs(runs["b"]) == [0, 1]
    assert (runs["first"].exit_codes, runs["b"].exit_codes) == ([0], [1])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["sweep/a", "sweep/b"]
    assert all(line.split()[1].startswith(peer.url) for line in lines)

    peer.operations.clear()
    assert main(["sync", str(done.directory), str(cut.directory)]) == 0
    assert capsys.readouterr().out == "2 of 2 runs are uploaded already\n"
    assert not peer.operations

    train("sweep/b", logger=OFFLINE, resume=True)
    assert main(["sync", "sweep"]) == 0
    assert capsys.readouterr().out.startswith("1 of 2 runs are uploaded already\nsweep/b  ")
    assert len(peer.runs) == 2
    assert epochs(runs["b"]) == [0, 1, 2]
    assert runs["b"].exit_codes == [1, 0]
    assert epochs(runs["first"]) == [0, 1, 2]


def test_a_multirun_can_be_one_run_with_a_series_a_member(spec, train, peer, stop_at, tmp_path):
    from unitgain.train import fit

    specs = [spec(OFFLINE, seed=seed) for seed in range(2)]
    folders = [tmp_path / "sweep" / name for name in "ab"]
    typed = [["data=iris", f"seed={seed}"] for seed in range(2)]
    fit(specs, folders, overrides=typed, watch=stop_at(14))
    assert main(["sync", "--as-one", "sweep"]) == 0
    run = peer.run
    assert run.settings["jobType"] == "multirun"
    assert run.values["members"] == {"seed=0": typed[0], "seed=1": typed[1]}
    assert run.exit_codes == [1]
    fit(specs, folders, resume=True)
    assert main(["sync", "--as-one", "sweep"]) == 0
    assert main(["sync", "--as-one", "sweep"]) == 0
    assert run.exit_codes == [1, 0]
    for name, folder in zip(("seed=0", "seed=1"), folders, strict=True):
        metrics = read_metrics(folder / "metrics.csv")
        series = [row for row in run.rows if f"{name}/epoch" in row]
        assert [row["epoch"] for row in series] == metrics["epoch"].tolist() == [0, 1, 2]
        assert [row[f"{name}/val/loss"] for row in series] == metrics["val/loss"].tolist()
    *_, last = [row["members"] for row in run.rows if "members" in row]
    table = json.loads(run.files[last["path"]])
    status = table["columns"].index("status")
    assert [[row[0], row[status]] for row in table["data"]] == [
        ["seed=0", "finished"],
        ["seed=1", "finished"],
    ]


def test_a_lost_marker_of_what_is_there_duplicates_nothing(train, peer, monkeypatch):
    # What keeps training offline doesn't keep what one asks for oneself from being done.
    monkeypatch.setenv("WANDB_MODE", "offline")
    result = train(logger=OFFLINE)
    assert main(["sync", "run"]) == 0
    path = result.directory / "wandb.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"uploaded": None, "figures": {}}))
    assert main(["sync", "run"]) == 0
    assert epochs(peer.run) == [0, 1, 2]


def test_what_a_dead_server_did_not_take_is_uploaded_later(train, peer, monkeypatch, capsys):
    monkeypatch.setenv("UNITGAIN_UPLOAD_TIMEOUT", "3")
    result = train(logger=OFFLINE)
    peer.fault, peer.only = "hang", "file_stream"
    assert main(["sync", "run"]) == 1
    error = capsys.readouterr().err
    assert "error: run: not uploaded (" in error
    assert "error: W&B: 1 of 1 runs are left; the same command goes on with them" in error
    assert not peer.run.history
    peer.fault = None
    monkeypatch.setenv("UNITGAIN_UPLOAD_TIMEOUT", "30")
    assert main(["sync", "run"]) == 0
    assert epochs(peer.run) == read_metrics(result.directory / "metrics.csv")["epoch"].tolist()


def test_one_damaged_run_leaves_the_others_alone(train, peer, capsys):
    train("a", logger=OFFLINE)
    bad = train("b", logger=OFFLINE)
    (bad.directory / "gradients.parquet").write_bytes(b"PAR1")
    assert main(["sync", "a", "b"]) == 1
    said = capsys.readouterr()
    assert (
        "error: b: not uploaded (DataError: gradients.parquet must be as the run left it"
        in said.err
    )
    assert said.out.startswith("a  http")


def test_a_run_that_was_trained_without_wandb_can_be_uploaded(spec, peer, tmp_path):
    from unitgain.train import fit

    plain = spec(tags=["t"]).model_copy(update={"logger": {}})
    fit([plain], [tmp_path / "run"])
    assert main(["sync", "--project", "mine", "--entity", "team", "run"]) == 0
    settings = peer.run.settings
    assert (settings["project"], settings["entity"], settings["tags"]) == ("mine", "team", ["t"])
    assert epochs(peer.run) == [0, 1, 2]


def test_without_a_key_nothing_is_tried(train, peer, monkeypatch, capsys):
    train(logger=OFFLINE)
    monkeypatch.delenv("WANDB_API_KEY")
    assert main(["sync", "run"]) == 2
    assert (
        capsys.readouterr().err
        == f"error: W&B: needs a key for {peer.url}, and there is none; run wandb login, "
        "or set WANDB_API_KEY\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: unitgain sync: must be given run directories; write unitgain sync RUN\n"),
        (["no"], "error: no: must be a run directory, but there is no such folder\n"),
        (["."], "error: .: must be a run directory, but has no config.yaml\n"),
        (["--jobs", "0", "."], "error: --jobs: must be at least 1, got 0\n"),
    ],
)
def test_what_is_no_run_is_one_line(arguments, message, capsys):
    assert main(["sync", *arguments]) == 2
    assert capsys.readouterr().err == message


def test_a_damaged_wandb_json_says_what_to_do(train, peer, capsys):
    result = train(logger=OFFLINE)
    (result.directory / "wandb.json").write_text("{")
    assert main(["sync", "run"]) == 2
    assert "wandb.json must say which W&B run a directory is" in capsys.readouterr().err
