"""The command ``unitgain``: the only room that knows Hydra.

Each subcommand is a `Command` in a module of its own and a row in the table of `_main`. What costs
time to import, torch above all, is imported when a job begins, not before.
"""

from unitgain.cli._main import main

__all__ = ["main"]
