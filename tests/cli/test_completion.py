import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import unitgain
from unitgain.cli import main


def query(monkeypatch, capsys, line):
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["train", "-sc", "query=bash"]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unitgain tr", ["train"]),
        ("unitgain --v", ["--version"]),
        ("unitgain train optimizer=ada", ["optimizer=adam", "optimizer=adamw"]),
        ("unitgain train init@output_init=or", ["init@output_init=orthogonal"]),
        ("unitgain train -m seed=1 model.d", ["model.depth="]),
        ("unitgain train optimizer=sgd optimizer.mo", ["optimizer.momentum="]),
        ("unitgain train optimizer.mo", []),
        ("unitgain predict init=xa", ["init=xavier"]),
        ("unitgain doctor init=xa", ["init=xavier"]),
        ("unitgain evaluate ru", []),
    ],
)
def test_what_may_follow(monkeypatch, capsys, line, expected):
    assert query(monkeypatch, capsys, line) == expected


def test_everything_may_follow_a_space(monkeypatch, capsys):
    assert {"train", "evaluate", "resume"} <= set(query(monkeypatch, capsys, "unitgain "))
    assert {"seed=", "optimizer=", "model."} <= set(query(monkeypatch, capsys, "unitgain train "))


def test_another_request_is_refused(capsys):
    assert main(["train", "-sc", "install=fish"]) == 2
    assert capsys.readouterr().err == (
        "error: -sc: must be followed by install=bash or uninstall=bash, got install=fish\n"
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes(tmp_path):
    shim = tmp_path / "unitgain"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m unitgain "$@"\n')
    shim.chmod(0o755)
    script = """
        eval "$(unitgain train -sc install=bash)"
        complete -p unitgain | grep -o -e "-F.*"
        COMP_LINE="unitgain train init=xa data" COMP_POINT=22 COMP_CWORD=2
        COMP_WORDS=(unitgain train init=xa data)
        _unitgain_completion
        echo "${COMPREPLY[@]}"
        eval "$(unitgain train -sc uninstall=bash)"
        complete -p unitgain || echo gone
    """
    source = str(Path(unitgain.__file__).parents[1])
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": source}
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.splitlines() == [
        "-F _unitgain_completion unitgain",
        "init=xavier",
        "gone",
    ]
