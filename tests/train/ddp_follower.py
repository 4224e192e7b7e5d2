"""Run by test_ddp.py: a process that takes part in one run after another, as torchrun or srun would start it.

Each line of its input is a JSON object: ``environment`` to add, ``argv`` of the command, or null for ``follow``, and as
``dies`` the step at which it ends without a word, or null. It answers each by a line with the exit status or the error.
"""

import json
import os
import sys

import torch

from unitgain.cli import main
from unitgain.errors import UnitgainError
from unitgain.pack.optim import Optimizer
from unitgain.train import follow


def die_at(step):
    original = Optimizer.step

    def dying(self, gradient, at):
        if at == step:
            os._exit(9)
        original(self, gradient, at)

    Optimizer.step = dying


def answer(order):
    os.environ.update(order["environment"])
    try:
        if order.get("dies") is not None:
            die_at(order["dies"])
        return main(order["argv"]) if order["argv"] else follow()
    except UnitgainError as error:
        return str(error)
    finally:
        for name in order["environment"]:
            del os.environ[name]


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(os.getpid(), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
