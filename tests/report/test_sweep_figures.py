"""Figures of many runs: what is drawn, and the files."""

import numpy as np
import pytest

from unitgain.report import sweep_figures, views
from unitgain.report.page import Question
from unitgain.runs import read_runs

QUESTION = Question("test/accuracy", ["init", "model.depth"], higher=True)


def test_every_figure_is_written_for_print_and_screen(ablation, tmp_path):
    paths = sweep_figures.write_figures(read_runs([ablation]), QUESTION, tmp_path / "out", 1)
    names = {
        "curves",
        "heatmap_model_depth_init",
        "parallel",
        "effects",
        "gradients",
        "activations",
        "overview",
        "foretold",
    }
    assert {path.stem for path in paths} == names
    assert {path.suffix for path in paths} == {".pdf", ".svg", ".png"}
    starts = {".pdf": b"%PDF", ".svg": b"<?xml", ".png": b"\x89PNG"}
    assert all(path.read_bytes().startswith(starts[path.suffix]) for path in paths)


def test_the_same_runs_give_the_same_bytes(ablation, tmp_path):
    table = read_runs([ablation])
    first, second = (
        sweep_figures.write_figures(table, QUESTION, tmp_path / name, 2) for name in "ab"
    )
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


@pytest.mark.parametrize(("columns", "inches"), [(1, 3.35), (2, 6.9)])
def test_a_figure_is_as_wide_as_its_columns(ablation, columns, inches):
    shown = views.heatmap(read_runs([ablation]), "init", "model.depth", "test/accuracy")
    figure = sweep_figures.draw_heatmap(shown, columns)
    assert figure.get_size_inches()[0] == inches
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == [".710", ".510", ".810", ".510"]


def test_bands_are_drawn_around_the_means(ablation):
    table = read_runs([ablation])
    curves = views.curves(table, views.groups_of(table, ["init"]), "val/accuracy")
    [axes] = sweep_figures.draw_curves(curves, "val/accuracy").axes
    assert [line.get_label() for line in axes.lines] == ["he", "xavier"]
    for line, band, curve in zip(axes.lines, axes.collections, curves, strict=True):
        assert line.get_ydata() == pytest.approx(curve.mean_E)
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == pytest.approx(
            (curve.low_E.min(), curve.high_E.max())
        )


def test_the_tree_has_a_row_a_leaf_and_a_dot_a_run(ablation):
    found = views.effects(read_runs([ablation]), "test/accuracy", ["init", "model.depth"])
    shares, tree = sweep_figures.draw_effects(found).axes
    dots = [line for line in tree.lines if line.get_marker() == "o"]
    assert len(dots) == len(found.tree.leaves())
    assert sum(len(line.get_xdata()) for line in dots) == 12
    widths = [bar.get_width() for bar in shares.patches]
    assert sum(widths) == pytest.approx(1.0)


def test_colours_differ_in_lightness_or_hue_for_every_group():
    assert len(set(sweep_figures.COLOURS)) == len(sweep_figures.COLOURS) == views.MOST_GROUPS


def test_parallel_coordinates_end_at_the_metric(ablation):
    table = read_runs([ablation])
    shown = views.parallel(table, "test/accuracy", ["init", "model.depth"])
    axes = sweep_figures.draw_parallel(shown).axes[0]
    [lines] = axes.collections
    ends = np.array([path.vertices[-1, 1] for path in lines.get_paths()])
    value_N = table.frame["test/accuracy"].to_numpy()
    assert ends == pytest.approx((value_N - value_N.min()) / np.ptp(value_N))
