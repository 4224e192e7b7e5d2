"""`unitgain doctor`: what it prints, and that what it writes trains and is healthy."""

import json

import pytest

from unitgain.cli import main
from unitgain.cli._healed import MARK
from unitgain.runs import RunDirectory
from unitgain.spec import parse, run_hash

SICK = ["activation=tanh", "init=mean_field", "init.sigma_w=4", "model.depth=20", "model.width=32"]
QUICK = ["trainer.max_epochs=4", "trainer.progress=false", "figures=false"]


def trained(tmp_path, *arguments):
    """The one run that a command leaves in a folder of its own."""
    folder = tmp_path / f"runs-{len(list(tmp_path.glob('runs-*')))}"
    assert main(["train", *arguments, *QUICK, f"hydra.run.dir={folder}"]) == 0
    return RunDirectory(folder)


def test_a_configuration(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["doctor", *SICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    text = "\n".join(lines)
    assert lines[1].startswith("tanh with mean_field: 20 hidden layers of 32, a batch of 64 from")
    assert "gradients explode" in text
    assert "chaotic, chi_1 = " in text
    rows = [line.split() for line in lines if line[:6].strip().isdigit()]
    assert rows[0][0] == "1"
    assert rows[-1][0] == "20"
    assert len(rows) == 9
    [row] = [line.split() for line in lines if line.startswith("init=critical  ")]
    assert row[-1] == "heals"
    assert abs(float(row[1])) < 0.02
    command = lines[-1].strip()
    wanted = "activation=tanh model.depth=20 model.width=32 init=critical"
    assert command == f"unitgain train {wanted}"
    assert max(len(line.rstrip()) for line in lines[:-1]) <= 80


def test_a_healthy_one_needs_nothing(capsys):
    assert main(["doctor", "--apply"]) == 0
    captured = capsys.readouterr()
    assert "gradients flow" in captured.out
    assert "what was tried" not in captured.out
    assert captured.err == "\nthere is nothing to heal: no file was written\n"


@pytest.mark.parametrize("target", [SICK, ["experiment=exploding_tanh", "model.width=32"]])
def test_what_is_written_trains_and_is_healthy(target, capsys, tmp_path):
    assert main(["doctor", *target, "--apply"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].split()
    assert command == ["unitgain", "train", "--config-dir", ".", "--config-name", "healed"]
    text = (tmp_path / "healed.yaml").read_text()
    assert text.startswith(MARK)
    assert "override /init: critical" in text
    assert "sigma_w" not in text.partition("defaults:")[2]

    run = trained(tmp_path, *command[2:])
    summary = run.read_summary()
    assert summary["verdict"]["label"] == "healthy"
    assert summary["forecast"]["label"] == "healthy"
    spec = parse(run.read_config())
    assert spec.model.width == 32
    assert spec.init.target == "unitgain.nn.init.critical"


def test_a_run_directory_and_its_configuration(capsys, tmp_path):
    run = trained(tmp_path, *SICK)
    capsys.readouterr()
    assert main(["doctor", str(run.path), "--apply", "mended.yaml"]) == 0
    text = capsys.readouterr().out
    assert "the run finished; gradients explode" in " ".join(text.split())
    healed = trained(tmp_path, "--config-dir", ".", "--config-name", "mended")
    assert healed.read_summary()["verdict"]["label"] == "healthy"
    assert "override /init" in (tmp_path / "mended.yaml").read_text()

    # The configuration alone doesn't say what was typed: then every key is written out.
    assert main(["doctor", str(run.config), "--apply", "whole.yaml"]) == 0
    content = (tmp_path / "whole.yaml").read_text()
    assert "override /init" not in content
    again = trained(tmp_path, "--config-dir", ".", "--config-name", "whole")
    assert run_hash(parse(again.read_config())) == run_hash(parse(healed.read_config()))


def test_json(capsys):
    assert main(["doctor", "--json", "--seeds", "1", "--sharpness", *SICK]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["verdict"]["label"] == "exploding"
    assert content["measured"]["seeds"] == 1
    assert content["measured"]["error"] is None
    assert len(content["measured"]["grad_preactivation"]) == 21
    assert abs(content["predicted"]["slope"] - content["measured"]["slope"]) < 0.03
    assert content["proposals"][0]["heals"] is True
    assert content["sharpness"] > 0


MODEL = """
from torch import nn


def deep():
    return nn.Sequential(*[p for _ in range(20) for p in (nn.Linear(32, 32), nn.ReLU())], nn.Linear(32, 1))
"""


def test_a_module_of_ones_own(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "own_deep_model.py").write_text(MODEL)
    assert main(["doctor", "own_deep_model.py:deep"]) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[1].startswith("deep: 21 layers")
    assert "gradients vanish" in text
    assert "nn.init.normal_(layer.weight, std=1.414 * layer.weight[0].numel() ** -0.5)" in text

    # By its dotted name it must be allowed, as in a configuration.
    assert main(["doctor", "own_deep_model:deep"]) == 2
    assert "must lie under unitgain" in capsys.readouterr().err
    monkeypatch.setenv("UNITGAIN_ALLOW", "own_deep_model")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["doctor", "own_deep_model:deep", "--input", "32"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nowhere"],
            "nowhere: must be a run directory, a .yaml file, overrides or module:Name, but ",
        ),
        (["nowhere.yaml"], "nowhere.yaml: must be a configuration in YAML, but: "),
        (["model.dept=3"], "model.dept: no such key, got 3; did you mean model.depth? "),
        (["model.depth=0"], "model.depth: must be at least 1 and at most 10000, got 0"),
        (["--fast"], "--fast: no such option; see unitgain doctor --help"),
        (["--seeds", "0"], "--seeds: must be whole numbers of at least 1, got 0"),
        (["--input", "3"], "--input: is for modules of your own; set data=... instead"),
        (["m.py:f", "--seeds", "3"], "--seeds: is for configurations, but m.py:f is none"),
        (["m.py:f", "--apply"], "--apply: writes a configuration, which a module of your own has"),
        (
            ["--apply", "no/such.yaml"],
            "--apply: must name a file in a folder that exists, got no/s",
        ),
        (["--apply", "mine.yaml"], "--apply: must name a file that isn't there yet, but mine.yaml"),
        (["empty"], "empty: must be a run directory, but has no config.yaml"),
        (["defaults.yaml"], "defaults.yaml: must be a whole configuration, as in a run's config."),
    ],
)
def test_a_slip_is_one_line(arguments, message, capsys, tmp_path):
    (tmp_path / "mine.yaml").write_text("mine: 1\n")
    (tmp_path / "defaults.yaml").write_text("defaults: [train]\n")
    (tmp_path / "empty").mkdir()
    assert main(["doctor", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {message}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_nothing_that_heals_writes_nothing(capsys, tmp_path, monkeypatch):
    from unitgain.train import run_diagnosis

    monkeypatch.setattr(run_diagnosis, "remedies", lambda spec, **facts: [])
    assert main(["doctor", *SICK, "--apply"]) == 1
    captured = capsys.readouterr()
    assert "No change is known that would heal this network." in captured.out
    assert captured.err == "\nnothing that was tried heals it: no file was written\n"
    assert not (tmp_path / "healed.yaml").exists()
