"""``python scripts/train.py key=value ...``: the same as ``unitgain train``, for sweep servers and clusters."""

import sys

from unitgain.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
