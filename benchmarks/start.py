"""From the command to the first optimizer step, against importing torch and lightning alone."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.measure import interleaved, ratio

TITLE = "Time from `unitgain train` to the first optimizer step / `import torch, lightning`"
ROUNDS = 11

IMPORTS = "import torch, lightning"

# Ends the process at the first optimizer step of an otherwise ordinary command.
FIRST_STEP = """
import builtins, os, sys
real = builtins.__import__
def watching(*args, **kwargs):
    module = real(*args, **kwargs)
    optim = sys.modules.get("unitgain.pack.optim")
    if optim is not None and hasattr(optim, "RMSprop"):
        builtins.__import__ = real
        step = optim.Optimizer.step
        def first(self, *args):
            step(self, *args)
            os._exit(0)
        optim.Optimizer.step = first
    return module
builtins.__import__ = watching
from unitgain.cli import main
sys.exit(main(["train"]) or 1)
"""


def timed(code: str) -> float:
    """Wall-clock seconds of a Python process that runs the code in an empty folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
        return time.perf_counter() - start


def run() -> dict[str, Any]:
    seconds = interleaved(
        {"train": lambda: timed(FIRST_STEP), "imports": lambda: timed(IMPORTS)}, ROUNDS
    )
    return {
        "bar": "at most 1.2",
        "ratio": ratio(seconds["train"], seconds["imports"]),
        "seconds": {name: round(sorted(s)[ROUNDS // 2], 3) for name, s in seconds.items()},
    }
