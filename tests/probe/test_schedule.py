import pytest

from unitgain.probe.schedule import due


def steps(last, **plan):
    return [step for step in range(last + 1) if due(step, **plan)]


def test_nothing_is_due_without_a_plan():
    assert steps(100) == []


def test_every_so_many_steps():
    assert steps(12, every=5) == [0, 5, 10]


@pytest.mark.parametrize("per_decade", [1, 2, 4, 7, 25])
def test_the_grid_is_logarithmic(per_decade):
    points = {round(10 ** (j / per_decade)) for j in range(4 * per_decade + 1)}
    assert steps(10_000, per_decade=per_decade) == sorted({0} | points)


def test_a_dense_grid_has_every_early_step():
    assert steps(20, per_decade=100) == list(range(21))


def test_plans_add_up():
    plan = {"every": 40, "per_decade": 1, "at": (7, 99)}
    assert steps(100, **plan) == [0, 1, 7, 10, 40, 80, 99, 100]
