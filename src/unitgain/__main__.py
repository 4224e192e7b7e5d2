"""``python -m unitgain``: the same as the command ``unitgain``."""

import sys

from unitgain.cli import main

if __name__ == "__main__":
    sys.exit(main())
