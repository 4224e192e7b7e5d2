"""Which parameters of any torch.nn module belong to one layer, and what the layer is called.

A layer is a module with weights: linear, convolutional, an embedding, each of the maps of an attention and each level
of a recurrent network. A module of a kind that is not known here is one layer with all parameters of its own. Norms are
none: their gains follow the layer that they stand behind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import final

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_SKIPPED = (*_NORMS, nn.PReLU, parametrize.ParametrizationList)


@final
@dataclass(frozen=True, eq=False)
class Group:
    """The parameters of one layer.

    Args:
        name: dotted, as in ``named_modules``.
        module: the module whose call is the layer's.
        weights: its weights, mostly one.
        biases: its biases.
        gives_output: whether the module's output is this layer's pre-activation.
        takes_input: whether the module's input is this layer's.
    """

    name: str
    module: nn.Module
    weights: tuple[nn.Parameter, ...]
    biases: tuple[nn.Parameter, ...] = ()
    gives_output: bool = True
    takes_input: bool = True


def layer_groups(module: nn.Module) -> list[Group]:
    """The layers of a module, in the order in which it names them.

    A module that stands in several places is one layer, by its first name.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.MultiheadAttention(8, 2), nn.LSTM(8, 8, 2))
        >>> [group.name for group in layer_groups(net)]
        ['0', '2.in_proj', '2.out_proj', '3.l0', '3.l1']
    """
    groups: list[Group] = []
    inside: set[int] = set()
    for path, child in module.named_modules():
        if id(child) in inside:
            continue
        if isinstance(child, nn.MultiheadAttention):
            inside |= {id(part) for part in child.modules()}
        groups += _groups_of(_readable(path, child), child)
    return groups


def _groups_of(name: str, module: nn.Module) -> Iterator[Group]:
    if isinstance(module, _SKIPPED):
        return
    if isinstance(module, nn.MultiheadAttention):
        yield from _attention(name, module)
    elif isinstance(module, nn.RNNBase):
        yield from _recurrent(name, module)
    else:
        weights, biases = _own(module)
        if weights:
            # What a module with parts of its own gives out is its last part's doing.
            leaf = all(name == "parametrizations" for name, _ in module.named_children())
            yield Group(name, module, weights, biases, leaf, leaf)


def _own(module: nn.Module) -> tuple[tuple[nn.Parameter, ...], tuple[nn.Parameter, ...]]:
    """Weights and biases of the module itself, what it computes them from included."""
    named = dict(module.named_parameters(recurse=False))
    if parametrize.is_parametrized(module):
        assert isinstance(module.parametrizations, nn.ModuleDict)
        for key, child in module.parametrizations.items():
            named |= {f"{key}.{name}": p for name, p in child.named_parameters()}
    weights = tuple(p for name, p in named.items() if not name.startswith("bias"))
    return weights, tuple(p for name, p in named.items() if name.startswith("bias"))


def _attention(name: str, module: nn.MultiheadAttention) -> Iterator[Group]:
    packed: nn.Parameter | None = module.in_proj_weight
    bias: nn.Parameter | None = module.in_proj_bias
    shared = () if bias is None else (bias,)
    if packed is not None:
        yield Group(f"{name}.in_proj", module, (packed,), shared, gives_output=False)
    else:
        # The three share one bias, which is left out.
        for key in ("q_proj", "k_proj", "v_proj"):
            weight = module.get_parameter(f"{key}_weight")
            yield Group(f"{name}.{key}", module, (weight,), (), False, key == "q_proj")
    weights, biases = _own(module.out_proj)
    yield Group(f"{name}.out_proj", module, weights, biases, takes_input=False)


def _recurrent(name: str, module: nn.RNNBase) -> Iterator[Group]:
    """One layer a level and direction: its input, recurrent and projecting weights."""
    for level in range(module.num_layers):
        for suffix in (f"l{level}", f"l{level}_reverse")[: 1 + module.bidirectional]:
            own = {k: p for k, p in module.named_parameters() if k.endswith(f"_{suffix}")}
            weights = tuple(p for key, p in own.items() if key.startswith("weight"))
            biases = tuple(p for key, p in own.items() if key.startswith("bias"))
            yield Group(f"{name}.{suffix}", module, weights, biases, False, level == 0)


def _readable(path: str, module: nn.Module) -> str:
    """The path without what torch.compile and DistributedDataParallel put around modules."""
    parts = [part for part in path.split(".") if part != "_orig_mod"]
    return ".".join(parts) or type(module).__name__


def distinct_weights(groups: list[Group]) -> list[nn.Parameter]:
    """All weights of the layers, each once."""
    return list({id(p): p for p in chain.from_iterable(g.weights for g in groups)}.values())
