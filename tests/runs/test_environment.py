import json
import subprocess
from datetime import datetime, timedelta

import pytest

from unitgain.runs import environment, numerics_fingerprint


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git(tmp_path, "init")
    return tmp_path


def test_facts_versions_and_fingerprints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = environment("cpu", 2, "abc", {"isa": "AVX2"})
    assert (found["device"], found["threads"], found["isa"]) == ("cpu", 2, "AVX2")
    assert found["data_fingerprint"] == "abc"
    assert found["numerics_fingerprint"] == numerics_fingerprint("cpu", 2, {"isa": "AVX2"})
    assert {"torch", "lightning", "hydra-core", "torchmetrics", "numpy", "scikit-learn"} <= set(
        found["versions"]
    )
    assert found["versions"]["torch"]
    assert found["cpu"]
    assert datetime.fromisoformat(found["date"]).utcoffset() == timedelta(0)
    assert json.loads(json.dumps(found)) == found


def test_nothing_of_the_environment_variables_is_told(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789secret")
    assert "0123456789secret" not in json.dumps(environment("cpu", 1, "abc"))


def test_numerics_fingerprint_depends_on_what_changes_bits():
    one = numerics_fingerprint("cpu", 1, {"isa": "AVX2"})
    others = {
        numerics_fingerprint("cuda", 1, {"isa": "AVX2"}),
        numerics_fingerprint("cpu", 2, {"isa": "AVX2"}),
        numerics_fingerprint("cpu", 1, {"isa": "AVX512"}),
        numerics_fingerprint("cpu", 1),
    }
    assert len(others) == 4
    assert one not in others
    assert one == numerics_fingerprint("cpu", 1, {"isa": "AVX2"})


def test_no_git_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment("cpu", 1, "abc")["git"] is None


def test_no_git_program(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment("cpu", 1, "abc")["git"] is None


def test_no_commit_yet(repository):
    assert environment("cpu", 1, "abc")["git"] is None


def test_commit_and_dirty_flag(repository):
    file = repository / "file.py"
    file.write_text("a = 1\n")
    git(repository, "add", "file.py")
    git(repository, "commit", "-m", "first")
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "untracked.txt").touch()
    assert environment("cpu", 1, "abc")["git"] == {"commit": commit, "dirty": False}
    file.write_text("a = 2\n")
    assert environment("cpu", 1, "abc")["git"] == {"commit": commit, "dirty": True}


def test_a_slow_git_is_not_waited_for(repository, monkeypatch):
    def slow(*_, timeout, **__):
        raise subprocess.TimeoutExpired("git", timeout)

    monkeypatch.setattr(subprocess, "run", slow)
    assert environment("cpu", 1, "abc")["git"] is None
