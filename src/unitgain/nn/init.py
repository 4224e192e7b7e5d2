"""How weights and biases begin.

Each option is a function that gives an `Initializer`: what fills one member's weight in the layout
of ``torch.nn.Linear``, (out, in), from a generator alone, and the standard deviation that it
states. A user's own function ``fn(weight, generator)`` is enough: `as_initializer` wraps it.

`critical`, `scaled_residual` and `spectral` follow from the network and give a `Derived`, which
makes an `Initializer` of its `Facts`.

Biases are zeros, but for `mean_field`, `torch_default` and `critical`, which say more; ``bias_init``
has the last word through `with_bias`.
"""

from unitgain.nn._init_base import (
    BiasFill,
    BiasInitializer,
    Derived,
    Initializer,
    WeightFill,
    as_bias_initializer,
    as_initializer,
    fill_member,
    with_bias,
)
from unitgain.nn._init_bias import bias_constant, bias_normal, bias_uniform, bias_zeros
from unitgain.nn._init_derived import critical, scaled_residual, spectral
from unitgain.nn._init_lsuv import LSUV, lsuv_rescale, lsuv_scales
from unitgain.nn._init_random import (
    he,
    lecun,
    mean_field,
    normal,
    torch_default,
    truncated_normal,
    uniform,
    xavier,
)
from unitgain.nn._init_structured import constant, identity, lsuv, orthogonal, sparse, zeros
from unitgain.theory.derived import Facts

__all__ = [
    "LSUV",
    "BiasFill",
    "BiasInitializer",
    "Derived",
    "Facts",
    "Initializer",
    "WeightFill",
    "as_bias_initializer",
    "as_initializer",
    "bias_constant",
    "bias_normal",
    "bias_uniform",
    "bias_zeros",
    "constant",
    "critical",
    "fill_member",
    "he",
    "identity",
    "lecun",
    "lsuv",
    "lsuv_rescale",
    "lsuv_scales",
    "mean_field",
    "normal",
    "orthogonal",
    "scaled_residual",
    "sparse",
    "spectral",
    "torch_default",
    "truncated_normal",
    "uniform",
    "with_bias",
    "xavier",
    "zeros",
]
