import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from unitgain.data import Domains, GaussianRatio, table_from_arrays
from unitgain.data.shifts import Domain, Given
from unitgain.data.sources import gaussian_shift, sinc_shift, teacher_shift
from unitgain.data.splits import Group, Random, Time
from unitgain.errors import DataError
from unitgain.shift import diagnose
from unitgain.spec import parse

GAUSSIANS = [(0.0, 1.0, 1), (1.0, 1.0, 3), (2.0, 0.5, 1), (0.7, 0.8, 2), (0.5, 1.3, 2)]


def table(n=300, groups=12, **more):
    rng = np.random.default_rng(n)
    return table_from_arrays(
        "toy",
        rng.normal(size=(n, 2)),
        rng.normal(size=n),
        task="regression",
        group=[f"g{g}" for g in rng.integers(groups, size=n)],
        time=rng.permutation(n) // 3,
        **more,
    )


@pytest.mark.parametrize("base", [Random(), Group(), Time()])
@pytest.mark.parametrize("shift", [Domain(), Domain(share=0.4, seed=3), Domain(by="time")])
def test_source_rows_keep_their_part_and_all_target_rows_are_tested_on(shift, base):
    whole = table()
    split, shifted = base(whole), shift(whole, base(whole))
    target = np.isin(np.arange(300), shifted.split.test)
    assert np.array_equal(shifted.split.train, split.train[~target[split.train]])
    assert np.array_equal(shifted.split.val, split.val[~target[split.val]])
    assert target.mean() == pytest.approx(shift.share, abs=0.06)
    assert (shifted.kind, shifted.ratio) == ("domain", None)
    assert math.isnan(shifted.bound)
    assert math.isnan(shifted.ess_share)


def test_no_group_is_in_both_domains():
    whole = table()
    held_out = set()
    for seed in range(8):
        shifted = Domain(seed=seed)(whole, Random()(whole))
        source = np.concatenate(shifted.split.parts()[:2])
        target = set(whole.group[shifted.split.test])
        assert not target & set(whole.group[source])
        assert len(target) == 3
        again = Domain(seed=seed)(whole, Random(seed=5)(whole))
        assert np.array_equal(again.split.test, shifted.split.test)
        held_out.add(frozenset(target))
    assert len(held_out) > 4


def test_named_groups_are_held_out():
    whole = table()
    shifted = Domain(groups=("g3", "g7"))(whole, Random()(whole))
    assert np.array_equal(shifted.split.test, np.flatnonzero(np.isin(whole.group, ["g3", "g7"])))
    years = replace(whole, group=np.arange(300) % 4 + 2020)
    assert len(Domain(groups=(2023,))(years, Random()(years)).split.test) == 75
    with pytest.raises(DataError, match=r"none is called 'g99'; choose from g0, g1, g10, g11, g2"):
        Domain(groups=("g99",))(whole, Random()(whole))


@pytest.mark.parametrize(
    ("given", "read"), [("g3", ("g3",)), (2023, (2023,)), (["a", 1], ("a", 1))]
)
def test_one_group_may_be_named_without_a_list(given, read):
    node = {"_target_": "unitgain.data.shifts.Domain", "groups": given}
    assert parse({"shift": node}).shift.arguments()["groups"] == read


def test_later_times_are_the_target():
    whole = table()
    shifted = Domain(by="time", share=0.2)(whole, Random()(whole))
    source = np.concatenate(shifted.split.parts()[:2])
    assert whole.time[source].max() < whole.time[shifted.split.test].min()
    named = Domain(by="time", start=80)(whole, Random()(whole))
    assert np.array_equal(named.split.test, np.flatnonzero(whole.time >= 80))
    days = np.datetime64("2026-01-01") + np.arange(300)
    dated = replace(whole, time=days.astype("datetime64[ns]"))
    october = Domain(by="time", start="2026-10-01")(dated, Random()(dated))
    assert october.split.test[0] == 273


def test_what_a_domain_needs_is_told():
    whole = table()
    base = Random()(whole)
    bare = replace(whole, group=None, time=None)
    with pytest.raises(
        DataError, match=r"shift=domain by group needs a group column.*shift.by=time"
    ):
        Domain()(bare, base)
    with pytest.raises(
        DataError, match=r"shift=domain by time needs a time column.*shift.by=group"
    ):
        Domain(by="time")(bare, base)
    with pytest.raises(
        DataError, match="by group needs at least two groups, but the 300 rows are of 1"
    ):
        Domain()(replace(whole, group=np.zeros(300)), base)
    with pytest.raises(
        DataError, match=r"shift.start must be a number as the time column is, got 'May'"
    ):
        Domain(by="time", start="May")(whole, base)
    with pytest.raises(DataError, match=r"the latest is of 99 and shift.start is 100"):
        Domain(by="time", start=100)(whole, base)
    with pytest.raises(DataError, match="the train part needs a row, but of its 180 rows"):
        Domain(by="time", start=0)(whole, base)


@pytest.mark.parametrize(("mean", "scale", "d"), GAUSSIANS)
def test_moments_of_a_ratio_of_gaussians_are_those_by_quadrature(mean, scale, d):
    """The d features of the closed form are independent, each with a mean of mean / sqrt(d)."""
    p, q = stats.norm(0, 1), stats.norm(mean / math.sqrt(d), scale)
    known = GaussianRatio(mean, scale, d)
    # Where densities of the two have all but their last 1e-15; the second moment's tails are longer.
    second, _ = integrate.quad(
        lambda x: np.exp(2 * q.logpdf(x) - p.logpdf(x)), -60, 60, points=[0, 2]
    )
    kl, _ = integrate.quad(lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), -20, 20)
    assert known.second_moment == pytest.approx(second**d, rel=1e-6)
    assert known.ess_share == pytest.approx(second**-d, rel=1e-6)
    assert known.kl == pytest.approx(d * kl, rel=1e-6, abs=1e-9)
    x = np.linspace(-30, 30, 200001)
    largest = np.exp(q.logpdf(x) - p.logpdf(x)).max() ** d
    if math.isfinite(known.bound):
        assert known.bound == pytest.approx(largest, rel=1e-6)
    else:
        assert largest > 1e6
    rows = np.random.default_rng(0).normal(size=(50, d))
    expected = np.exp((q.logpdf(rows) - p.logpdf(rows)).sum(1))
    assert known.ratio(rows) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scale", [math.sqrt(2), 1.5, 3.0])
def test_wide_targets_leave_no_second_moment(scale):
    known = GaussianRatio(0.0, scale, 1)
    assert (known.second_moment, known.ess_share, known.bound) == (math.inf, 0.0, math.inf)


@pytest.mark.parametrize(
    "source",
    [
        lambda n: gaussian_shift(n_source=n, n_target=n, target_mean=0.8, target_spread=0.9),
        lambda n: sinc_shift(n, n),
        lambda n: teacher_shift(n, n, n_features=4, target_mean=0.7),
    ],
)
def test_weights_of_source_rows_have_the_moments_and_lead_to_the_target(source):
    n = 40_000
    whole = source(n)
    target, w = whole.domains.target, whole.domains.ratio
    assert target.sum() == n
    second = 1 / whole.domains.ess_share
    assert abs(w[~target].mean() - 1) < 5 * math.sqrt(second / n)
    # Five standard errors of the mean of w^2, from the fourth moment of the sample.
    assert abs((w[~target] ** 2).mean() - second) < 5 * (w[~target] ** 2).std() / math.sqrt(n)
    assert w.max() <= whole.domains.bound
    for value in (whole.x[:, 0], whole.y[:, 0]):
        weighted, there = w[~target] * value[~target], value[target]
        error = math.sqrt((weighted.var() + there.var()) / n)
        assert abs(weighted.mean() - there.mean()) < 5 * error
        plain = math.sqrt((value[~target].var() + there.var()) / n)
        assert abs(value[~target].mean() - there.mean()) > 10 * plain


def test_sinc_is_the_published_problem():
    whole = sinc_shift(50_000, 50_000)
    x, target = whole.x[:, 0], whole.domains.target
    assert whole.domains.ess_share == pytest.approx(0.0673, abs=5e-5)
    assert (x[~target].mean(), x[~target].std()) == pytest.approx((1, 0.5), abs=0.01)
    assert (x[target].mean(), x[target].std()) == pytest.approx((2, 0.25), abs=0.005)
    expected = 2 * np.exp(2 * (x - 1) ** 2 - 8 * (x - 2) ** 2)
    assert whole.domains.ratio == pytest.approx(expected, rel=1e-9)
    noise = whole.y[:, 0] - np.sinc(x)
    assert (noise.mean(), noise.std()) == pytest.approx((0, 0.25), abs=0.005)


def test_classes_of_gaussian_shift_have_the_stated_probability():
    whole = gaussian_shift("classification", 50_000, 50_000, noise=0.5)
    f = np.sin(np.pi / 2 * whole.x.sum(1) / math.sqrt(2))
    probability = 1 / (1 + np.exp(-f / 0.5))
    for low in np.arange(0.15, 0.85, 0.1):
        rows = (probability >= low) & (probability < low + 0.1)
        error = 0.5 / math.sqrt(rows.sum())
        assert abs(whole.y[rows].mean() - probability[rows].mean()) < 5 * error


@pytest.mark.parametrize("source", [gaussian_shift, sinc_shift, teacher_shift])
def test_a_source_of_two_domains_depends_on_its_seed_alone(source):
    assert source(seed=1).fingerprint() == source(seed=1).fingerprint() != source().fingerprint()


def test_given_takes_the_source_s_own_target():
    whole = gaussian_shift(n_source=200, n_target=80, target_spread=1.2)
    base = Random()(whole)
    shifted = Given()(whole, base)
    train, val, test = shifted.split.parts()
    assert np.array_equal(test, np.arange(200, 280))
    assert np.array_equal(train, base.train[base.train < 200])
    assert np.array_equal(val, base.val[base.val < 200])
    assert shifted.kind == "covariate"
    assert shifted.ratio[train].mean() == pytest.approx(1.0)
    known = GaussianRatio(1.0, 1.2, 2)
    assert shifted.ratio[train] / shifted.ratio[train[0]] == pytest.approx(
        known.ratio(whole.x[train]) / known.ratio(whole.x[train[:1]])
    )
    assert (shifted.bound, shifted.ess_share) == (math.inf, pytest.approx(known.ess_share))


def test_the_tail_index_says_what_a_sample_of_no_second_moment_hides():
    """P(w > t) falls as t^(-1 / k) with k = 1 - 1 / scale^2 but for a logarithm: above 1/2, E[w^2] is infinite."""
    found = []
    for seed in range(10):
        whole = gaussian_shift(
            n_source=10_000, n_features=1, target_mean=0.0, target_spread=1.6, seed=seed
        )
        shifted = Given()(whole, Random()(whole))
        found.append(diagnose(torch.from_numpy(shifted.ratio[shifted.split.train])))
        assert shifted.ess_share == 0
        assert found[-1].ess_share > 0.02
    assert np.mean([each.pareto_k for each in found]) == pytest.approx(1 - 1 / 1.6**2, abs=0.1)


def test_domains_of_unknown_ratio_may_be_given():
    target = np.arange(300) % 3 == 0
    whole = table(domains=Domains(target))
    shifted = Given()(whole, Random()(whole))
    assert (shifted.kind, shifted.ratio) == ("domain", None)
    assert np.array_equal(shifted.split.test, np.flatnonzero(target))
    assert np.array_equal(whole.take(np.arange(1, 7)).domains.target, target[1:7])


def test_given_needs_a_source_of_two_domains():
    whole = table()
    with pytest.raises(DataError, match="toy: shift=given needs a source with rows of two domains"):
        Given()(whole, Random()(whole))
    with pytest.raises(DataError, match=r"domains.ratio must have shape \(300,\), got \(2,\)"):
        table(domains=Domains(np.zeros(300, dtype=bool), np.ones(2)))
