r"""Forward and backward propagation of a pack by the chain rule, in memory that is set up once.

With $z_l = h_{l-1} W_l + b_l$ and $h_l = \phi(z_l)$, the backward pass is

$\delta_l = (\delta_{l+1} W_{l+1}^T) \odot \phi'(z_l)$, $dJ/dW_l = h_{l-1}^T \delta_l$, $dJ/db_l = \sum_b \delta_{l,b}$,

from $\delta_L = dJ/dz_L$ at the output layer (Goodfellow et al. 2016, *Deep Learning*, algorithm 6.4). Written out, it
puts every gradient where the optimizer and the probe want it, which autograd has no way to do: no step allocates or
gathers anything. Norms, and activations without a known derivative, are differentiated by autograd, each on its own.

Shapes: K members, B examples, D units, L layers (the output layer included), P parameters of a member, G layers of one
width.
"""

from dataclasses import dataclass
from math import prod
from typing import Any, final

import torch
from torch import Tensor

from unitgain.nn.dropout import applied
from unitgain.nn.linear import input_gradient, linear, weight_gradient
from unitgain.nn.mlp import MLP, joined
from unitgain.nn.slopes import slope_of

Grouped = tuple[tuple[tuple[int, ...], Tensor], ...]


@dataclass
class _Saved:
    """What the backward pass of a layer needs.

    Args:
        h: the layer's input, in the type that products are taken in.
        slope: what the activation's derivative needs.
        norm: input, parameters and output of the norm, with autograd's graph between them.
        factor: dropout's.
    """

    h: Tensor
    slope: Any = None
    norm: tuple[Tensor, list[Tensor], Tensor] | None = None
    factor: Tensor | None = None


@dataclass(frozen=True)
class _Memory:
    """The tensors of a step with one number of rows, those of each layer in order.

    Args:
        z: where products go, the output layer's last.
        a: where activations go, the same tensors as ``z`` if they may overwrite it.
        activations: ``a`` by layers of one width.
        h: where the sum of a residual layer goes, by layer.
        d: of each width, where the gradient of a layer's output and of its pre-activation go.
        branch: of each width, where the gradient of a scaled branch goes.
    """

    z: list[Tensor]
    a: list[Tensor]
    activations: Grouped
    h: dict[int, Tensor]
    d: dict[int, tuple[Tensor, Tensor]]
    branch: dict[int, Tensor]


@final
class Propagation:
    """Both passes of a network in training; ``gradient`` (K, P) is what the backward pass leaves.

    Args:
        mlp: the network; its parameters are read where they lie.
        product: the type that matrix products are taken in, torch.bfloat16 for mixed precision; None: the network's.
    """

    def __init__(self, mlp: MLP, product: torch.dtype | None = None) -> None:
        self.mlp = mlp
        self._theta = mlp.theta.detach()
        self.gradient = torch.zeros_like(self._theta)
        self._slope = slope_of(mlp.activation)
        self._norm_first = mlp.shape.norm_first
        self._overwrites = self._slope.in_place and not (mlp.norm and self._norm_first)
        self._into = mlp.layout.views(self.gradient)
        self._cast = None if product is None else self._theta.to(product)
        self._weights = mlp.layout.views(self._theta if self._cast is None else self._cast)
        self._tensors = mlp.layout.views(self._theta)
        self._affine = [
            {name: self._tensors[i].data.requires_grad_() for name, i in layer.affine.items()}
            for layer in mlp.layers
        ]
        self._storage: dict[object, Tensor] = {}
        self._memories: dict[int, _Memory] = {}
        self._saved: list[_Saved] = []
        self._training = True
        self._deltas: dict[tuple[int, bool], tuple[list[Tensor], Grouped]] = {}
        self._kept: Grouped = ()

    @torch.no_grad()
    def forward(
        self,
        x_KBD: Tensor,
        keys_LK: Tensor | None,
        rows: int | None,
        *,
        first: int = 0,
        training: bool = True,
    ) -> Tensor:
        """The outputs (K, B, outputs), which the next call overwrites.

        Args:
            x_KBD: inputs, each member its own.
            keys_LK: one step's row of ``mask_keys``; None means no dropout.
            rows: how many of the B rows are examples; None: all.
            first: how many rows of the batch other processes have before these.
            training: whether norms take their statistics from the batch, and a backward pass may follow.
        """
        self._training = training
        if self._cast is not None:
            self._cast.copy_(self._theta)
        self._memory = memory = self._memory_for(x_KBD.shape[1])
        self._saved = []
        h = x_KBD
        for i, layer in enumerate(self.mlp.layers[:-1]):
            saved = self._save(h)
            u = self._linear(i, saved.h, memory.z[i])
            if self._norm_first:
                u = self._norm(i, u, rows, saved)
            saved.slope = self._slope.forward(u, memory.a[i])
            v = memory.a[i]
            if not self._norm_first:
                v = self._norm(i, v, rows, saved)
            if keys_LK is not None and self.mlp.dropouts:
                saved.factor, shift = self._factors(keys_LK[i], v, first)
                v = applied(v, saved.factor, shift)
            h = joined(h, v, self.mlp.branch_scale_K11, memory.h[i]) if layer.skip else v
        return self._linear(self.mlp.depth, self._save(h).h, memory.z[-1])

    @torch.no_grad()
    def backward(
        self, output_gradient: Tensor, keep: bool = False, *, instead: bool = False
    ) -> None:
        """Write the gradient of the objective with respect to all parameters to ``gradient``.

        Args:
            output_gradient: with respect to what ``forward`` gave, (K, B, outputs).
            keep: keep the pre-activation gradients of all layers for ``preactivation_gradients``.
            instead: keep them where the activations lie, which nobody reads any more: caches hold it.
        """
        memory = self._memory
        kept, self._kept = self._deltas_for(output_gradient, instead) if keep else ([], ())
        last = self.mlp.depth
        d = output_gradient
        for i in range(last, -1, -1):
            passed = d if self.mlp.layers[i].skip else None
            if i < last:
                d = self._through(i, d, kept[i] if keep else memory.d[d.shape[2]][1])
                if keep and d is not kept[i]:
                    d = kept[i].copy_(d)
            factor = d if self._cast is None else d.to(self._cast.dtype)
            layer = self.mlp.layers[i]
            weight_gradient(self._saved[i].h, factor, self._into[layer.weight])
            if layer.bias is not None:
                torch.sum(d, 1, keepdim=True, out=self._into[layer.bias])
            if i:
                d = self._input_gradient(i, factor, passed)

    @property
    def activations(self) -> Grouped:
        """The activations of the last forward pass: layers of one width, and theirs (G, K, B, D)."""
        return self._memory.activations

    @property
    def inputs(self) -> Grouped:
        """What each linear map was given in the last forward pass, likewise; the first layer is a group of its own."""
        first, *others = (saved.h for saved in self._saved)
        memory = self._memory
        if all(h is a for h, a in zip(others, memory.a, strict=True)):
            behind = [(tuple(i + 1 for i in layers), a) for layers, a in memory.activations]
            return (((0,), first.unsqueeze(0)), *behind)
        return tuple(((i,), saved.h.unsqueeze(0)) for i, saved in enumerate(self._saved))

    @property
    def preactivation_gradients(self) -> Grouped:
        """What the last backward pass kept, likewise; the output layer is a group of its own."""
        return self._kept

    def _factors(self, keys_K: Tensor, v: Tensor, first: int) -> tuple[Tensor, Tensor | None]:
        """Dropout's, the same for a row of the batch whichever process has it."""
        kind, rate_K = self.mlp.dropouts[0], self.mlp.drop_rate_K  # type: ignore[index]
        if not first:
            return kind.factors(keys_K, rate_K, v)
        like = v.new_empty(1).expand(v.shape[0], first + v.shape[1], v.shape[2])
        factor, shift = kind.factors(keys_K, rate_K, like)
        return factor[:, first:], None if shift is None else shift[:, first:]

    def _save(self, h: Tensor) -> _Saved:
        self._saved.append(_Saved(h if self._cast is None else h.to(self._cast.dtype)))
        return self._saved[-1]

    def _linear(self, i: int, h: Tensor, out: Tensor) -> Tensor:
        layer = self.mlp.layers[i]
        if self._cast is None:
            bias = None if layer.bias is None else self._tensors[layer.bias]
            return linear(h, self._weights[layer.weight], bias, out)
        out.copy_(linear(h, self._weights[layer.weight], None))
        return out if layer.bias is None else out.add_(self._tensors[layer.bias])

    def _norm(self, i: int, x: Tensor, rows: int | None, saved: _Saved) -> Tensor:
        if self.mlp.norm is None:
            return x
        # .data has a version of its own: the layers' tensors are parts of one, and writing one isn't writing this.
        leaf = x.data.requires_grad_()
        buffers = {n: self.mlp.get_buffer(key) for n, key in self.mlp.layers[i].buffers.items()}
        with torch.set_grad_enabled(self._training):
            y = self.mlp.norm(leaf, self._affine[i], buffers, training=self._training, rows=rows)
        saved.norm = (leaf, list(self._affine[i].values()), y)
        return y.detach()

    def _through(self, i: int, d: Tensor, out: Tensor) -> Tensor:
        """From the gradient of a layer's output to that of its pre-activation, which may go to ``out``."""
        saved, scale_K11 = self._saved[i], self.mlp.branch_scale_K11
        if scale_K11 is not None and self.mlp.layers[i].skip:
            d = torch.mul(d, scale_K11, out=self._memory.branch[d.shape[2]])
        if saved.factor is not None:
            d = d * saved.factor
        if not self._norm_first:
            d = self._norm_gradient(i, d)
        d = self._slope.backward(d, saved.slope, out)
        return self._norm_gradient(i, d) if self._norm_first else d

    def _norm_gradient(self, i: int, d: Tensor) -> Tensor:
        if (norm := self._saved[i].norm) is None:
            return d
        leaf, affine, y = norm
        gradient, *of_affine = torch.autograd.grad(y, [leaf, *affine], d)
        for place, value in zip(self.mlp.layers[i].affine.values(), of_affine, strict=True):
            self._into[place].copy_(value)
        return gradient

    def _input_gradient(self, i: int, factor: Tensor, passed: Tensor | None) -> Tensor:
        weight = self._weights[self.mlp.layers[i].weight]
        out = self._memory.d[weight.shape[1]][0]
        if passed is None and self._cast is None:
            return input_gradient(factor, weight, out)
        product = input_gradient(factor, weight)
        return out.copy_(product) if passed is None else torch.add(passed, product, out=out)

    def _memory_for(self, rows: int) -> _Memory:
        """The tensors of so many rows: views of what the largest batch takes."""
        if rows not in self._memories:
            members, shape = self.mlp.members, self.mlp.shape
            z, groups = self._blocks("z", rows)
            a, activations = (z, groups) if self._overwrites else self._blocks("a", rows)
            head = self._tensor("head", (members, rows, shape.outputs))
            sizes = {width: (members, rows, width) for width in shape.widths}
            h = {
                i: self._tensor(("sum", i), sizes[width])
                for i, width in enumerate(shape.widths)
                if self.mlp.layers[i].skip
            }
            d = {
                width: (
                    self._tensor(("output", width), size),
                    self._tensor(("pre-activation", width), size),
                )
                for width, size in sizes.items()
            }
            scaled = {} if self.mlp.branch_scale_K11 is None else sizes
            branch = {w: self._tensor(("branch", w), size) for w, size in scaled.items()}
            self._memories[rows] = _Memory([*z, head], a, activations, h, d, branch)
        return self._memories[rows]

    def _deltas_for(self, output_gradient: Tensor, instead: bool) -> tuple[list[Tensor], Grouped]:
        """Where pre-activation gradients go that are kept, the output layer's, which is there, last."""
        rows, last = output_gradient.shape[1], self.mlp.depth
        if (rows, instead) not in self._deltas:
            memory = self._memory
            tensors, groups = (
                (memory.a, memory.activations) if instead else self._blocks("delta", rows)
            )
            head = self._tensor("head delta", tuple(output_gradient.shape))
            self._deltas[rows, instead] = [*tensors, head], (*groups, ((last,), head.unsqueeze(0)))
        self._deltas[rows, instead][0][last].copy_(output_gradient)
        return self._deltas[rows, instead]

    def _blocks(self, name: str, rows: int) -> tuple[list[Tensor], Grouped]:
        """A tensor (K, B, D) a hidden layer, those of one width in one block; and the blocks."""
        widths = self.mlp.shape.widths
        tensors: dict[int, Tensor] = {}
        groups = []
        for width in dict.fromkeys(widths):
            layers = tuple(i for i, w in enumerate(widths) if w == width)
            block = self._tensor((name, width), (len(layers), self.mlp.members, rows, width))
            groups.append((layers, block))
            tensors.update(zip(layers, block.unbind(0), strict=True))
        return [tensors[i] for i in range(len(widths))], tuple(groups)

    def _tensor(self, name: object, shape: tuple[int, ...]) -> Tensor:
        size = prod(shape)
        if name not in self._storage or self._storage[name].numel() < size:
            self._storage[name] = self._theta.new_empty(size)
        return self._storage[name][:size].view(shape)
