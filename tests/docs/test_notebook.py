"""The notebook of the first tutorial is that of its page, and runs."""

import json
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
PAGE, NOTEBOOK = ROOT / "docs" / "first_run.md", ROOT / "docs" / "first_run.ipynb"


def converter():
    spec = spec_from_file_location("notebook", ROOT / "scripts" / "notebook.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_is_that_of_the_page():
    convert = converter()
    wanted = convert.text_of(convert.notebook_of(PAGE.read_text()))
    assert NOTEBOOK.read_text() == wanted, "write it again by scripts/notebook.py"
    cells = json.loads(wanted)["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[0] == "!unitgain train hydra.run.dir=runs/first"
    text = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert all(line in text for line in PAGE.read_text().splitlines() if line.startswith("#"))


def test_the_notebook_runs(tmp_path, monkeypatch):
    """With one epoch a run; what a command prints and a figure shows is in the cells."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(
        "PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source.startswith("!unitgain train"):
            cell.source += " trainer.max_epochs=1 trainer.progress=false; echo status $?"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    text = "".join(out["text"] for out in shown if out.output_type == "stream")
    trained = [cell for cell in notebook.cells if cell.source.startswith("!unitgain train")]
    assert len(trained) == text.count("status 0") == 4
    assert "equal to summary.json, to the last bit" in text
    [figure] = [out for out in shown if out.output_type == "execute_result"]
    assert figure["data"]["image/png"]
