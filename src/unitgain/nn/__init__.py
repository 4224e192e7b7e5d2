"""The networks: packed layers, members first, and what they are made of.

Activations are torch.nn's modules; `Norm`, `DropoutKind`, `Loss` and initializers are what a user extends.
"""

from unitgain.nn.activations import Elementwise, Erf
from unitgain.nn.dropout import AlphaDropout, Dropout, DropoutKind
from unitgain.nn.initialize import MemberInit, initialize, initialize_from_data
from unitgain.nn.losses import Loss
from unitgain.nn.mlp import MLP, Shape, Trace
from unitgain.nn.norm import BatchNorm, LayerNorm, Norm, RMSNorm

__all__ = [
    "MLP",
    "AlphaDropout",
    "BatchNorm",
    "Dropout",
    "DropoutKind",
    "Elementwise",
    "Erf",
    "LayerNorm",
    "Loss",
    "MemberInit",
    "Norm",
    "RMSNorm",
    "Shape",
    "Trace",
    "initialize",
    "initialize_from_data",
]
