import inspect
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from unitgain.data import sources, splits
from unitgain.spec._data import (
    COMMON,
    DATA_NODES,
    CSVNode,
    CustomData,
    MNIST1DNode,
    OpenMLNode,
)
from unitgain.spec._split import SPLIT_NODES, CustomSplit, RandomSplitNode

CONF = Path(__file__).parents[2] / "conf"
FILE = {"_target_": "unitgain.data.sources.csv", "path": "t.csv", "target_column": "y"}
FILE["task"] = "regression"
GIVEN = {"path": "t.csv", "target_column": "y", "task": "regression", "data_id": 31}


def target_of(node):
    (target,) = node.model_fields["target"].annotation.__args__
    return target


def callable_of(node):
    home, name = target_of(node).removeprefix("unitgain.data.").split(".")
    return getattr({"sources": sources, "splits": splits}[home], name)


def read(path):
    return yaml.safe_load(path.read_text())


def options(group):
    return sorted((CONF / group).glob("*.yaml"))


def test_each_node_has_an_option_and_each_option_a_node():
    for group, nodes in (("data", DATA_NODES), ("split", SPLIT_NODES)):
        targets = [read(path)["_target_"] for path in options(group)]
        assert sorted(targets) == sorted(target_of(node) for node in nodes)


def test_each_source_has_a_node():
    assert {target_of(node).rpartition(".")[2] for node in DATA_NODES} == set(sources.__all__)


@pytest.mark.parametrize("path", [*options("data"), *options("split")], ids=lambda path: path.stem)
def test_options_spell_out_the_defaults(path):
    values = read(path)
    (node,) = (n for n in (*DATA_NODES, *SPLIT_NODES) if target_of(n) == values["_target_"])
    values |= {key: GIVEN[key] for key, value in values.items() if value == "???"}
    needed = {key: values[key] for key in ("_target_", *GIVEN) if key in values}
    if "batch_size" in values:
        needed["batch_size"] = values["batch_size"]
    assert node.model_validate(values) == node.model_validate(needed)
    shown = set(values) - {"_target_", "batch_size", "task"}
    assert shown == set(node.model_fields) - {"target", *COMMON}


@pytest.mark.parametrize("node", [*DATA_NODES, *SPLIT_NODES], ids=lambda node: node.__name__)
def test_arguments_are_those_of_the_callable(node):
    required = {name for name, field in node.model_fields.items() if field.is_required()}
    given = {key: GIVEN[key] for key in required & set(GIVEN)}
    arguments = node.model_validate({"_target_": target_of(node), **given}).arguments()
    parameters = inspect.signature(callable_of(node)).parameters
    named = {n: p for n, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    assert set(named) <= set(arguments)
    if len(named) == len(parameters):
        assert set(named) == set(arguments)
    for name, parameter in named.items():
        if parameter.default is not parameter.empty:
            assert arguments[name] == parameter.default


def test_lists_of_one_may_be_given_as_text():
    node = CSVNode.model_validate({**FILE, "categorical": "c"})
    assert node.target_column == ("y",)
    assert node.categorical == ("c",)
    assert node.arguments()["task"] == "regression"


@pytest.mark.parametrize(("given", "read"), [("tab", "\t"), ("\\t", "\t"), (";", ";")])
def test_separators(given, read):
    assert CSVNode.model_validate({**FILE, "separator": given}).separator == read


def test_own_sources_get_every_key_that_is_not_common():
    node = CustomData.model_validate(
        {"_target_": "own.spiral", "task": "regression", "batch_size": 8, "turns": 3}
    )
    assert node.arguments() == {"turns": 3}
    assert node.batch_size == 8
    split = CustomSplit.model_validate({"_target_": "own.cut", "_partial_": True, "at": 3})
    assert split.arguments() == {"at": 3}


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ([0.5, 0.5, 0.5], r"sum to 1 .* got \[0.5, 0.5, 0.5\] with sum 1.5"),
        ([0.8, 0.2, 0.0], "must be three numbers above 0"),
        ([1.2, -0.1, -0.1], "must be three numbers above 0"),
        ([0.5, 0.5], "fractions"),
    ],
)
def test_impossible_fractions(fractions, message):
    with pytest.raises(ValidationError, match=message):
        RandomSplitNode.model_validate(
            {"_target_": "unitgain.data.splits.Random", "fractions": fractions}
        )


def test_fractions_may_be_rounded():
    thirds = [0.3333333, 0.3333333, 0.3333333]
    RandomSplitNode.model_validate({"_target_": "unitgain.data.splits.Random", "fractions": thirds})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "???"}, "must be given"),
        ({"target_column": "???"}, "must be given"),
        ({"target_column": []}, "at least 1 item"),
        ({"task": "???"}, "classification"),
        ({"separator": ";;"}, "at most 1 character"),
        ({"task": "classification", "target_column": ["y", "z"]}, "one column for classification"),
        ({"categorical": ["y"]}, "one role .* got y in several"),
        ({"group_column": "g", "drop_columns": ["g", "h"]}, "got g in several"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"scale": "log"}, "standard"),
        ({"columns": "a"}, "Extra inputs"),
    ],
)
def test_impossible_file_keys(keys, message):
    with pytest.raises(ValidationError, match=message):
        CSVNode.model_validate({**FILE, **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"padding": [5, 3]}, "low <= high"),
        ({"max_translation": 80}, "at most 12 \\+ padding = 72, got 80"),
        ({"task": "regression"}, "classification"),
        ({"n": 9}, "greater than or equal to 10"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_impossible_mnist1d_keys(keys, message):
    target = "unitgain.data.sources.mnist1d"
    with pytest.raises(ValidationError, match=message):
        MNIST1DNode.model_validate({"_target_": target, **keys})


def test_openml_may_leave_the_target_to_openml():
    keys = {"_target_": "unitgain.data.sources.openml", "data_id": 31, "task": "regression"}
    assert OpenMLNode.model_validate(keys).arguments()["target_column"] is None
