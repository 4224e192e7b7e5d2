"""A run is trained by one process, whatever else was started beside it."""

import pytest

from unitgain.cli import main
from unitgain.train import fit

SWEEP = "leave torchrun out, and spread a sweep by hydra/launcher=packed"
ALONE = "set trainer=ddp to train the run in all of them, or leave torchrun out"


@pytest.mark.parametrize(
    ("mode", "remedy"),
    [
        (["-m", "seed=1,2"], SWEEP),
        (["-m", "hydra/launcher=packed"], SWEEP),
        (["-m", "trainer=ddp"], SWEEP),
        ([], ALONE),
    ],
)
def test_torchrun_is_refused(tmp_path, monkeypatch, capsys, mode, remedy):
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", *mode]) == 2
    assert capsys.readouterr().err == (
        "error: unitgain train: must be started as one process, but torchrun started 2, each of "
        f"which would train everything; {remedy}\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_each_task_of_slurm_is_a_process_by_itself(tmp_path, monkeypatch, desk):
    tasks = {"NTASKS": "4", "JOB_NAME": "sweep", "JOB_ID": "7", "PROCID": "1", "LOCALID": "1"}
    for name, value in tasks.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    [result] = fit([desk.spec()], [tmp_path / "run"])
    assert result.status == "finished"


def test_where_slurm_is_there_a_run_by_hand_warns_of_nothing(tmp_path, monkeypatch, desk):
    srun = tmp_path / "srun"
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    [result] = fit([desk.spec()], [tmp_path / "run"])  # a warning is an error in tests
    assert result.status == "finished"
