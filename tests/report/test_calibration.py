"""The reliability diagram: each curve's bins where they belong, told apart without colours."""

import numpy as np
import pytest

from unitgain.report.calibration import calibration_figure, curve_look, draw_calibration

BINS = [
    {"share": 0.25, "confidence": 0.6, "accuracy": 0.5},
    {"share": 0.75, "confidence": 0.9, "accuracy": 1.0},
]
CURVES = [
    {"part": "validation", "weights": "nothing", "ece": 0.1, "bins": BINS},
    {"part": "validation", "weights": "inputs", "ece": 0.2, "bins": BINS[1:]},
    {"part": "target", "weights": "nothing", "ece": 0.3, "bins": BINS},
]


def test_bins_stand_at_their_confidence_and_accuracy():
    figure = draw_calibration(CURVES)
    left, right = figure.axes
    for curve, dots in zip(CURVES, left.collections, strict=True):
        points = [[b["confidence"], b["accuracy"]] for b in curve["bins"]]
        assert np.asarray(dots.get_offsets()) == pytest.approx(np.array(points))
    small, large = left.collections[0].get_sizes()
    assert small < large
    assert right.lines[0].get_ydata().tolist() == [0.0, 0.25, 1.0, 1.0]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[1:] == [
        "validation, weighted by inputs: calibration error 0.200",
        "target: calibration error 0.300",
    ]


def test_curves_differ_in_more_than_colour():
    for part in zip(*map(curve_look, CURVES), strict=True):
        assert len(set(part)) == 3


def test_files(tmp_path):
    paths = calibration_figure(CURVES[2:], tmp_path)
    assert [path.name for path in paths] == ["calibration.png", "calibration.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
