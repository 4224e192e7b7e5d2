"""docs/configuration.md against conf/ and the schema."""

import re
from pathlib import Path

import pytest
import yaml

from unitgain.spec import RunSpec, Trainer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text()
OPTIONS = sorted((ROOT / "conf").glob("*/*.yaml"))
PARTS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
SECTIONS = {part.partition("\n")[0].strip("`"): part for part in PARTS[1:]}


def row_of(group, option):
    """The cells of an option's row."""
    found = re.findall(rf"^\| `{option}` \|(.*)\|(.*)\|$", SECTIONS[group], re.MULTILINE)
    assert len(found) == 1, f"{group}={option} has {len(found)} rows"
    return found[0]


def leaves(node, prefix=""):
    """The arguments of a YAML file by dotted key."""
    for key, value in node.items():
        if key in ("_target_", "defaults"):
            continue
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_option_has_a_row_with_its_defaults(path):
    group, option = path.parent.name, path.stem
    arguments, meaning = row_of(group, option)
    assert meaning.strip()
    node = yaml.safe_load(path.read_text()) or {}
    if group == "metrics":
        assert re.findall("`(.*?)`", arguments) == list(node)
        return
    if group == "logger":
        (node,) = node.values()
    shown = dict(cell.split(": ", 1) for cell in re.findall("`(.*?)`", arguments))
    assert {key: yaml.safe_load(value) for key, value in shown.items()} == dict(leaves(node))


def test_no_row_is_about_an_option_that_is_not_there():
    there = {(path.parent.name, path.stem) for path in OPTIONS}
    groups = {group for group, _ in there}
    rows = {
        (group, option)
        for group in groups
        for option in re.findall(r"^\| `(\w+)` \|", SECTIONS[group], re.MULTILINE)
    }
    assert rows == there


@pytest.mark.parametrize("key", RunSpec.model_fields)
def test_each_key_at_the_top_has_a_row(key):
    rows = re.findall(r"^\| (`.*?) \|", SECTIONS["Keys at the top"], re.MULTILINE)
    named = [name for row in rows for name in re.findall("`(.*?)`", row)]
    assert named.count(key) == 1


@pytest.mark.parametrize("key", Trainer.model_fields)
def test_each_key_of_the_trainer_has_a_row_with_its_default(key):
    [shown] = re.findall(rf"^\| `trainer\.{key}` \| `(.*?)` \|", SECTIONS["trainer"], re.MULTILINE)
    assert yaml.safe_load(shown) == Trainer.model_fields[key].default


def test_the_defaults_of_the_groups_are_those_of_the_primary_configuration():
    primary = yaml.safe_load((ROOT / "conf" / "train.yaml").read_text())["defaults"]
    pairs = [pair for entry in primary if isinstance(entry, dict) for pair in entry.items()]
    chosen = {
        group: option
        for group, option in pairs
        if option is not None and "@" not in group and "override" not in group
    }
    found = re.search(r"The default of each group: `(.*?)`", PAGE, re.DOTALL)[1].split()
    shown = dict(text.split("=") for text in found)
    assert {group: yaml.safe_load(option) for group, option in shown.items()} == chosen
