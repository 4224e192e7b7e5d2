"""Run benchmarks by name, by default all that need nothing of their own, and write their results."""

import sys

from benchmarks import (
    gpu,
    memory,
    monitors,
    pack,
    peers,
    probe,
    report,
    runs,
    scale,
    shift,
    shift_conformal,
    shift_peers,
    start,
    step,
    sweep,
    theory,
    verdict,
    wandb,
)
from benchmarks.measure import report as keep

USUAL = {
    "step": step,
    "probe": probe,
    "start": start,
    "pack": pack,
    "sweep": sweep,
    "runs": runs,
    "report": report,
    "memory": memory,
    "monitors": monitors,
    "shift": shift,
    "conformal": shift_conformal,
    "theory": theory,
    "verdict": verdict,
    "wandb": wandb,
}
ALL = {**USUAL, "scale": scale, "peers": peers, "shift_peers": shift_peers, "gpu": gpu}
"""Peers need environments of their own, gpu a device, scale many minutes."""


def main() -> int:
    names = sys.argv[1:] or list(USUAL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"benchmarks: must be of {', '.join(ALL)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    for name in names:
        keep(name, ALL[name].TITLE, ALL[name].run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
