import pytest

import unitgain
from unitgain.cli import main
from unitgain.cli._main import COMMANDS


def test_help_lists_every_command(capsys):
    assert main([]) == 0
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("train", "evaluate", "resume", "--version", "UNITGAIN_ALLOW", "HYDRA_FULL_ERROR"):
        assert name in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"unitgain {unitgain.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["trian"],
            "error: trian: no such command; did you mean train? commands: "
            f"{', '.join(command.name for command in COMMANDS)}\n",
        ),
        (
            ["model.depth=3"],
            "error: model.depth=3: must come behind a command; "
            "did you mean unitgain train model.depth=3?\n",
        ),
        (["train", "--mutlirun"], "error: --mutlirun: no such option; did you mean --multirun?\n"),
        (
            ["train", "-m", "--cfg", "job"],
            "error: --multirun and --cfg: only one of them can be given\n",
        ),
        (
            ["train", "--cfg", "jb"],
            "error: --cfg/-c: invalid choice: 'jb' (choose from 'job', 'hydra', 'all', 'plan')\n",
        ),
        (["train", "--resolve"], "error: --resolve: needs --cfg or --help beside it\n"),
        (
            ["train", "--config-dir", "nowhere"],
            "error: --config-dir: must be a folder that exists, got nowhere\n",
        ),
        (
            ["train", "--cfg", "job", "-p", "optimzer"],
            "error: --package: no such key, got optimzer\n",
        ),
    ],
)
def test_a_slip_is_one_line(arguments, expected, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err == expected
    assert captured.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "-sc", "install=bash"],
        ["train", "-sc", "query=bash"],
        ["train", "--cfg", "job"],
        ["train", "model.depth=0"],
        ["train", "modle.depth=3", "init=hee"],
        ["train", "-m", "model.depth=0,1"],
        ["evaluate", "nowhere"],
        ["evaluate", "--help"],
        ["doctor", "--help"],
        ["doctor", "--fast"],
        ["doctor", "model.depth=0"],
        ["doctor", "os.path:join"],
        ["study", "--help"],
        ["study", "nowhere"],
    ],
    ids=" ".join,
)
def test_what_comes_before_training_imports_nothing_heavy(arguments, program):
    done = program(
        "import sys\n"
        "from unitgain.cli import main\n"
        f"main({arguments!r})\n"
        "heavy = ('torch', 'lightning', 'sklearn', 'pandas', 'matplotlib', 'wandb')\n"
        "sys.exit(str([name for name in heavy if name in sys.modules]))\n",
        COMP_LINE="unitgain train init=",
    )
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]], ids=" ".join)
def test_what_only_shows_the_configuration_does_not_import_the_schema(arguments, program):
    done = program(
        "import sys\n"
        "from unitgain.cli import main\n"
        f"main(['train', *{arguments!r}])\n"
        "sys.exit('pydantic' in sys.modules)\n"
    )
    assert done.returncode == 0


def test_it_runs_as_a_module_too(command):
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"unitgain {unitgain.__version__}\n")


def test_a_warning_is_a_line(command, tmp_path):
    rows = "".join(f"{i},{i},{i % 3}\n" for i in range(9))
    (tmp_path / "copies.csv").write_text("a,b,y\n" + rows)
    given = ["data.path=copies.csv", "data.target_column=y", "data.task=regression"]
    done = command("train", "data=csv", *given, "data.batch_size=100")
    warning, error = done.stderr.splitlines()
    assert warning.startswith("warning: copies.csv: columns 'a' and 'b' are the same in all 9 rows")
    assert error.startswith("error: copies.csv: training needs at least one full batch")


def test_what_is_unexpected_shows_its_traceback(monkeypatch, capsys, train):
    train.ending = lambda spec: RuntimeError("a bug")
    assert main(["train"]) == 1
    text = capsys.readouterr().err
    assert "Traceback" in text
    assert text.endswith("RuntimeError: a bug\n")


def test_ctrl_c_is_130(capsys, train):
    train.ending = lambda spec: KeyboardInterrupt()
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
