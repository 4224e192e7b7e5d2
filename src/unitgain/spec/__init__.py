"""The configuration, typed: what a run may be asked for, and how what it names is made.

`parse` turns the resolved configuration into a `RunSpec` and reports every fault at once;
`instantiate` is the one function that calls what a ``_target_`` names. Nothing here imports torch.
"""

from unitgain.spec._allow import VARIABLE, allowed_prefixes, is_allowed
from unitgain.spec._assemble import Assembler
from unitgain.spec._base import Component, Custom, Node
from unitgain.spec._data import DataNode
from unitgain.spec._faults import close_match
from unitgain.spec._hash import Known, run_hash
from unitgain.spec._load import load
from unitgain.spec._locate import instantiate, locate
from unitgain.spec._nodes import Debug, EarlyStopping, Network, Trainer
from unitgain.spec._run import Callbacks, Probe, RunSpec, may_be_null, parse, takes_one
from unitgain.spec._split import SplitNode

__all__ = [
    "VARIABLE",
    "Assembler",
    "Callbacks",
    "Component",
    "Custom",
    "DataNode",
    "Debug",
    "EarlyStopping",
    "Known",
    "Network",
    "Node",
    "Probe",
    "RunSpec",
    "SplitNode",
    "Trainer",
    "allowed_prefixes",
    "close_match",
    "instantiate",
    "is_allowed",
    "load",
    "locate",
    "may_be_null",
    "parse",
    "run_hash",
    "takes_one",
]
