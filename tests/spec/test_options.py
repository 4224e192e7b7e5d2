"""The options in conf/ and the classes of the schema say the same."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from unitgain.cli._conf import conf_dir
from unitgain.spec import Component, Custom, RunSpec, instantiate, locate, parse
from unitgain.spec._data import COMMON, DATA_NODES

CONF = conf_dir()
COMPONENT_GROUPS = (
    "activation",
    "bias_init",
    "data",
    "dropout",
    "init",
    "loss",
    "model",
    "norm",
    "optimizer",
    "scheduler",
    "shift",
    "split",
    "weighting",
)
NESTED_GROUPS = ("logger", "metrics")
OPTIONS = [
    pytest.param(group, path, id=f"{group}={path.stem}")
    for group in (*COMPONENT_GROUPS, *NESTED_GROUPS)
    for path in sorted((CONF / group).glob("*.yaml"))
]


def nodes(group: str, path: Path) -> dict[str, dict]:
    content = OmegaConf.to_container(OmegaConf.load(path))
    if group in NESTED_GROUPS:
        return content
    return {group: content} if content else {}


def typed(group: str, name: str, node: dict) -> Component:
    if group == "data":
        node = {key: value for key, value in node.items() if value != "???"}
        given = {"task": "regression", "path": "x.csv", "target_column": "y", "data_id": 1}
        [kind] = [k for k in DATA_NODES if repr(node["_target_"]) in str(k.model_fields["target"])]
        wanted = {k: v for k, v in given.items() if kind.model_fields.get(k) and k not in node}
        return parse({"data": {**node, **wanted}}).data
    if group in NESTED_GROUPS:
        data = {}
        if name in ("mae", "mse", "rmse", "r2"):
            data = {"data": {"_target_": "unitgain.data.sources.diabetes"}}
        return getattr(parse({group: {name: node}, **data}), group)[name]
    key = {"loss": node["_target_"].rpartition(".")[2]}.get(group)
    data = {"_target_": "unitgain.data.sources.digits"}
    if key in ("MSE", "MAE", "Huber"):
        data = {"_target_": "unitgain.data.sources.diabetes"}
    residual = node["_target_"] == "unitgain.nn.init.scaled_residual"
    model = {"_target_": "unitgain.nn.MLP", "residual": residual}
    if group == "shift":
        data["impute"] = "median"
    return getattr(parse({"model": model, "data": data} | {group: node}), group)


@pytest.mark.parametrize(("group", "path"), OPTIONS)
def test_an_option_is_typed_and_has_the_defaults_of_its_class(group, path):
    for name, node in nodes(group, path).items():
        component = typed(group, name, node)
        assert not isinstance(component, Custom)
        fields = type(component).model_fields
        written = {key: value for key, value in node.items() if not key.startswith("_")}
        for key, value in written.items():
            default = fields[key].default
            if value == "???":
                assert fields[key].is_required()
            elif key not in COMMON:
                plain = list(default) if isinstance(default, tuple) else default
                assert value == plain, key


@pytest.mark.parametrize(("group", "path"), OPTIONS)
def test_the_target_of_an_option_is_there_and_takes_its_arguments(group, path):
    if group in ("model",) or path.stem == "auto":
        pytest.skip("is read by the program, not called")
    for name, node in nodes(group, path).items():
        component = typed(group, name, node)
        if group == "optimizer":
            # One optimizer serves all members of a pack: it gets their arguments as a list.
            assert callable(locate(component.target))
        else:
            assert callable(instantiate(component, _key_=group, _partial_=True))


@pytest.mark.parametrize("group", ["trainer", "probe", "callbacks"])
def test_the_default_option_is_the_default_of_the_schema(group):
    chosen = {"trainer": "default", "probe": "full", "callbacks": "default"}[group]
    content = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{chosen}.yaml"))
    assert getattr(parse({group: content}), group) == RunSpec.model_fields[group].default


@pytest.mark.parametrize("path", sorted(CONF.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_an_option_says_what_it_is_in_its_first_lines(path):
    first = next(line for line in path.read_text().splitlines() if "@package" not in line)
    assert first.startswith("# ")
    assert len(first) > 8
