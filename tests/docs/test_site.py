"""The documentation builds without a warning, is complete, and fetches nothing from elsewhere."""

import html
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

from unitgain.report.study import Study, study_folders

ROOT = Path(__file__).parents[2]
ROOMS = [
    *("nn", "nn.init", "theory", "forecast", "probe", "train"),
    *("data", "data.sources", "data.splits", "shift", "runs", "report"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_the_site_is_complete(site):
    pages = {p.stem for p in (ROOT / "docs").glob("*.md")} - {"index"}
    assert {p.parent.name for p in site.glob("*/index.html")} == pages | {"benchmarks"}
    assert (site / "first_run.ipynb").exists()
    assert (site / "index.html").exists()
    assert (site / "figures" / "gradient_flow.png").stat().st_size > 10_000

    text = (site / "reference" / "index.html").read_text()
    anchors = set(re.findall(r'id="(unitgain[\w.]*)"', text))
    for room in [*ROOMS, "spec"]:
        module = importlib.import_module(f"unitgain.{room}")
        # Names of types and constants have no page of their own.
        public = [
            name
            for name in module.__all__
            if isinstance(getattr(module, name), type | FunctionType)
        ]
        absent = [
            name
            for name in public
            if not any(anchor.rpartition(".")[2] == name for anchor in anchors)
        ]
        assert not absent, f"unitgain.{room}: {absent}"


def test_the_gallery_shows_every_study_with_its_verdict(site):
    text = html.unescape((site / "studies" / "index.html").read_text())
    folders = study_folders(ROOT / "experiments")
    for folder in folders:
        figure = site / "figures" / "studies" / f"{folder.name}.png"
        assert figure.read_bytes() == (folder / "figure.png").read_bytes()
        assert f"figures/studies/{folder.name}.png" in text
        assert f"unitgain study {folder.name}</code>" in text
    failing = [folder for folder in folders if not Study.read(folder).expected.holds]
    assert text.count("<strong>The claim holds.</strong>") == len(folders) - len(failing)
    assert text.count("<strong>The claim does not hold.</strong>") == len(failing)


def test_no_page_fetches_anything_from_elsewhere(site):
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//")
    faults = [page.name for page in site.rglob("*.html") if fetched.search(page.read_text())]
    assert not faults
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text()), sheet.name


def test_formulas_are_drawn(site):
    text = (site / "network" / "index.html").read_text()
    assert text.count("<svg role=") > 30
    assert "arithmatex" not in text
    assert ":math:" not in (site / "reference" / "index.html").read_text()
