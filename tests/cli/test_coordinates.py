"""``unitgain coordinate-check``."""

import pytest

from unitgain.cli import main

QUICK = ("--widths", "8,16,32", "--steps", "2", "--seeds", "1", "data=iris", "model.depth=2")


def test_it_prints_slopes_and_draws_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["coordinate-check", *QUICK, "init=spectral", "init.base_width=8"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["width", "8", "16", "32", "slope", "(untrained)"] in rows
    [output] = [row for row in rows if row[:1] == ["output"]]
    assert len(output) == 6
    assert "figure  coordinate_check.png" in out
    assert (tmp_path / "coordinate_check.png").read_bytes().startswith(b"\x89PNG")


def test_it_says_what_grows(tmp_path, capsys):
    path = tmp_path / "a" / "check.svg"
    flags = ("--widths", "16,64,256", "--seeds", "2", "--plot", str(path))
    assert main(["coordinate-check", *flags, "data=iris", "model.depth=3"]) == 0
    out = capsys.readouterr().out
    assert "learns grows with the width, slope +" in out
    assert "try init=spectral" in out
    assert path.read_text().lstrip().startswith("<?xml")


def test_what_gets_no_gradient_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["coordinate-check", *QUICK, "init=zeros", "model.bias=false"])
    assert "nothing changes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--widths", "64"], "--widths: must be at least two, got 64; give 64,256"),
        (["--widths", "64,x"], "--widths: must be a whole number above 0, got x"),
        (["--steps", "0"], "--steps: must be a whole number above 0, got 0"),
        (["--widths"], "--widths: expected one argument; give one"),
        (["--plot", "a.pdf"], "--plot: must be a path that ends in .png or .svg, got a.pdf"),
        (["model.depth=0"], "model.depth: must be at least 1 and at most 10000, got 0"),
        (
            ["model.depth=2", "model.width=[8,8]"],
            "model.width: must be one number, which is replaced by --widths, got [8, 8]; leave it out",
        ),
        (["--width", "64"], "--width: no such option"),
    ],
)
def test_mistakes_are_lines(arguments, line, capsys):
    assert main(["coordinate-check", *arguments]) == 2
    assert f"error: {line}" in capsys.readouterr().err


def test_help_is_quick_and_says_what_it_takes(capsys):
    assert main(["coordinate-check", "--help"]) == 0
    out = capsys.readouterr().out
    assert "usage: unitgain coordinate-check" in out
    assert "--widths" in out
