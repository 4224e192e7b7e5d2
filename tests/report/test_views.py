"""What figures of many runs show, against numbers worked out by hand and by scipy."""

import numpy as np
import pytest
from scipy import stats

from unitgain.errors import ConfigError
from unitgain.report import views
from unitgain.report.run_groups import few_groups, groups_of
from unitgain.runs import read_runs

METRIC = "test/accuracy"


def mlp(width):
    return {"_target_": "unitgain.nn.MLP", "depth": 2, "width": width}


def test_groups_are_the_values_of_the_keys_whatever_the_order_of_the_runs(ablation):
    table = read_runs([ablation])
    groups = groups_of(table, ["init", "model.depth"])
    assert [g.name for g in groups] == [
        "he, depth 2",
        "he, depth 8",
        "xavier, depth 2",
        "xavier, depth 8",
    ]
    assert [g.values for g in groups] == ["he, 2", "he, 8", "xavier, 2", "xavier, 8"]
    assert sorted(row for g in groups for row in g.rows) == list(range(12))
    with pytest.raises(ConfigError, match=r"model\.dept: .*did you mean model\.depth"):
        groups_of(table, ["model.dept"])


def test_numbers_are_never_put_together_in_groups(tmp_path, made):
    for depth in range(1, 13):
        made.write(tmp_path / f"d{depth:02}", depth=depth)
    names = [g.name for g in groups_of(read_runs([tmp_path]), ["model.depth"])]
    assert names == [f"depth {depth}" for depth in range(1, 13)]


def test_curves_are_the_mean_and_students_interval(ablation, made):
    table = read_runs([ablation])
    he, _ = groups_of(table.where("model.depth=2"), ["init"])
    [curve] = views.curves(table.where("model.depth=2"), [he], "val/accuracy")
    last = np.array([made.value_of(made.he, 2, seed) for seed in range(3)])
    low, high = stats.t.interval(0.95, 2, last.mean(), stats.sem(last))
    assert curve.runs == 3
    assert curve.mean_E == pytest.approx(last.mean() * np.array([0.25, 0.5, 0.75, 1.0]))
    assert (curve.low_E[-1], curve.high_E[-1]) == pytest.approx((low, high))


def test_curves_end_where_the_shortest_run_does_and_leave_out_runs_without_the_metric(
    tmp_path, made
):
    made.write(tmp_path / "long", epochs=9)
    made.write(tmp_path / "short", seed=1, epochs=3)
    made.write(tmp_path / "unstarted", seed=2, status=None)
    table = read_runs([tmp_path])
    [curve] = views.curves(table, groups_of(table, []), "val/accuracy")
    assert (curve.runs, len(curve.mean_E)) == (2, 3)
    assert views.curves(table, groups_of(table, []), "val/nothing") == []


def test_heatmap_is_the_mean_a_cell_without_runs_that_diverged(ablation, made):
    made.write(ablation / "lost", made.xavier, 8, 9, status="diverged")
    table = read_runs([ablation])
    shown = views.heatmap(table, "init", "model.depth", METRIC)
    assert (list(shown.x_levels), list(shown.y_levels)) == (["he", "xavier"], ["2", "8"])
    expected = [
        [
            np.mean([made.value_of(init, depth, s) for s in range(3)])
            for init in (made.he, made.xavier)
        ]
        for depth in (2, 8)
    ]
    assert shown.mean_YX == pytest.approx(np.array(expected))
    assert shown.count_YX.tolist() == [[3, 3], [3, 3]]


def test_a_cell_without_runs_is_empty(tmp_path, made):
    made.write(tmp_path / "a", made.he, 2)
    made.write(tmp_path / "b", made.xavier, 8)
    shown = views.heatmap(read_runs([tmp_path]), "init", "model.depth", METRIC)
    assert np.isnan(shown.mean_YX).tolist() == [[False, True], [True, False]]


def test_profiles_have_theory_at_the_level_of_the_hidden_layers(ablation, made):
    table = read_runs([ablation])
    groups = groups_of(table, ["init"])
    found = views.profiles(
        table, groups, ["grad_preactivation", "activation_second_moment", "none"]
    )
    he = found["grad_preactivation"][0]
    layer_L = np.arange(1, made.layers + 1)
    assert he.first_L == pytest.approx(10.0 ** (0.1 * (layer_L - made.layers)))
    assert he.last_L == pytest.approx(he.first_L / 10)
    # The forecast has the same slope, so that at the right level it is the same line.
    assert he.theory_L == pytest.approx(he.first_L)
    assert found["activation_second_moment"][0].theory_L is None
    assert found["none"] == []


def test_profiles_of_other_depths_are_not_mixed(tmp_path, made):
    made.write(tmp_path / "a")
    made.write(tmp_path / "b", seed=1)
    path = tmp_path / "b" / "gradients.parquet"
    path.write_bytes(path.read_bytes()[:-9])  # damaged: left out
    table = read_runs([tmp_path])
    [profile] = views.profiles(table, groups_of(table, []), ["grad_preactivation"])[
        "grad_preactivation"
    ]
    assert len(profile.first_L) == made.layers


def test_effects_are_the_two_way_analysis_of_variance(ablation):
    """Cells .5, .5, .7, .8 and seeds 0, .01, .02: sums of squares by hand."""
    table = read_runs([ablation])
    found = views.effects(table, METRIC, ["init", "model.depth"])
    init, depth, both = 12 * 0.125**2, 12 * 0.025**2, 12 * 0.025**2
    seeds = 4 * 2 * 0.01**2
    total = init + depth + both + seeds
    assert [e.factor for e in found.main] == ["init", "model.depth"]
    assert [e.eta_squared for e in found.main] == pytest.approx([init / total, depth / total])
    [(name, share)] = found.pairs
    assert (name, share) == ("init x model.depth", pytest.approx(both / total))
    assert found.tree.factor == "init"
    assert views.key_pairs(found, ["model.depth", "init"]) == [("init", "model.depth")]


def test_no_effects_of_a_metric_that_is_the_same_everywhere(tmp_path, made):
    for seed in range(3):
        made.write(tmp_path / f"run{seed}", depth=2 + seed)
    assert views.effects(read_runs([tmp_path]), "test/accuracy", ["model.depth"]) is None


def test_foretold_slopes_are_those_of_the_summaries(ablation):
    table = read_runs([ablation])
    found = views.foretold(table, groups_of(table, ["init"]))
    assert len(found.slope_N) == 12
    assert set(found.slope_N) == {0.09}
    assert set(found.measured_N) == {0.1}
    assert found.group_N.tolist().count(0) == 6


def test_test_metrics_are_shown_by_epoch_as_validation():
    assert views.course_of("test/accuracy") == "val/accuracy"
    assert views.course_of("train/loss") == "train/loss"


def test_of_many_groups_some_from_the_best_to_the_worst_are_shown(tmp_path, made):
    for width in range(2, 14):
        made.write(tmp_path / f"w{width:02}", seed=width, model=mlp(width))
    made.write(tmp_path / "lost", model=mlp(99), status="diverged")
    few, note = few_groups(read_runs([tmp_path]), ["model.width"], METRIC, higher=True)
    # A seed adds a hundredth, so that the widest is the best of those that have a value.
    assert [group.name for group in few] == [
        f"width {width}" for width in (13, 11, 10, 9, 7, 5, 4, 3, 99)
    ]
    assert note == "9 of 13 groups, from best to worst"


def test_names_of_few_groups_leave_out_what_they_share_or_what_others_tell(tmp_path, made):
    rates = [10.0**-i for i in range(10)]
    for i, lr in enumerate(rates):
        optimizer = {"_target_": "unitgain.pack.optim.SGD", "lr": lr, "weight_decay": lr / 1024}
        made.write(tmp_path / f"r{i}", seed=i, optimizer=optimizer)
    keys = ["optimizer.lr", "optimizer.weight_decay"]
    few, _ = few_groups(read_runs([tmp_path]), keys, METRIC, higher=True)
    assert len(few) == 9
    assert few[0].name == "lr 1e-09"
    assert few[0].levels == ("1e-09", "9.76563e-13")


def test_heatmaps_are_of_the_five_keys_that_explain_most(tmp_path, made):
    for i in range(8):
        optimizer = {
            "_target_": "unitgain.pack.optim.SGD", "lr": 1.0 + i, "weight_decay": 0.1 * (i % 2),
            "momentum": 0.1 * (i // 4), "dampening": 0.1 * (i // 2 % 2),
        }  # fmt: skip
        trainer = {"max_epochs": 1 + i % 3}
        made.write(tmp_path / f"r{i}", depth=2 + i, seed=i, optimizer=optimizer, trainer=trainer)
    table = read_runs([tmp_path])
    keys = views.varying_keys(table)
    assert len(keys) > 5
    found = views.effects(table, METRIC, keys)
    assert len(views.key_pairs(found, keys)) == 10
    # Any two can be had: those that are asked for come first.
    weakest = [e.factor for e in found.main][-2:]
    assert views.key_pairs(found, keys, weakest)[0] == tuple(weakest)


def test_runs_without_any_value_have_no_coordinates(tmp_path, made):
    for depth in (2, 8):
        made.write(tmp_path / f"d{depth}", depth=depth, status="diverged")
    assert views.parallel(read_runs([tmp_path]), METRIC, ["model.depth"]) is None
