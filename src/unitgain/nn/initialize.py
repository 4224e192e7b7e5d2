"""Filling a pack: each member's layers from its own streams, then what is driven by data.

Shapes: K members, B examples, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unitgain.nn.init import LSUV, Initializer, fill_member, lsuv_rescale
from unitgain.nn.mlp import MLP, Trace
from unitgain.nn.streams import generator


@dataclass(frozen=True)
class MemberInit:
    """How one member begins: its hidden layers, and apart, if given, its first layer and its output layer."""

    hidden: Initializer
    first: Initializer | None = None
    output: Initializer | None = None

    def of_layer(self, i: int, depth: int) -> Initializer:
        """The initializer of linear map i (0 is the first, ``depth`` the output)."""
        if i == depth:
            return self.output or self.hidden
        if i == 0:
            return self.first or self.hidden
        return self.hidden


def initialize(mlp: MLP, inits: Sequence[MemberInit]) -> None:
    """Fill every member's weights and biases.

    Layer i of a member is drawn from a stream of its own, keyed by (seed, "init", i): changing one layer's initializer
    leaves the others' numbers as they were.
    """
    parts = mlp.layout.views(mlp.theta.detach())
    for k, (seed, init) in enumerate(zip(mlp.seeds, inits, strict=True)):
        for i, layer in enumerate(mlp.layers):
            weight = parts[layer.weight][k].T
            bias = None if layer.bias is None else parts[layer.bias][k, 0]
            fill_member(weight, bias, init.of_layer(i, mlp.depth), generator(seed, "init", i))


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
    for i in range(mlp.depth + 1):
        wanted = [init.of_layer(i, mlp.depth).data_driven for init in inits]
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
