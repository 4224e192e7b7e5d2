"""The multilayer perceptron of a pack: K members of one shape, members first.

Shapes: K members, B examples, D/H features, L hidden layers, P parameters of a member (padding included).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from unitgain.errors import ConfigError
from unitgain.nn.activations import as_activation
from unitgain.nn.dropout import DropoutKind, mask_keys
from unitgain.nn.layout import Layout
from unitgain.nn.linear import linear
from unitgain.nn.norm import Norm
from unitgain.nn.single import Residual


@dataclass(frozen=True)
class Shape:
    """What all members of a pack share.

    Args:
        inputs: features of an example.
        outputs: units of the linear output head.
        widths: units of each hidden layer.
        bias: whether linear layers have biases. One that a norm right behind it would remove is left out.
        residual: whether a hidden layer adds its input to its output, where both are of one width.
        norm_first: whether the norm stands between the linear map and the activation, or behind the activation.
    """

    inputs: int
    outputs: int
    widths: tuple[int, ...]
    bias: bool = True
    residual: bool = False
    norm_first: bool = True

    def __post_init__(self) -> None:
        if min((self.inputs, self.outputs, *self.widths)) < 1:
            raise ConfigError(f"model.width: every width must be at least 1, got {self}")

    @property
    def all_widths(self) -> tuple[int, ...]:
        """Inputs, hidden widths, outputs."""
        return (self.inputs, *self.widths, self.outputs)


@dataclass
class Trace:
    """What a traced forward pass leaves: the tensors of each layer, by depth.

    ``preactivations`` are the outputs of the linear maps, z_l (K, B, D_l), the head's included; ``activations`` those
    of the nonlinearities, h_l (K, B, D_l), the head apart.
    """

    preactivations: list[Tensor] = field(default_factory=list)
    activations: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class _Layer:
    weight: int
    bias: int | None
    affine: dict[str, int]
    buffers: dict[str, str]
    skip: bool


def joined(
    h_KBD: Tensor, branch_KBD: Tensor, scale_K11: Tensor | None, out: Tensor | None = None
) -> Tensor:
    """The sum of a residual layer, h + s branch; None for a scale of 1, which costs no product."""
    if scale_K11 is None:
        return torch.add(h_KBD, branch_KBD, out=out)
    return torch.addcmul(h_KBD, branch_KBD, scale_K11, out=out)


@final
class MLP(nn.Module):
    r"""K multilayer perceptrons of one shape, evaluated as one batched model.

    Hidden layer l of member k: $z = h W_l + b_l$, then norm, activation and dropout as configured; the head is linear.
    A residual layer gives $h + s a$, with s the member's branch scale and a what the others give.
    All parameters are one tensor ``theta`` (K, P), laid out by ``layout``.

    Args:
        shape: what the members share.
        activation: an elementwise module or callable.
        norm: a `Norm`, or None.
        dropouts: one a member, all of one kind (their rates may differ); None for no dropout.
        branch_scales: one a member; what a residual branch is multiplied by. None: 1 for all.
        seeds: one a member; the streams of dropout follow from it.
        dtype: of parameters and activations.

    Raises:
        ConfigError: an activation with parameters, or members with dropout of different kinds.
    """

    theta: Tensor
    drop_rate_K: Tensor
    branch_scale_K11: Tensor | None

    def __init__(
        self,
        shape: Shape,
        *,
        activation: nn.Module | Callable[[Tensor], Tensor],
        norm: Norm | None = None,
        dropouts: Sequence[DropoutKind] | None = None,
        branch_scales: Sequence[float] | None = None,
        seeds: Sequence[int] = (0,),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.shape, self.seeds, self.norm = shape, tuple(seeds), norm
        self.activation = as_activation(activation)
        self.dropouts = tuple(dropouts) if dropouts else None
        if self.dropouts and len({type(d) for d in self.dropouts}) > 1:
            raise ConfigError("dropout: members of one pack must have one kind of dropout")
        self.layout = Layout()
        self.layers = [self._add_layer(i) for i in range(len(shape.widths) + 1)]
        self.theta = nn.Parameter(torch.zeros(self.members, self.layout.total, dtype=dtype))
        self._fill_affine()
        for layer, width in zip(self.layers, shape.widths, strict=False):
            for name, key in layer.buffers.items():
                start = norm.buffers()[name] if norm else 0.0
                self.register_buffer(key, torch.full((self.members, width), start, dtype=dtype))
        rates = [d.p for d in self.dropouts or ()]
        self.register_buffer("drop_rate_K", torch.tensor(rates, dtype=torch.float64), False)
        self.drops = any(rates)
        self.branch_scales = tuple(branch_scales or (1.0,) * self.members)
        scaled = shape.residual and any(s != 1.0 for s in self.branch_scales)
        scale_K = torch.tensor(self.branch_scales, dtype=torch.float64).to(dtype)
        self.register_buffer("branch_scale_K11", scale_K.view(-1, 1, 1) if scaled else None, False)

    @property
    def members(self) -> int:
        """K."""
        return len(self.seeds)

    @property
    def depth(self) -> int:
        """L, the number of hidden layers."""
        return len(self.shape.widths)

    @property
    def parameters_per_member(self) -> int:
        """Trained numbers of a member, padding not counted."""
        return sum(slot.size for slot in self.layout.slots)

    def mask_keys(self, first_step: int, steps: int) -> Tensor | None:
        """The keys that ``forward`` needs for dropout in some steps: (S, L, K), or None where nothing drops."""
        if not self.drops:
            return None
        return mask_keys(self.seeds, first_step, steps, self.depth).to(self.theta.device)

    def forward(
        self,
        x_KBD: Tensor,
        *,
        keys_LK: Tensor | None = None,
        rows: int | None = None,
        trace: Trace | None = None,
    ) -> Tensor:
        """The outputs (K, B, outputs).

        Args:
            x_KBD: inputs, each member its own.
            keys_LK: one step's row of ``mask_keys``; None means no dropout.
            rows: how many of the B rows are examples, the rest being padding. None: all.
            trace: filled with the tensors of each layer when given.
        """
        tensors = self.layout.views(self.theta)
        h = x_KBD
        for i, layer in enumerate(self.layers[:-1]):
            z = self._linear(layer, tensors, h)
            branch = self._norm(layer, tensors, z, rows) if self.shape.norm_first else z
            a = self.activation(branch)
            if trace is not None:
                trace.preactivations.append(z)
                trace.activations.append(a)
            if not self.shape.norm_first:
                a = self._norm(layer, tensors, a, rows)
            if keys_LK is not None and self.dropouts:
                a = self.dropouts[0].apply(a, keys_LK[i], self.drop_rate_K)
            h = joined(h, a, self.branch_scale_K11) if layer.skip else a
        output = self._linear(self.layers[-1], tensors, h)
        if trace is not None:
            trace.preactivations.append(output)
        return output

    def block_state(self) -> dict[str, Tensor]:
        """The tensors that make up all members, (K, ...) each: parameters and running statistics, not copied."""
        keys = [key for layer in self.layers for key in layer.buffers.values()]
        return {"theta": self.theta.detach(), **{key: self.get_buffer(key) for key in keys}}

    def load_block_state(self, block: Mapping[str, Tensor]) -> None:
        """Copy what ``block_state`` gave, of this or an equal network."""
        for name, tensor in self.block_state().items():
            tensor.copy_(block[name])

    def member_state(self, k: int, block: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Member ``k``'s parameters and running statistics as copies, under the names and shapes of ``unpack(k)``.

        Args:
            k: which member.
            block: where from, like ``block_state``; the present one by default.
        """
        block = self.block_state() if block is None else block
        state = self.layout.member(block["theta"], k)
        for name, key in self._buffer_names():
            state[name] = block[key][k].cpu().clone()
        return state

    def load_member_state(self, k: int, state: Mapping[str, Tensor]) -> None:
        """The inverse of ``member_state``."""
        self.layout.load_member(self.theta, k, state)
        for name, key in self._buffer_names():
            self.get_buffer(key)[k] = state[name].to(self.theta)

    def unpack(self, k: int = 0) -> nn.Sequential:
        """Member ``k`` as an ordinary ``torch.nn.Sequential``, a copy, in evaluation mode.

        Example:
            >>> mlp = MLP(Shape(4, 3, (8,)), activation=torch.nn.ReLU(), seeds=(0, 1))
            >>> [type(m).__name__ for m in mlp.unpack(1)]
            ['Linear', 'ReLU', 'Linear']
        """
        modules: list[nn.Module] = []
        for i, width in enumerate(self.shape.widths):
            block = self._single_block(i, width, k)
            branch = [Residual(nn.Sequential(*block), self.branch_scales[k])]
            modules += branch if self.layers[i].skip else block
        modules.append(self._single_linear(self.depth))
        single = nn.Sequential(*modules).to(self.theta.dtype)
        single.load_state_dict(self.member_state(k))
        return single.eval()

    def _linear(self, layer: _Layer, tensors: list[Tensor], h: Tensor) -> Tensor:
        bias = None if layer.bias is None else tensors[layer.bias]
        return linear(h, tensors[layer.weight], bias)

    def _norm(self, layer: _Layer, tensors: list[Tensor], x: Tensor, rows: int | None) -> Tensor:
        if self.norm is None:
            return x
        return self.norm(
            x,
            {name: tensors[i] for name, i in layer.affine.items()},
            {name: self.get_buffer(key) for name, key in layer.buffers.items()},
            training=self.training,
            rows=rows,
        )

    def _add_layer(self, i: int) -> _Layer:
        fan_in, fan_out = self.shape.all_widths[i : i + 2]
        head = i == len(self.shape.widths)
        skip = self.shape.residual and fan_in == fan_out and not head
        linear, norm = self._positions(i)
        weight = self.layout.add(f"{linear}.weight", i, "weight", (fan_in, fan_out))
        bias = None
        if self._has_bias(i):
            bias = self.layout.add(f"{linear}.bias", i, "bias", (1, fan_out))
        if head or self.norm is None:
            return _Layer(weight, bias, {}, {}, skip)
        affine = {
            name: self.layout.add(f"{norm}.{name}", i, f"norm.{name}", (1, fan_out))
            for name in self.norm.parameters()
        }
        return _Layer(weight, bias, affine, {b: f"{b}_{i}" for b in self.norm.buffers()}, skip)

    def _has_bias(self, i: int) -> bool:
        """Whether linear map i has a bias.

        One in front of batch norm has rounding noise for a gradient, which Adam turns into steps of +-lr.
        """
        removed = self.norm is not None and self.norm.centres and self.shape.norm_first
        return self.shape.bias and not (removed and i < len(self.shape.widths))

    def _positions(self, i: int) -> tuple[str, str]:
        """The names of layer i's linear map and norm in the unpacked Sequential."""
        modules_a_layer = 2 + (self.norm is not None) + (self.dropouts is not None)
        widths = self.shape.all_widths
        skips = [self.shape.residual and a == b for a, b in pairwise(widths[:-1])]
        start = sum(1 if skip else modules_a_layer for skip in skips[:i])
        norm = 1 if self.shape.norm_first else 2
        if i < len(skips) and skips[i]:
            return f"{start}.branch.0", f"{start}.branch.{norm}"
        return f"{start}", f"{start + norm}"

    def _buffer_names(self) -> list[tuple[str, str]]:
        return [
            (f"{self._positions(i)[1]}.{name}", key)
            for i, layer in enumerate(self.layers)
            for name, key in layer.buffers.items()
        ]

    def _single_linear(self, i: int) -> nn.Linear:
        fan_in, fan_out = self.shape.all_widths[i : i + 2]
        return nn.Linear(fan_in, fan_out, self._has_bias(i))

    def _single_block(self, i: int, width: int, k: int) -> list[nn.Module]:
        norm = [self.norm.single(width)] if self.norm else []
        middle = [*norm, self.activation] if self.shape.norm_first else [self.activation, *norm]
        drop = [self.dropouts[k].single()] if self.dropouts else []
        return [self._single_linear(i), *middle, *drop]

    def _fill_affine(self) -> None:
        if self.norm is None:
            return
        with torch.no_grad():
            for name, start in self.norm.parameters().items():
                for slot in self.layout.of_kind(f"norm.{name}"):
                    self.theta[:, slot.offset : slot.offset + slot.size] = start
