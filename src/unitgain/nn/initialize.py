"""Filling a pack: each member's layers from its own streams, then what is driven by data.

Shapes: K members, B examples, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.nn.facts import facts_of, theory_of
from unitgain.nn.init import LSUV, Derived, Initializer, fill_member, lsuv_rescale
from unitgain.nn.mlp import MLP, Trace
from unitgain.nn.streams import generator
from unitgain.theory.derived import Facts, Kind, Rule


@dataclass(frozen=True)
class MemberInit:
    """How one member begins: its hidden layers, and apart, if given, its first layer and its output layer."""

    hidden: Initializer | Derived
    first: Initializer | Derived | None = None
    output: Initializer | Derived | None = None

    def of_layer(self, i: int, depth: int) -> Initializer | Derived:
        """The initializer of linear map i (0 is the first, ``depth`` the output)."""
        if i == depth:
            return self.output or self.hidden
        if i == 0:
            return self.first or self.hidden
        return self.hidden


def layer_initializers(mlp: MLP, inits: Sequence[MemberInit]) -> list[list[Initializer]]:
    """The initializer of each layer of each member, those that are derived made of the network's facts.

    Where that of the hidden layers sets rates, it does so for a first and an output layer of their own too.
    """
    activation = theory_of(mlp.activation) if any(map(_derives, inits)) else None
    found = []
    for k, init in enumerate(inits):
        made: dict[object, Initializer] = {}
        layers = []
        for i, layer in enumerate(mlp.layers):
            kind = (i == 0, i == mlp.depth, layer.skip)
            if kind not in made:
                facts = None if activation is None else facts_of(mlp, k, i, activation)
                made[kind] = _made(init.of_layer(i, mlp.depth), init.hidden, facts)
            layers.append(made[kind])
        found.append(layers)
    return found


def _made(
    chosen: Initializer | Derived, hidden: Initializer | Derived, facts: Facts | None
) -> Initializer:
    """A layer's initializer, with the rates of ``hidden`` where it has none of its own."""
    if facts is None:
        assert isinstance(chosen, Initializer)
        return chosen
    initializer = chosen.make(facts) if isinstance(chosen, Derived) else chosen
    if chosen is hidden or initializer.rate_factor is not None or not isinstance(hidden, Derived):
        return initializer
    return replace(initializer, rate_factor=hidden.make(facts).rate_factor)


def _derives(init: MemberInit) -> bool:
    return any(isinstance(each, Derived) for each in (init.hidden, init.first, init.output))


def initialize(mlp: MLP, inits: Sequence[MemberInit]) -> None:
    """Fill every member's weights and biases.

    Layer i of a member is drawn from a stream of its own, keyed by (seed, "init", i): changing one layer's initializer
    leaves the others' numbers as they were.
    """
    parts = mlp.layout.views(mlp.theta.detach())
    members = zip(mlp.seeds, layer_initializers(mlp, inits), strict=True)
    for k, (seed, initializers) in enumerate(members):
        for i, layer in enumerate(mlp.layers):
            weight = parts[layer.weight][k].T
            bias = None if layer.bias is None else parts[layer.bias][k, 0]
            fill_member(weight, bias, initializers[i], generator(seed, "init", i))


def rate_factors(mlp: MLP, inits: Sequence[MemberInit], rule: Rule | None) -> Tensor | None:
    """What each parameter's learning rate is multiplied by, (K, P); None where that is 1 throughout.

    Args:
        mlp: the network.
        inits: as given to `initialize`.
        rule: how the optimizer's steps follow the gradient, None where it doesn't say.

    Raises:
        ConfigError: an initializer asks for factors, and the optimizer has no rule.
    """
    factor_KP = torch.ones(mlp.members, mlp.layout.total, dtype=torch.float64)
    widths = mlp.shape.all_widths
    for k, initializers in enumerate(layer_initializers(mlp, inits)):
        for slot in mlp.layout.slots:
            of_layer = initializers[slot.layer].rate_factor
            if of_layer is None:
                continue
            if rule is None:
                raise ConfigError(
                    "init: rates that differ between layers need an optimizer whose class says `rule`, "
                    "'sgd' or 'adam', but this one doesn't; say so there, or choose init=critical"
                )
            kind: Kind = "weight" if slot.kind == "weight" else "vector"
            factor = of_layer(rule, kind, *widths[slot.layer : slot.layer + 2])
            factor_KP[k, slot.offset : slot.offset + slot.size] = factor
    return None if bool((factor_KP == 1.0).all()) else factor_KP


def initialize_from_data(
    mlp: MLP, inits: Sequence[MemberInit], x_KBD: Tensor, rows: int | None = None
) -> None:
    """Rescale, layer by layer, the weights of the members whose initializers ask for it (LSUV).

    Args:
        mlp: already filled.
        inits: as given to `initialize`.
        x_KBD: a batch, each member its own.
        rows: how many of the B rows are examples, the rest being padding. None: all.

    Reference:
        Mishkin and Matas 2016, arXiv 1511.06422, algorithm 1.
    """
    initializers = layer_initializers(mlp, inits)
    for i in range(mlp.depth + 1):
        wanted = [of_member[i].data_driven for of_member in initializers]
        for settings in dict.fromkeys(w for w in wanted if w is not None):
            chosen = [k for k, w in enumerate(wanted) if w == settings]
            _rescale_layer(mlp, i, settings, chosen, x_KBD, rows)


def _rescale_layer(
    mlp: MLP, i: int, settings: LSUV, chosen: list[int], x_KBD: Tensor, rows: int | None
) -> None:
    weight_KIO = mlp.layout.views(mlp.theta.detach())[mlp.layers[i].weight]
    drawn_KIO = weight_KIO[chosen]
    before = {name: tensor.clone() for name, tensor in mlp.block_state().items() if name != "theta"}

    def preactivation(scale_K: Tensor) -> Tensor:
        weight_KIO[chosen] = drawn_KIO * scale_K.to(drawn_KIO).view(-1, 1, 1)
        trace = Trace()
        with torch.no_grad():
            mlp.train()(x_KBD, rows=rows, trace=trace)
        return trace.preactivations[i][chosen, :rows]

    preactivation(lsuv_rescale(preactivation, len(chosen), settings))
    # The passes in training mode moved the running statistics of batch norm.
    mlp.load_block_state(mlp.block_state() | before)
