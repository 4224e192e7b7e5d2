"""What may be written as a search space, and what is drawn from it."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from unitgain.cli._space import Space
from unitgain.errors import ConfigError


class Loader:
    """The groups that a glob is matched with."""

    def get_group_options(self, group, results_filter=None, **_):
        return {"init": ["constant", "he", "xavier"]}[group]


def space(*typed, **params):
    return Space.of(params, typed, Loader())


def one(text):
    [each] = space(text).parameters.values()
    return each


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k=interval(0.1,1)", FloatDistribution(0.1, 1.0)),
        ("k=interval(1,8)", FloatDistribution(1.0, 8.0)),
        ("k=int(interval(1,8))", IntDistribution(1, 8)),
        ("k=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("k=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("k=range(2,9)", IntDistribution(2, 8)),
        ("k=range(2,9,3)", IntDistribution(2, 8, step=3)),
        ("k=range(9,2,-1)", IntDistribution(3, 9)),
        ("k=range(0,1,0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("k=tag(log,range(1,9))", IntDistribution(1, 8, log=True)),
        ("k=choice(he,xavier)", CategoricalDistribution(["he", "xavier"])),
        ("k=16,32,64", CategoricalDistribution([16, 32, 64])),
        ("k=choice(1e-3,2)", CategoricalDistribution([1e-3, 2])),
        ("k=true,false", CategoricalDistribution([True, False])),
        ("k=null,0.5", CategoricalDistribution(["null", 0.5])),
        ("k=choice([8,8],[16])", CategoricalDistribution(["[8,8]", "[16]"])),
        ("k=choice('a b',c)", CategoricalDistribution(["a\\ b", "c"])),
        ("init=glob(*,exclude=con*)", CategoricalDistribution(["he", "xavier"])),
    ],
)
def test_grammar(text, expected):
    assert one(text) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("k=interval(1,0)", r"interval\(1.0,0.0\) begins above its end"),
        ("k=range(3,3)", r"range\(3,3,1\) is empty"),
        ("k=tag(log,interval(0,1))", "a logarithmic scale begins above 0, got 0.0"),
        ("k=tag(log,range(1,9,2))", "a range on a logarithmic scale has steps of 1, got 2"),
        ("k=tag(log,choice(1,2))", "for intervals and ranges, not for choices"),
        ("k=tag(lgo,interval(1,2))", "the tag lgo says nothing here"),
        ("init=glob(z*)", r"init=glob\(z\*\) has no values"),
    ],
)
def test_what_is_no_space_is_one_line(text, line):
    with pytest.raises(ConfigError, match=line) as caught:
        space(text)
    [only] = caught.value.lines
    assert only.startswith(text.partition("=")[0] + ": must be a space that can be searched, but ")


def test_each_fault_is_told():
    with pytest.raises(ConfigError) as caught:
        space("a=interval(1,0)", "b=range(3,3)", "c=3")
    assert [line[0] for line in caught.value.lines] == ["a", "b"]


def test_the_command_line_has_the_last_word():
    found = space(
        "seed=3", "b=range(0,3)", **{"seed": "range(0,9)", "a.b": "interval(0,1)", "b": 4, "c": 5}
    )
    assert found.fixed == ("c=5", "seed=3")
    assert found.parameters == {"a.b": FloatDistribution(0.0, 1.0), "b": IntDistribution(0, 2)}
    nested = space(a={"b": "interval(0,1)"})
    assert nested.parameters == {"a.b": FloatDistribution(0.0, 1.0)}


def test_trials_are_written_as_hydra_reads_them():
    found = space("x=2", "a=interval(0,1)", "b=true,false", "c='a b',null,[8,8]")
    params = {"a": 1.2345678901234567e-05, "b": False, "c": "a\\ b"}
    texts = found.overrides(params)
    assert texts == ("x=2", "a=1.2345678901234568e-05", "b=false", "c=a\\ b")
    values = [each.value() for each in OverridesParser.create().parse_overrides(list(texts))]
    assert values == [2, params["a"], False, "a b"]
    [none] = OverridesParser.create().parse_overrides([found.overrides({"c": "null"})[-1]])
    assert none.value() is None


def test_a_grid_has_all_values():
    found = space("a=range(0,1,0.25)", "b=range(2,9,3)", "c=x,y", "d=int(interval(1,3))")
    assert found.grid() == {
        "a": [0.0, 0.25, 0.5, 0.75],
        "b": [2, 5, 8],
        "c": ["x", "y"],
        "d": [1, 2, 3],
    }
    with pytest.raises(ConfigError, match="grid takes a list of values for each key, but e is an"):
        space("e=interval(0,1)").grid()


def test_each_end_and_each_choice_is_tried_once():
    found = space("a=interval(0,1)", "b=range(2,9)", "c=x,y,z")
    assert list(found.trials()) == [
        {"a": 0.0, "b": 2, "c": "x"},
        {"a": 1.0, "b": 2, "c": "x"},
        {"a": 0.0, "b": 8, "c": "x"},
        {"a": 0.0, "b": 2, "c": "y"},
        {"a": 0.0, "b": 2, "c": "z"},
    ]
