"""The run directory: its layout, atomic writes, sealed checkpoints and what reads them back.

A run directory is the unit of truth. Each file is written beside its target and renamed over it,
and ``summary.json`` comes last: a directory without it is an unfinished run.
"""

from unitgain.runs._atomic import atomic_write, remove_leftovers
from unitgain.runs._batch import Batch
from unitgain.runs._checkpoints import (
    Checkpoint,
    drop_previous,
    newest_valid,
    previous_of,
    read_sealed,
    write_sealed,
)
from unitgain.runs._claims import LOOK_S, ClaimLostError, Claims, Holder, Patience, holder_of
from unitgain.runs._compare import (
    Differences,
    Same,
    compare_runs,
    gradients_difference,
    history_difference,
    numerics_parts,
    same_bits,
)
from unitgain.runs._directory import RunDirectory, Status
from unitgain.runs._environment import environment, numerics_fingerprint
from unitgain.runs._gradients import Gradients, GradientsWriter, read_gradients
from unitgain.runs._launch import Launched, launched
from unitgain.runs._metrics import MetricsWriter, read_metrics
from unitgain.runs._options import option_name
from unitgain.runs._record import Record, record_of
from unitgain.runs._recover import checkpoint_facts, cut_back, newest_usable
from unitgain.runs._seal import open_sealed, seal
from unitgain.runs._signals import SIGNALS, EndingSignals, InterruptedBySignal, cause_of_signal
from unitgain.runs._standing import Standing, SweepStanding, read_standing, write_plan
from unitgain.runs._table import RunsTable, read_runs
from unitgain.runs._yaml import to_yaml

__all__ = [
    "LOOK_S",
    "SIGNALS",
    "Batch",
    "Checkpoint",
    "ClaimLostError",
    "Claims",
    "Differences",
    "EndingSignals",
    "Gradients",
    "GradientsWriter",
    "Holder",
    "InterruptedBySignal",
    "Launched",
    "MetricsWriter",
    "Patience",
    "Record",
    "RunDirectory",
    "RunsTable",
    "Same",
    "Standing",
    "Status",
    "SweepStanding",
    "atomic_write",
    "cause_of_signal",
    "checkpoint_facts",
    "compare_runs",
    "cut_back",
    "drop_previous",
    "environment",
    "gradients_difference",
    "history_difference",
    "holder_of",
    "launched",
    "newest_usable",
    "newest_valid",
    "numerics_fingerprint",
    "numerics_parts",
    "open_sealed",
    "option_name",
    "previous_of",
    "read_gradients",
    "read_metrics",
    "read_runs",
    "read_sealed",
    "read_standing",
    "record_of",
    "remove_leftovers",
    "same_bits",
    "seal",
    "to_yaml",
    "write_plan",
    "write_sealed",
]
