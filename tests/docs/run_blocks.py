"""Runs code blocks in a folder outside the package, in one process: the imports are paid for once.

Usage: ``python run_blocks.py blocks.json results.json``. A block is a mapping with ``kind`` and ``name``, and

- python: ``code``, run in a namespace of its own;
- command: ``argv`` of unitgain;
- export: ``variable`` and ``value``, for all blocks behind it;
- folder: ``path``, made and entered.
"""

import contextlib
import io
import json
import os
import sys
import traceback
from pathlib import Path

NAMES = {}
"""What the Python blocks of each page have defined."""


def run(block):
    """The exit status of one block."""
    if block["kind"] == "python":
        # A page is read from its top: what a block imports, the next ones have.
        names = NAMES.setdefault(block["name"].partition(":")[0], {"__name__": "__main__"})
        exec(compile(block["code"], block["name"], "exec"), names)
        return 0
    if block["kind"] == "command":
        from unitgain.cli import main

        return int(main(block["argv"]))
    if block["kind"] == "export":
        value = os.path.expandvars(block["value"].replace("$PWD", os.getcwd()))
        os.environ[block["variable"]] = value
        if block["variable"] == "PYTHONPATH":
            sys.path.insert(0, value)
        return 0
    if block["kind"] == "folder":
        os.makedirs(block["path"], exist_ok=True)
        os.chdir(block["path"])
        return 0
    raise ValueError(block["kind"])


def captured(block):
    """What one block wrote, and its exit status."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = run(block)
        except BaseException:
            traceback.print_exc()
            status = -1
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    blocks = json.loads(Path(sys.argv[1]).read_text())
    target = Path(sys.argv[2]).absolute()
    target.write_text(json.dumps([captured(block) for block in blocks]))
