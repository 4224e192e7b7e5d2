"""Groups of runs against each other, from rows whose answers are known."""

import csv
import math

import numpy as np
import pytest
from scipy import stats

from unitgain.errors import ConfigError, DataError
from unitgain.report.comparison import Settings, compare
from unitgain.report.comparison_text import between, heading, rows, sentences, write_table
from unitgain.runs import RunsTable

METRIC = "val/accuracy"
# Student (1908): hours of sleep gained, ten patients on each of two drugs.
SLEEP = {
    "one": [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    "two": [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
}


def row(init, seed, value, status="finished", **keys):
    return {
        "run": f"{init}{seed}{keys}",
        "status": status,
        "init": init,
        "seed": seed,
        METRIC: value,
    } | keys


def sleep(**seeds):
    return [
        row(name, seed + seeds.get(name, 0), value)
        for name, values in SLEEP.items()
        for seed, value in enumerate(values)
    ]


def compared(found, by=("init",), **settings):
    table = RunsTable.of_rows(found)
    return compare(
        table, by, METRIC, Settings(**{"higher": True} | settings), np.random.default_rng(0)
    )


def told(found):
    return " ".join(sentences(found))


def test_shared_seeds_are_paired():
    found = compared(sleep())
    assert [group.name for group in found.groups] == ["two", "one"]
    assert found.reference == "two"
    versus = found.versus["one"]
    peer = stats.ttest_rel(SLEEP["one"], SLEEP["two"])
    assert versus.difference.paired
    assert versus.p_value == pytest.approx(peer.pvalue)
    assert versus.difference.interval.low == pytest.approx(peer.confidence_interval().low)
    assert (versus.supported, versus.better) == (True, False)
    assert "paired on 10 shared seeds, Student's test" in told(found)
    assert "Supported: one is worse than two by -1.6 (-2.5 to -0.7), p = 0.0028." in told(found)


def test_other_seeds_are_not_paired():
    found = compared(sleep(two=100), baseline="one")
    versus = found.versus["two"]
    peer = stats.ttest_ind(SLEEP["one"], SLEEP["two"], equal_var=False)
    assert not versus.difference.paired
    assert versus.p_value == pytest.approx(peer.pvalue)
    text = told(found)
    assert "not paired, as seeds differ, Welch's test" in text
    assert "Not supported: two differs from one by 1.6 (-0.2 to 3.4), p = 0.079." in text
    d = abs(versus.difference.effect)
    assert f"takes {versus.least} of each, {versus.least - 10} more" in text
    # The normal approximation of the size, a little below that of t.
    normal = 2 * ((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / d) ** 2
    assert normal < versus.least < normal + 3


def test_a_few_seeds_without_a_partner_are_left_out_of_differences():
    found = compared(sleep(two=2))
    versus = found.versus["one"]
    assert (versus.difference.size, versus.left_out) == (8, 4)
    assert "4 seeds without a partner are left out" in told(found)
    assert [group.seeds for group in found.groups] == [10, 10]


def test_conditions_are_averaged_seed_by_seed():
    draw = np.random.default_rng(1)
    value = {(i, n, s): draw.normal() for i in "ab" for n in ("none", "batch") for s in range(4)}
    found = compared([row(i, s, v, norm=n) for (i, n, s), v in value.items()], baseline="a")
    mean = {
        i: [np.mean([value[i, n, s] for n in ("none", "batch")]) for s in range(4)] for i in "ab"
    }
    wanted = stats.ttest_rel(mean["b"], mean["a"])
    assert found.versus["b"].p_value == pytest.approx(wanted.pvalue)
    assert (found.averaged, found.conditions) == (("norm",), 2)
    assert [group.seeds for group in found.groups] == [4, 4]
    assert "mean over 2 combinations of norm" in told(found)
    chances = [
        stats.mannwhitneyu(*([value[i, n, s] for s in range(4)] for i in "ba")).statistic / 16
        for n in ("none", "batch")
    ]
    assert found.versus["b"].improvement == pytest.approx(np.mean(chances))


def test_two_keys_make_groups():
    found = compared(
        [
            row(i, s, s + (n == "batch"), norm=n)
            for i in "ab"
            for n in ("none", "batch")
            for s in range(3)
        ],
        by=("init", "norm"),
        baseline="a, none",
    )
    assert {group.name for group in found.groups} == {"a, none", "a, batch", "b, none", "b, batch"}
    assert found.averaged == ()
    assert found.versus["b, none"].p_value == 1
    assert found.versus["a, batch"].difference.effect == math.inf


def test_a_condition_that_a_group_lacks_is_left_out_of_all():
    found = compared(
        [row("a", s, s, norm=n) for n in ("none", "batch") for s in range(3)]
        + [row("b", s, s + 1.0, norm="none") for s in range(3)]
    )
    assert found.conditions == 1
    assert found.versus["a"].difference.interval.value == -1
    assert "1 condition that some group lacks left out" in told(found)


def test_keys_that_change_with_the_group_are_named():
    found = compared([row(i, s, s, lr={"a": 0.1, "b": 0.2}[i]) for i in "ab" for s in range(3)])
    assert (found.tied, found.averaged) == (("lr",), ())
    assert "lr changes with the group: what it does can't be told apart" in told(found)


def test_groups_without_a_common_condition_are_refused():
    mixed = [row(i, s, s, norm=f"{i}{s % 2}") for i in "ab" for s in range(4)]
    with pytest.raises(DataError, match="must have runs under one condition at least"):
        compared(mixed)


def test_the_best_of_several_is_adjusted_for_all_pairs():
    draw = np.random.default_rng(2)
    data = [row(i, s, draw.normal() + 2 * (i == "c")) for i in "abc" for s in range(5)]
    p = {}
    values = {i: [r[METRIC] for r in data if r["init"] == i] for i in "abc"}
    for x, y in ("ab", "ac", "bc"):
        p[x + y] = stats.ttest_rel(values[x], values[y]).pvalue
    found = compared(data)
    assert found.reference == "c"
    assert found.family == 3
    ordered = sorted(p.values())
    steps = np.maximum.accumulate([3 * ordered[0], 2 * ordered[1], ordered[2]])
    holm = dict(zip(ordered, np.minimum(steps, 1), strict=True))
    for name in "ab":
        assert found.versus[name].p_value == pytest.approx(holm[p[name + "c"]])
    assert compared(data, baseline="c").family == 2


def test_less_is_better_where_it_is():
    found = compared(sleep(), higher=False)
    assert found.reference == "one"
    assert found.versus["two"].better is False
    assert found.versus["two"].improvement < 0.5
    chance = stats.mannwhitneyu(SLEEP["one"], SLEEP["two"]).statistic / 100
    assert found.versus["two"].improvement == pytest.approx(chance)


def test_one_seed_is_not_ranked():
    found = compared([row("a", 0, 0.1), row("b", 0, 0.9)])
    assert not found.ranked
    assert [group.name for group in found.groups] == ["a", "b"]
    assert heading(found) == ["init", "seeds", "diverged", "mean", "95 % interval"]
    assert "No ranking: each group has one seed" in told(found)


def with_diverged():
    data = [row(i, s, s + 10.0 * (i == "b")) for i in "ab" for s in range(4)]
    data[1] = row("a", 1, 0.5, status="diverged")
    data[2] = row("a", 2, math.nan)
    return data


def test_a_group_with_diverged_runs_has_no_mean_unless_one_says_which():
    found = compared(with_diverged())
    a = next(group for group in found.groups if group.name == "a")
    assert (a.runs, a.diverged, a.seeds, a.interval) == (4, 2, 0, None)
    assert found.reference is None
    assert "Diverged: a (2 of 4). A mean of the others would flatter" in told(found)
    assert "No comparison: fewer than two groups" in told(found)


def test_diverged_runs_are_dropped_or_count_as_the_worst():
    dropped = compared(with_diverged(), diverged="drop")
    a = {group.name: group for group in dropped.groups}["a"]
    assert (a.seeds, a.interval.value) == (2, 1.5)
    assert dropped.versus["a"].difference.size == 2
    worst = compared(with_diverged(), diverged="worst")
    a = {group.name: group for group in worst.groups}["a"]
    assert (a.seeds, a.interval.value) == (4, 0.75)
    # Where less is better the worst is the largest.
    less = compared(with_diverged(), diverged="worst", higher=False)
    assert {group.name: group for group in less.groups}["a"].interval.value == (0 + 3 + 13 + 13) / 4


def test_runs_that_did_not_end_are_counted_and_left_out():
    found = compared(
        [
            *sleep(),
            row("one", 10, math.nan, status="failed"),
            row("two", 10, 9.0, status="unfinished"),
        ]
    )
    assert [group.seeds for group in found.groups] == [10, 10]
    assert "2 runs that failed or didn't finish are left out" in told(found)


def test_a_run_that_is_there_twice_counts_once():
    found = compared([*sleep(), row("one", 0, 0.7)])
    assert {group.name: group.seeds for group in found.groups} == {"one": 10, "two": 10}
    assert found.versus["one"].p_value == pytest.approx(
        stats.ttest_rel(SLEEP["one"], SLEEP["two"]).pvalue
    )
    assert "Runs that repeat another's keys: 1; their mean counts once" in told(found)


def test_a_rank_test_of_few_seeds_says_that_it_can_not_find_anything():
    found = compared(
        [row(i, s, s / 7 + s * (i == "b") + 5 * (i == "b")) for i in "ab" for s in range(5)],
        test="rank",
    )
    assert "A rank test of 5 seeds never gives p below 0.062" in told(found)


def test_equal_groups_need_more_seeds_than_there_are():
    found = compared([row(i, s, s + (s % 2 - 0.5) * (i == "b")) for i in "ab" for s in range(4)])
    assert "takes more than 10000" in told(found)


@pytest.mark.parametrize(
    ("by", "settings", "error", "text"),
    [
        (["activation"], {}, ConfigError, "activation: must be a column of the runs"),
        (["seed"], {}, ConfigError, "--by: must be keys other than seed"),
        (
            ["depth"],
            {},
            ConfigError,
            "--by: must name keys that vary over the 20 runs, got depth; these vary: init",
        ),
        (
            ["init"],
            {"baseline": "he"},
            ConfigError,
            "--baseline: must be one of the groups two; one, got he",
        ),
    ],
)
def test_what_can_not_be_compared_is_refused(by, settings, error, text):
    with pytest.raises(error, match=text):
        compared([each | {"depth": 2} for each in sleep()], by, **settings)


def test_runs_that_have_not_ended_have_nothing_to_compare():
    with pytest.raises(
        DataError, match=f"{METRIC}: must be there for some run, but none of 2 ended"
    ):
        compared(
            [row("a", 0, math.nan, status="unfinished"), row("b", 0, math.nan, status="failed")]
        )


def test_tables_are_written(tmp_path):
    found = compared([each | {"init": f"{each['init']}_x"} for each in sleep()])
    for kind in ("md", "tex", "csv"):
        write_table(found, tmp_path / "new" / f"table.{kind}")
    markdown = (tmp_path / "new" / "table.md").read_text().splitlines()
    assert markdown[0] == "| init | seeds | diverged | mean | 95 % interval | P(better) | p | d |"
    assert markdown[2].startswith("| two_x | 10 | 0 | 2.3 | 0.9 to 3.8 |")
    latex = (tmp_path / "new" / "table.tex").read_text()
    assert r"one\_x & 10 & 0 &" in latex
    assert r"95 \% interval" in latex
    assert latex.count(r"\\") == 3
    with (tmp_path / "new" / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert float(table[1]["p_holm"]) == found.versus["one_x"].p_value
    assert float(table[1]["value"]) == pytest.approx(np.mean(SLEEP["one"]))
    assert table[1]["paired"] == "True"
    assert len(rows(found)[0]) == len(heading(found))
    with pytest.raises(ConfigError, match=r"--out: must end in .md, .tex, .csv, got"):
        write_table(found, tmp_path / "table.txt")


def many(groups=12):
    """The last group is far behind; the others differ by less than their seeds do."""
    draw = np.random.default_rng(3)
    return [
        row(f"g{i:02}", s, draw.normal() - 50.0 * (i == groups - 1))
        for i in range(groups)
        for s in range(4)
    ]


def test_many_groups_are_summed_up_unless_one_asks_for_each():
    found = compared(many(), baseline="g00")
    short, each = list(sentences(found)), list(sentences(found, each=True))
    assert len([text for text in each if "upported: " in text]) == 11
    assert len(short) < 6
    gap = found.versus["g11"].difference.interval
    assert f"Supported for 1 of 11: worse than g00: g11 by {between(gap)[0]}." in short
    rest = [versus for versus in found.versus.values() if not versus.supported]
    fewest = min(rest, key=lambda versus: versus.least or math.inf)
    assert any(
        text.startswith("Not supported for 10 of 11.")
        and f"would show {fewest.group}," in text
        and text.endswith(f"{fewest.least} of each.")
        for text in short
    )


def test_groups_of_other_rows_are_told():
    data = [row(i, s, s + (i == "b"), **{"data.path": i}) for i in "ab" for s in range(3)]
    assert "Groups differ in data.path: a difference may be that of the rows." in told(
        compared(data, by=["data.path"])
    )


def test_latex_has_minus_signs_and_every_letter_escaped(tmp_path):
    data = [each | {"init": f"[{each['init']}]<^~"} for each in sleep()]
    write_table(compared(data), tmp_path / "t.tex")
    latex = (tmp_path / "t.tex").read_text()
    table = latex[: latex.index(r"\end{tabular}")]
    assert r"{[}one]\textless{}\textasciicircum{}\textasciitilde{} & 10 & 0 &" in table
    assert "$-$1.28" in table
    # After a line break a bracket would be its option.
    assert "\n[" not in table


def test_losses_of_other_kinds_are_not_taken_for_one():
    data = [
        {**row(i, s, s), "val/loss": float(s), "data.task": {"a": "classification"}.get(i, "other")}
        for i in "ab"
        for s in range(3)
    ]
    table = RunsTable.of_rows(data)
    settings = Settings(higher=False)
    text = "Groups have losses of other kinds, whose values can't be compared."
    for by in ("init", "data.task"):
        assert text in told(compare(table, [by], "val/loss", settings, np.random.default_rng(0)))
    assert text not in told(compare(table, ["init"], METRIC, settings, np.random.default_rng(0)))
