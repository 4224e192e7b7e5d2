"""Tables from sources, their validation, splits, and what training consumes.

A source is a callable that returns a `Table` (shipped ones: `unitgain.data.sources`); a split is
a callable from a table to a `Split` (shipped ones: `unitgain.data.splits`); a shift makes a
`Shifted` source and target of these (shipped ones: `unitgain.data.shifts`).
"""

from unitgain.data._checks import DataWarning, check_split, check_table
from unitgain.data._domains import Domains
from unitgain.data._encoder import Encoder, fit_encoder
from unitgain.data._gaussian_ratio import GaussianRatio
from unitgain.data._importance import Importance, training_weights
from unitgain.data._prepare import (
    Prepared,
    load,
    make_shift,
    make_split,
    open_data,
    prepare,
    prepared_key,
)
from unitgain.data._shifted import Shift, Shifted
from unitgain.data._split import Split
from unitgain.data._table import CategoricalColumn, Table, Task, table_from_arrays
from unitgain.data._warm_start import earlier_run

__all__ = [
    "CategoricalColumn",
    "DataWarning",
    "Domains",
    "Encoder",
    "GaussianRatio",
    "Importance",
    "Prepared",
    "Shift",
    "Shifted",
    "Split",
    "Table",
    "Task",
    "check_split",
    "check_table",
    "earlier_run",
    "fit_encoder",
    "load",
    "make_shift",
    "make_split",
    "open_data",
    "prepare",
    "prepared_key",
    "table_from_arrays",
    "training_weights",
]
