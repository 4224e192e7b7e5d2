"""``unitgain ensemble``: a sweep's runs as one model."""

import json

import pytest
import torch

from unitgain.cli import main
from unitgain.spec import parse
from unitgain.train import fit


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    specs = [
        parse(
            {
                "seed": seed,
                "model": {"_target_": "unitgain.nn.MLP", "depth": 1, "width": 8},
                "data": {"_target_": "unitgain.data.sources.wine", "task": "classification"},
                "optimizer": {"_target_": "unitgain.pack.optim.Adam", "lr": 0.02},
                "trainer": {"max_epochs": 4, "accelerator": "cpu", "progress": False},
                "probe": {"every": None},
                "figures": False,
            }
        )
        for seed in range(3)
    ]
    fit(specs, [folder / str(k) for k in range(3)])
    return folder


@pytest.mark.parametrize("columns", ["80", "120"])
def test_an_ensemble_is_shown_and_saved(sweep, capsys, monkeypatch, columns, tmp_path):
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["ensemble", str(sweep), "--out", str(tmp_path / "made"), "--bags", "4"]) == 0
    text = capsys.readouterr().out
    table = text[text.index("test  ") :].splitlines()
    assert table[0].split() == [
        "test",
        "best",
        "run",
        "ensemble",
        "difference",
        "95",
        "%",
        "interval",
    ]
    assert max(len(line) for line in text.splitlines()) <= int(columns)
    assert "of 3 runs, with weights: " in text
    content = json.loads((tmp_path / "made" / "ensemble.json").read_text())
    assert set(content["test"]) >= {"loss", "accuracy"}
    module = torch.export.load(tmp_path / "made" / "ensemble.pt2").module()
    assert module(torch.zeros(5, 13)).shape == (5, 3)


def test_it_goes_into_the_sweep_and_the_sweep_can_be_read_again(sweep, capsys):
    assert main(["ensemble", str(sweep), "--bags", "1", "--metric", "val/accuracy"]) == 0
    assert (sweep / "ensemble" / "ensemble.pt2").is_file()
    first = (sweep / "ensemble" / "ensemble.json").read_bytes()
    assert main(["ensemble", str(sweep), "--bags", "1", "--metric", "val/accuracy"]) == 0
    assert (sweep / "ensemble" / "ensemble.json").read_bytes() == first
    assert "val/accuracy, which chose them: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "unitgain ensemble: must be given the folder of one sweep, got nothing; write "),
        (["{sweep}", "--size", "0"], "--size: must be 1 or more, got 0; 25 is usual"),
        (["{sweep}", "--bags", "0"], "--bags: must be 1 or more, got 0; 20 is usual"),
        (["{sweep}", "--level", "2"], "--level: must be between 0 and 1, got 2; 0.95 is usual"),
        (["{sweep}", "--seed", "-2"], "--seed: must be 0 or more, got -2; 0 is usual"),
        (["{sweep}", "--metric", "test/loss"], "--metric: must be one of validation rows, got "),
        (["{sweep}", "--metric", "val/r2"], "--metric: must be one of val/loss, val/accuracy"),
        (["{sweep}", "--out", "{sweep}/0/config.yaml"], "--out: must be a folder, but "),
        (["{sweep}/0"], "{sweep}/0: must hold two finished runs or more, but holds 1; "),
        (["{sweep}/none"], "{sweep}/none: must be a folder with runs, but there is no such folder"),
        (["{sweep}", "--best"], "--best: no such option; see unitgain ensemble --help"),
    ],
)
def test_what_can_not_be_is_one_line(sweep, capsys, arguments, line):
    assert main(["ensemble", *(each.format(sweep=sweep) for each in arguments)]) == 2
    [error] = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {line.format(sweep=sweep)}")
