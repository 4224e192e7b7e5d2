import matplotlib as mpl
import numpy as np
import pytest

from unitgain.errors import DataError
from unitgain.report import draw_gradient_flow, gradient_flow_figure
from unitgain.report._gradient_flow import choose_records
from unitgain.runs import GradientsWriter, RunDirectory, read_gradients

SUMMARY = {
    "status": "finished",
    "steps_per_epoch": 20,
    "verdict": {"label": "vanishing", "text": "vanishing: 0.15 decades a layer", "slope": 0.15},
}


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "run", durable=False).create()


def write(run, value_SL, second="update_ratio", every=10):
    steps = np.arange(len(value_SL)) * every
    quantities = {"grad_preactivation": value_SL}
    if second:
        quantities[second] = np.asarray(value_SL) * 1e-2
    writer = GradientsWriter(run.gradients, durable=False)
    writer.append(steps.tolist(), quantities)
    writer.flush()
    return read_gradients(run.gradients)


def fading(steps, layers):
    return (
        10.0 ** (0.15 * (np.arange(layers) - layers)) * np.exp(-np.arange(steps) / steps)[:, None]
    )


def curves(axes):
    return [line for line in axes.lines if line.get_linestyle() == "-"]


def marks(axes):
    return {
        line.get_label(): line.get_xdata().tolist()
        for line in axes.lines
        if line.get_label() in ("zero", "infinite", "not a number")
    }


def test_writes_both_files_into_the_run(run):
    write(run, fading(12, 51))
    run.write_summary(SUMMARY)
    png, svg = gradient_flow_figure(run.path)
    assert (png, svg) == (
        run.figures_dir / "gradient_flow.png",
        run.figures_dir / "gradient_flow.svg",
    )
    content = png.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert int.from_bytes(content[16:20]) > 1500
    assert svg.read_text().startswith("<?xml")


def test_the_same_run_gives_the_same_bytes_and_leaves_settings_alone(run, monkeypatch):
    write(run, fading(12, 4))
    before = [path.read_bytes() for path in gradient_flow_figure(run.path)]
    settings = dict(mpl.rcParams)
    monkeypatch.setitem(mpl.rcParams, "lines.linestyle", ":")
    assert [path.read_bytes() for path in gradient_flow_figure(run.path)] == before
    assert mpl.rcParams["lines.linestyle"] == ":"
    monkeypatch.undo()
    assert dict(mpl.rcParams) == settings


def test_lines_show_the_recorded_norms_on_a_log_scale(run):
    value_SL = fading(12, 51)
    figure = draw_gradient_flow(write(run, value_SL), SUMMARY)
    left, right, key = figure.axes
    assert left.get_yscale() == right.get_yscale() == "log"
    # Epochs of 20 steps, a record every 10: the first of each epoch, and the last of all.
    shown = [0, 2, 4, 6, 8, 10, 11]
    assert len(curves(left)) == len(shown)
    for line, record in zip(curves(left), shown, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 52))
        np.testing.assert_array_equal(line.get_ydata(), value_SL[record])
    np.testing.assert_array_equal(curves(right)[0].get_ydata(), value_SL[0] * 1e-2)
    labels = [label.get_text() for label in key.get_yticklabels()]
    assert labels == ["0", "1", "2", "3", "4", "5", "5.5"]
    assert key.get_title(loc="left") == "epoch"


def test_titles_and_labels(run):
    figure = draw_gradient_flow(write(run, fading(3, 4)), SUMMARY)
    left, right, _ = figure.axes
    assert figure.get_suptitle() == "Vanishing: 0.15 decades a layer"
    assert "RMS over the batch" in left.get_ylabel()
    assert right.get_title(loc="left") == "Update-to-weight ratio"
    assert left.get_xlabel() == "layer, from the input to the output"
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["1", "2", "3", "out"]


def test_an_unfinished_run_says_so_and_counts_steps(run):
    write(run, fading(3, 4))
    figure = draw_gradient_flow(read_gradients(run.gradients), {})
    assert figure.get_suptitle() == "Gradient flow through depth (unfinished)"
    assert figure.axes[-1].get_title(loc="left") == "step"
    assert [label.get_text() for label in figure.axes[-1].get_yticklabels()] == ["0", "10", "20"]


def test_a_long_verdict_wraps_and_is_not_read_as_mathematics(run):
    write(run, fading(3, 4))
    run.write_summary({**SUMMARY, "verdict": {"text": "cost of $x_1 \\frac " * 13}})
    gradient_flow_figure(run.path)
    figure = draw_gradient_flow(read_gradients(run.gradients), run.read_summary())
    assert figure.get_suptitle().count("\n") == 2


@pytest.mark.parametrize(
    ("second", "titles"),
    [
        ("update_ratio", ["Gradient at the pre-activations", "Update-to-weight ratio"]),
        ("grad_weight", ["Gradient at the pre-activations", "Gradient at the weights"]),
        (None, ["Gradient at the pre-activations"]),
    ],
)
def test_second_panel_shows_what_was_recorded(run, second, titles):
    figure = draw_gradient_flow(write(run, fading(3, 4), second), SUMMARY)
    assert [axes.get_title(loc="left") for axes in figure.axes[:-1]] == titles


def test_values_off_the_log_scale_are_masked_and_marked(run):
    value_SL = fading(2, 6)
    value_SL[0, 0], value_SL[0, 2], value_SL[1, 1], value_SL[1, 5] = 0, np.inf, np.nan, 0
    write(run, value_SL)
    gradient_flow_figure(run.path)
    figure = draw_gradient_flow(read_gradients(run.gradients), SUMMARY)
    left = figure.axes[0]
    assert marks(left) == {"zero": [1, 6], "infinite": [3], "not a number": [2]}
    drawn = np.ma.filled(curves(left)[0].get_ydata(), np.nan)
    assert np.isnan(drawn).tolist() == [True, False, True, False, False, False]
    low, high = left.get_ylim()
    finite = value_SL[np.isfinite(value_SL) & (value_SL > 0)]
    assert low < finite.min()
    assert high > finite.max()
    key = figure.legends[0]
    assert [text.get_text() for text in key.get_texts()] == ["zero", "infinite", "not a number"]


@pytest.mark.parametrize(
    "value_SL",
    [
        np.zeros((3, 5)),
        np.full((3, 5), np.nan),
        np.full((1, 1), 0.1),
        np.full((4, 1), 0.1),
        np.full((3, 5), 1e-299),
        10.0 ** np.linspace(-308, 308, 300)[None],
        np.full((2, 2000), 1.0),
    ],
    ids=["zeros", "nan", "one value", "one layer", "tiny", "whole range", "deep"],
)
def test_odd_runs_are_drawn(run, value_SL):
    write(run, value_SL)
    for path in gradient_flow_figure(run.path):
        assert path.stat().st_size > 0


def test_a_steady_gradient_looks_flat(run):
    value_SL = 0.1 * (1 + 0.01 * np.random.default_rng(0).normal(size=(3, 20)))
    low, high = draw_gradient_flow(write(run, value_SL), SUMMARY).axes[0].get_ylim()
    assert np.log10(high / low) == pytest.approx(2.0, abs=1e-6)


def test_every_line_has_its_own_colour(run):
    lines = curves(draw_gradient_flow(write(run, fading(100, 4)), SUMMARY).axes[0])
    assert len({tuple(line.get_color()) for line in lines}) == len(lines)


@pytest.mark.parametrize("records", [1, 2, 8, 9, 50, 1000])
@pytest.mark.parametrize("per_epoch", [None, 7, 25])
def test_chosen_records(records, per_epoch):
    step_S = np.arange(records) * 10
    chosen = choose_records(step_S, per_epoch)
    assert set(chosen) <= set(step_S)
    assert (chosen[0], chosen[-1]) == (0, step_S[-1])
    assert (np.diff(chosen) > 0).all()
    assert chosen.size <= 8
    assert per_epoch is not None or chosen.size >= min(records, 6)


def test_early_records_lie_closer_together():
    chosen = choose_records(np.arange(0, 1000, 10), None)
    gaps = np.diff(chosen)
    assert (np.diff(gaps) >= 0).all()


def test_a_run_without_measurements_is_one_clear_line(run):
    with pytest.raises(DataError, match=r"gradients\.parquet .*can't be read"):
        gradient_flow_figure(run.path)


def test_a_run_without_preactivation_gradients_is_one_clear_line(run):
    writer = GradientsWriter(run.gradients)
    writer.append(0, {"grad_weight": [1.0]})
    writer.flush()
    with pytest.raises(DataError, match=r"needs grad_preactivation: .* holds grad_weight; train"):
        gradient_flow_figure(run.path)


def theory(figure):
    return [line for line in figure.axes[0].lines if line.get_label() == "theory"]


def test_theory_stands_beside_the_first_measurement(run):
    value_SL = fading(12, 21)
    # The forecast has the measured shape and a level of its own.
    forecast = {"log10_gradient_L": (0.15 * np.arange(21)).tolist()}
    figure = draw_gradient_flow(write(run, value_SL), {**SUMMARY, "forecast": forecast})
    [line] = theory(figure)
    np.testing.assert_allclose(line.get_ydata(), value_SL[0])
    assert line.get_linestyle() == "--"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["theory"]


@pytest.mark.parametrize(
    "forecast",
    [None, {}, {"log10_gradient_L": [0.0] * 4}, {"log10_gradient_L": [None] * 21}],
    ids=["none", "empty", "another depth", "silent"],
)
def test_without_a_forecast_there_is_no_line(run, forecast):
    figure = draw_gradient_flow(write(run, fading(12, 21)), {**SUMMARY, "forecast": forecast})
    assert not theory(figure)
    assert not figure.legends


def test_a_record_that_begins_later_has_no_forecast(run):
    writer = GradientsWriter(run.gradients, durable=False)
    writer.append([40, 50], {"grad_preactivation": fading(2, 5)})
    writer.flush()
    forecast = {"log10_gradient_L": [0.0] * 5}
    figure = draw_gradient_flow(read_gradients(run.gradients), {"forecast": forecast})
    assert not theory(figure)
