import json

import pytest

from unitgain.cli import main

TANH = [
    "activation=tanh",
    "init=mean_field",
    "init.sigma_w=1.58",
    "init.sigma_b=0.22",
    "model.depth=50",
]


def output(capsys, *arguments):
    assert main(["predict", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [80, 120])
def test_what_it_prints(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    text = output(capsys, *TANH)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= columns
    for row in (
        "tanh with mean_field: 50 hidden layers of 64 units",
        "phase             chaotic",
        "q*                1.059",
        "chi_1             1.134",
        "xi_c              11.8 layers",
        "trainable depth   70.9 layers",
        "slope             +0.0269",
        "first to last     16.33",
        "gradients explode mildly: layer 1 gets 16 of layer 50's, 1.32 decades more",
        "init.sigma_w=1.324 ",
        "init=critical init.distribution=orthogonal",
        "norm=layer ",
        "model.residual=true model.branch_scale=0.5",
    ):
        assert row in text
    assert ("critical at sigma_b = 0.22" in text) == (columns == 120)


def test_a_healthy_network_needs_no_remedy(capsys):
    text = output(capsys)
    assert "gradients flow" in text
    assert "heals" not in text


def test_where_theory_is_silent(capsys):
    text = output(capsys, "init=constant")
    assert "no verdict" in text
    assert "keeps all units of a layer equal" in text
    assert "chi_1" not in text


def test_numbers_for_scripts(capsys):
    content = json.loads(output(capsys, *TANH, "--json"))
    assert content["label"] == "exploding"
    assert content["slope"] == pytest.approx(0.02686, abs=1e-5)
    assert len(content["log10_gradient_L"]) == 51
    assert content["remedies"][0]["overrides"] == ["init.sigma_w=1.324"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["model.depth=0"],
        ["modle.depth=3", "init=hee"],
        ["model.depth=1,2"],
        ["norm=batch", "data.batch_size=1"],
        ["--config-dir", "nowhere"],
        ["--mutlirun"],
    ],
    ids=" ".join,
)
def test_errors_are_those_of_train(capsys, arguments):
    assert main(["predict", *arguments]) == 2
    lines = capsys.readouterr().err
    assert main(["train", *arguments]) == 2
    assert capsys.readouterr().err == lines


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-m"], "--multirun: belongs to unitgain train; leave it out here"),
        (["--cfg", "job"], "--cfg: belongs to unitgain train; leave it out here"),
        (["--plot", "a.jpg"], "--plot: must be a path that ends in .png or .svg, got a.jpg"),
        (["--plot="], "--plot: must be a path that ends in .png or .svg, got nothing"),
        (
            ["--plot", "file/a.png"],
            "--plot: must be in a folder, but file is a file",
        ),
    ],
)
def test_flags_that_have_no_use(capsys, tmp_path, arguments, line):
    (tmp_path / "file").touch()
    assert main(["predict", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_the_figure(capsys, tmp_path):
    text = output(capsys, "--plot", *TANH)
    assert text.splitlines()[-1] == "figure  forecast.png"
    assert (tmp_path / "forecast.png").read_bytes().startswith(b"\x89PNG")
    assert "figure" not in output(capsys, "--json", "--plot", "deep/er.svg", "norm=layer")
    assert (tmp_path / "deep" / "er.svg").read_text().startswith("<?xml")


def test_null_options_and_help(capsys):
    assert "relu with he" in output(capsys, "bias_init=null")
    text = output(capsys, "--help")
    assert "--plot" in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_neither_torch_nor_data_is_loaded(program, tmp_path):
    done = program(
        "import sys\n"
        "from unitgain.cli import main\n"
        "main(['predict', 'activation=tanh', 'norm=batch', 'data=csv', 'data.path=nowhere.csv',"
        " 'data.target_column=[y]', 'data.task=regression'])\n"
        "heavy = ('torch', 'lightning', 'sklearn', 'pandas', 'matplotlib', 'wandb', 'scipy')\n"
        "sys.exit(str([name for name in heavy if name in sys.modules]))\n"
    )
    assert "tanh with he, batch norm" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"
    assert not list(tmp_path.iterdir())
