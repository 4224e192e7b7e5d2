"""Every block of code in the README and in docs/ is run, in a folder outside the package."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("run_blocks.py")
PAGES = ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
OTHER_PAGES = [page for page in PAGES if page not in ("README.md", "docs/extending.md")]
PARTS = 8  # processes that share the other pages
FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
QUICK = ["trainer.max_epochs=1", "trainer.progress=false"]
# What a page may show that isn't run here.
OTHER = ("pip install", ".venv/bin/", "source ")
LANGUAGES = {"python", "yaml", "bash", "console", "text"}


def fences(page):
    """Language, title, text and line of each block of a page."""
    text = (ROOT / page).read_text()
    for found in FENCE.finditer(text):
        yield found[1], found[2], found[3], text.count("\n", 0, found.start()) + 1


def blocks_of(page, folder):
    """What `run_blocks.py` is to do for a page; ``expected`` is what the page shows."""
    blocks = [{"kind": "folder", "path": str(folder), "name": page, "expected": None}]
    for language, title, text, line in fences(page):
        name = f"{page}:{line}"
        if title:
            path = folder / title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif language == "python":
            blocks.append({"kind": "python", "code": text, "name": name, "expected": None})
        elif language == "bash":
            for command in text.replace("\\\n", " ").splitlines():
                blocks += block_of(command, name, expected=None)
        elif language == "console":
            command, expected = prompt_and_output(text)
            blocks += block_of(command, name, expected)
    return blocks


def prompt_and_output(text):
    """The one command of a console block, and the lines below it."""
    prompt, _, output = text.replace("\\\n", " ").partition("\n")
    assert prompt.startswith("$ "), prompt
    return prompt.removeprefix("$ "), [line for line in output.splitlines() if line.strip()]


def block_of(command, name, expected):
    """The block of one shell command; none for an empty line."""
    words = shlex.split(command, comments=True)
    if not words or command.startswith(OTHER):
        return []
    if words[0] == "export":
        pairs = [word.split("=", 1) for word in words[1:]]
        return [
            {"kind": "export", "variable": v, "value": x, "name": name, "expected": None}
            for v, x in pairs
        ]
    if words[0] == "make":
        assert words[1] in make_targets(), command
        given = [word.removeprefix("ARGS=") for word in words[2:] if word.startswith("ARGS=")]
        if words[1] != "train" or not given:
            return []
        words = ["unitgain", "train", *shlex.split(given[0])]
    assert words[0] == "unitgain", f"{name}: what is {command!r}?"
    argv = [word for word in words[1:] if not word.startswith("trainer.max_epochs=")]
    if argv[0] == "train" and not {"--help", "--cfg"} & set(argv):
        argv += QUICK
    return [{"kind": "command", "argv": argv, "name": name, "expected": expected}]


def make_targets():
    """The targets of the Makefile."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def run(pages, folder):
    """Run the blocks of some pages: pairs of a block and its result."""
    blocks = [block for page in pages for block in blocks_of(page, folder / Path(page).stem)]
    (folder / "blocks.json").write_text(json.dumps(blocks))
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("UNITGAIN_", "WANDB_"))}
    subprocess.run(
        [sys.executable, str(DRIVER), "blocks.json", "results.json"],
        cwd=folder,
        env=kept | {"COLUMNS": "200", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
        check=True,
        timeout=280,
    )
    results = json.loads((folder / "results.json").read_text())
    assert len(results) == len(blocks)
    return list(zip(blocks, results, strict=True))


def complaint(block, result):
    """What is wrong with a result, or None."""
    written = (result["out"] + result["err"]).splitlines()[-30:]
    shown = "\n".join([f"{block['name']} {' '.join(block.get('argv', []))}", *written])
    expected = block["expected"]
    if expected is None:
        return None if result["status"] == 0 else f"exit status {result['status']}: {shown}"
    errors = [line for line in expected if line.startswith("error: ")]
    if errors:
        if result["status"] == 2 and result["err"].splitlines() == errors:
            return None
        return f"other errors than the page shows: {shown}"
    wanted = 3 if any(line.startswith("diverged") for line in expected) else 0
    if result["status"] != wanted:
        return f"exit status {result['status']}: {shown}"
    lines = [normal(line) for line in result["out"].splitlines() if line.strip()]
    if "..." not in expected:
        return None if [normal(line) for line in expected] == lines else f"other output: {shown}"
    rest = iter(lines)
    missing = [line for line in expected if line != "..." and normal(line) not in rest]
    return f"not in the output: {missing}\n{shown}" if missing else None


def normal(line):
    """A line without what differs from run to run; a verdict is about the start, and stays."""
    if line.startswith("gradients "):
        return line
    line = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", "TIME", line)
    line = re.sub(r"\b[0-9a-f]{12}\b", "HASH", line)
    return " ".join(re.sub(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", "#", line).split())


@pytest.mark.parametrize(
    "pages",
    [
        ["README.md"],
        ["docs/extending.md"],
        *(OTHER_PAGES[i::PARTS] for i in range(PARTS)),
    ],
    ids=["readme", "extending", *(f"docs{i}" for i in range(PARTS))],
)
def test_every_block_does_what_the_page_says(pages, tmp_path):
    ran = run(pages, tmp_path)
    assert any(block["kind"] == "command" for block, _ in ran)
    complaints = [text for block, result in ran if (text := complaint(block, result))]
    assert not complaints, "\n\n".join(complaints)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_language_that_is_known(page):
    text = (ROOT / page).read_text()
    assert text.count("```") == 2 * len(list(fences(page)))
    assert {language for language, _, _, _ in fences(page)} <= LANGUAGES


def test_a_failure_would_be_noticed(tmp_path):
    failing = {"kind": "python", "code": "1 / 0", "name": "page:1", "expected": None}
    (tmp_path / "blocks.json").write_text(json.dumps([failing]))
    command = [sys.executable, str(DRIVER), "blocks.json", "results.json"]
    subprocess.run(command, cwd=tmp_path, check=True)
    [result] = json.loads((tmp_path / "results.json").read_text())
    assert "ZeroDivisionError" in complaint(failing, result)
    shown = {"name": "page:1", "argv": ["train"], "expected": ["...", "gradients flow: 1"]}
    other = {"status": 0, "out": "a\ngradients flow: 2\n", "err": ""}
    assert "not in the output" in complaint(shown, other)
    assert complaint(shown, other | {"out": "a\ngradients flow: 1\n"}) is None


def test_extending_has_an_example_of_every_point():
    titles = {title for _, title, _, _ in fences("docs/extending.md") if title}
    modules = {Path(title).stem for title in titles if title.endswith(".py")}
    groups = {Path(title).parent.name for title in titles if title.endswith(".yaml")}
    assert modules == {
        "initializers",
        "derived",
        "activations",
        "norms",
        "dropouts",
        "sources",
        "splits",
        "shifts",
        "ratios",
        "losses",
        "metrics",
        "quantities",
        "optimizers",
        "schedules",
        "loggers",
        "callbacks",
    }
    every = {p.name for p in (ROOT / "conf").iterdir() if p.is_dir()}
    assert groups == every - {
        "model",
        "bias_init",
        "trainer",
        "debug",
        "experiment",
        "hydra",
    }


def test_extending_names_each_option_that_it_makes_in_a_command():
    text = (ROOT / "docs" / "extending.md").read_text()
    for _, title, _, _ in fences("docs/extending.md"):
        if title and title.endswith(".yaml"):
            group, option = Path(title).parent.name, Path(title).stem
            assert re.search(
                rf"unitgain train --config-dir \S+ .*\b{group}=(\[csv,)?{option}", text
            )
