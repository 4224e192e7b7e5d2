"""Figures of many runs: what is drawn, and the files."""

import itertools

import numpy as np
import pytest

from unitgain.report import sweep_figures, views
from unitgain.report._style import COLOURS
from unitgain.report.page import Question
from unitgain.report.run_groups import MOST_GROUPS, RunGroup, groups_of
from unitgain.runs import read_runs

QUESTION = Question("test/accuracy", ["init", "model.depth"], higher=True)


def test_every_figure_is_written_for_print_and_screen(ablation, tmp_path):
    paths = sweep_figures.write_figures(read_runs([ablation]), QUESTION, tmp_path / "out", 1)
    names = {
        "curves",
        "heatmap_init_model_depth",
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
    curves = views.curves(table, groups_of(table, ["init"]), "val/accuracy")
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
    assert len(set(COLOURS)) == len(COLOURS) == MOST_GROUPS


def test_parallel_coordinates_end_at_the_metric(ablation):
    table = read_runs([ablation])
    shown = views.parallel(table, "test/accuracy", ["init", "model.depth"])
    axes = sweep_figures.draw_parallel(shown).axes[0]
    [lines] = axes.collections
    ends = np.array([path.vertices[-1, 1] for path in lines.get_paths()])
    value_N = table.frame["test/accuracy"].to_numpy()
    assert ends == pytest.approx((value_N - value_N.min()) / np.ptp(value_N))


def test_a_group_has_one_colour_in_every_panel(tmp_path, made):
    # The first group has gradients and no curve.
    optimizer = {"_target_": "unitgain.pack.optim.SGD", "lr": 1e30}
    made.write(tmp_path / "lost", optimizer=optimizer, epochs=0, status="diverged")
    for i, init in enumerate((made.he, made.xavier)):
        made.write(tmp_path / f"r{i}", init, seed=i)
    table = read_runs([tmp_path])
    groups = groups_of(table, ["optimizer", "init"])
    over, quantity = "val/accuracy", "grad_preactivation"
    curves = views.curves(table, groups, over)
    profiles = views.profiles(table, groups, [quantity])[quantity]
    assert (len(curves), len(profiles)) == (2, 3)
    means = views.heatmap(table, "init", "optimizer", "test/accuracy")
    _, middle, right, _ = sweep_figures.draw_overview(curves, means, profiles, over).axes
    of_gradients = {line.get_label(): line.get_color() for line in middle.lines}
    assert all(of_gradients[line.get_label()] == line.get_color() for line in right.lines)


def test_one_epoch_is_a_point_and_nothing_is_read_as_mathematics(tmp_path, made):
    made.write(tmp_path / "r", epochs=1, data={"_target_": "unitgain.data.sources.iris"})
    table = read_runs([tmp_path])
    curves = views.curves(table, [RunGroup("$a_1$, $b", (), [0])], "val/accuracy")
    figure = sweep_figures.draw_curves([*curves, *curves], "val/accuracy")
    figure.draw_without_rendering()
    [axes] = figure.axes
    assert {line.get_marker() for line in axes.lines} == {"o"}
    # Matplotlib takes the backslash away where it reads no mathematics.
    assert figure.legends[0].get_texts()[0].get_text() == r"\$a_1\$, \$b"


def test_further_rows_of_a_legend_take_nothing_from_the_panel(tmp_path, made):
    for depth in range(1, 10):
        made.write(tmp_path / f"d{depth}", depth=depth)
    table = read_runs([tmp_path])
    heights = []
    for most in (2, 9):
        groups = groups_of(table, ["model.depth"])[:most]
        figure = sweep_figures.draw_curves(
            views.curves(table, groups, "val/accuracy"), "val/accuracy"
        )
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height / figure.dpi)
    assert heights[1] == pytest.approx(heights[0], abs=0.12)


def test_runs_without_a_value_have_the_figures_that_need_none(tmp_path, made):
    for depth in (2, 8):
        made.write(tmp_path / "runs" / f"d{depth}", depth=depth, epochs=0, status="diverged")
    table = read_runs([tmp_path / "runs"])
    question = Question("val/loss", ["model.depth"], higher=False)
    paths = sweep_figures.write_figures(table, question, tmp_path / "out")
    assert {path.stem for path in paths} == {"activations", "foretold", "gradients"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4917, ".492"), (1.0990, "1.10"), (-0.25, "-0.25"), (0.99996, "1.00"), (4e-5, "4e-05"),
     (123.4, "123"), (1234.5, "1.23e+03"), (0.0, "0")],
)  # fmt: skip
def test_a_cell_has_three_digits(value, text):
    shown = views.Heatmap("loss", "a", "b", ["1"], ["1"], np.array([[value]]), np.array([[1]]))
    assert sweep_figures.draw_heatmap(shown).axes[0].texts[0].get_text() == text


def test_a_heatmap_of_many_levels_fits_a_page():
    levels = [str(i) for i in range(24)]
    shown = views.Heatmap("loss", "a", "b", ["1"], levels, np.ones((24, 1)), np.ones((24, 1), int))
    figure = sweep_figures.draw_heatmap(shown)
    assert figure.get_size_inches()[1] < 6
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(not one.overlaps(other) for one, other in itertools.pairwise(boxes))
