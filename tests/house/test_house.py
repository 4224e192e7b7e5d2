"""The house itself: rooms, files, pins."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import unitgain

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "unitgain"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_arrows_between_rooms_point_downwards() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    "room", ["spec", "runs", "cli", "report", "errors", "data", "upload", "sweep.pool", "cli._many"]
)
def test_a_light_room_does_not_import_torch(room: str) -> None:
    code = f"import sys, unitgain.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(
    ("package", "room"),
    [("lightning", "train"), ("wandb", "upload"), ("hydra", "cli"), ("matplotlib", "report")],
)
def test_only_one_room_knows_the_package(package: str, room: str) -> None:
    users = {p.relative_to(SOURCE).parts[0] for p in SOURCE.rglob("*.py") if package in _imports(p)}
    assert users == {room}


def test_files_stay_readable() -> None:
    long = {p.name: n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 420}
    assert not long


def test_there_is_no_catch_all_module() -> None:
    assert not [
        p for p in ROOT.glob("src/**/*.py") if p.stem in {"utils", "helpers", "misc", "common"}
    ]


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == unitgain.__version__
    assert f"version: {unitgain.__version__}" in (ROOT / "CITATION.cff").read_text()
    assert re.search(
        rf"## \[?({re.escape(unitgain.__version__)}|Unreleased)",
        (ROOT / "CHANGELOG.md").read_text(),
    )


def test_every_dependency_is_pinned() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    project = PROJECT["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    names = {re.split(r"[\[<>=!~ ]", requirement)[0] for wanted in lists for requirement in wanted}
    normal = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    assert names - {"unitgain"} <= normal | set(pins)
    assert re.fullmatch(r"\d+\.\d+\.\d+", pins["torch"])
