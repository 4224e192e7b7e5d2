"""Write the notebook of a page of the documentation: its text, and its commands and code as cells.

python scripts/notebook.py docs/first_run.md docs/first_run.ipynb
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FIGURE = re.compile(r"^!\[[^\]]*\]\(figures/(\w+\.png)\)$", re.MULTILINE)
SHOW = 'from IPython.display import Image\n\nImage("runs/first/figures/{}", width=800)'


def notebook_of(page: str) -> dict[str, Any]:
    """A page in Markdown as a notebook, without outputs.

    Args:
        page: its text. Of a block ``console`` the command becomes a cell, and what it prints is left to the cell; each
            line of a block ``bash`` becomes a cell; a figure becomes one that shows the figure of ``runs/first``.
    """
    cells = [
        {
            "cell_type": kind,
            "id": f"cell-{number}",
            "metadata": {},
            "source": text.splitlines(keepends=True),
        }
        | ({"execution_count": None, "outputs": []} if kind == "code" else {})
        for number, (kind, text) in enumerate(_cells(page))
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def text_of(notebook: dict[str, Any]) -> str:
    """The notebook as a file has it."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _cells(page: str) -> Iterator[tuple[str, str]]:
    end = 0
    for block in BLOCK.finditer(page):
        yield from _prose(page[end : block.start()])
        language, text, end = block[1], block[2].rstrip("\n"), block.end()
        if language == "python":
            yield "code", text
        elif language == "console":
            yield "code", f"!{text.partition(chr(10))[0].removeprefix('$ ')}"
        elif language == "bash":
            yield from (("code", f"!{line}") for line in text.replace("\\\n", " ").splitlines())
        else:
            yield "markdown", f"```{language}\n{text}\n```"
    yield from _prose(page[end:])


def _prose(text: str) -> Iterator[tuple[str, str]]:
    end = 0
    for figure in FIGURE.finditer(text):
        yield from _markdown(text[end : figure.start()])
        yield "code", SHOW.format(figure[1])
        end = figure.end()
    yield from _markdown(text[end:])


def _markdown(text: str) -> Iterator[tuple[str, str]]:
    if text.strip():
        yield "markdown", text.strip()


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(text_of(notebook_of(Path(sys.argv[1]).read_text())))
