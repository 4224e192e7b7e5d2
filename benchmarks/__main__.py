"""Run benchmarks by name, all by default, and write their results."""

import sys

from benchmarks import probe, start, step
from benchmarks.measure import report

ALL = {"step": step, "probe": probe, "start": start}


def main() -> int:
    names = sys.argv[1:] or list(ALL)
    unknown = [name for name in names if name not in ALL]
    if unknown:
        print(f"benchmarks: must be of {', '.join(ALL)}, got {', '.join(unknown)}", file=sys.stderr)
        return 2
    for name in names:
        report(name, ALL[name].TITLE, ALL[name].run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
