r"""Singular values of an input-output Jacobian: exact where it fits into memory, by Lanczos where it doesn't.

Gradients reach the input through the transpose of $J = \partial y / \partial x$, so its singular values are the gains
with which a network passes them on: all equal to one is dynamical isometry (Saxe et al. 2014, arXiv 1312.6120).

Every example has a Jacobian of its own, and products with all of them are one pass over copies of the batch: C vectors
an example take a batch of B C rows. So the function must treat examples independently: put a module with batch norm or
dropout into evaluation mode.

Shapes: M axes in front of the examples (K members of a pack, or none), B examples, I inputs and O outputs of an example
(flattened), C vectors, S Lanczos steps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import final

import torch
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]

EXACT = 2048
"""Up to this many inputs or outputs, whichever are fewer, `singular_values` takes the whole Jacobian by default."""

_BLOCK = 256
"""Vectors that go through the function at once."""


@final
class Jacobian:
    """Products with the Jacobian of a function at some points.

    Args:
        function: x (*M, B, ...) -> y (*M, B, ...), each example by itself. A module, the part of one between two layers
            (`between`), or anything else that autograd differentiates.
        x: the points.
        examples_dim: the axis of the examples: 0 for a module, 1 for a pack's (K, B, D).

    Example:
        >>> weight = torch.tensor([[3.0, 0.0], [0.0, -2.0], [0.0, 0.0]])
        >>> J = Jacobian(lambda x: x @ weight.T, torch.zeros(4, 2))
        >>> J.dense().shape, J.dense()[0].tolist()
        (torch.Size([4, 3, 2]), [[3.0, 0.0], [0.0, -2.0], [0.0, 0.0]])
    """

    def __init__(self, function: Function, x: Tensor, examples_dim: int = 0) -> None:
        self._function, self._x, self._axis = function, x.detach(), examples_dim
        with torch.no_grad():
            y = function(self._x)
        self.lead = self._x.shape[: examples_dim + 1]
        self._in, self._out = self._x.shape[examples_dim + 1 :], y.shape[examples_dim + 1 :]
        self.inputs, self.outputs = prod(self._in), prod(self._out)
        self._graphs: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def product(self, v_BIC: Tensor) -> Tensor:
        """J v, (*M, B, I, C) -> (*M, B, O, C): the gradient of (J^T u) v with respect to u."""
        count = v_BIC.shape[-1]
        _, _, u, pulled = self._graph(count)
        (y,) = torch.autograd.grad(pulled, u, self._rows(v_BIC, self._in), retain_graph=True)
        return self._columns(y, self.outputs, count)

    def transposed_product(self, u_BOC: Tensor) -> Tensor:
        """J^T u, (*M, B, O, C) -> (*M, B, I, C), by backpropagation."""
        count = u_BOC.shape[-1]
        x, y, _, _ = self._graph(count)
        (gradient,) = torch.autograd.grad(y, x, self._rows(u_BOC, self._out), retain_graph=True)
        return self._columns(gradient, self.inputs, count)

    def _graph(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, y, u and J^T u, differentiable, for so many vectors an example; those of one number are kept."""
        if count not in self._graphs:
            with torch.enable_grad():
                x = self._x.repeat_interleave(count, self._axis).requires_grad_()
                y = self._function(x)
                u = torch.zeros_like(y, requires_grad=True)
                (pulled,) = torch.autograd.grad(y, x, u, create_graph=True)
            self._graphs = {count: (x, y, u, pulled)}
        return self._graphs[count]

    def dense(self) -> Tensor:
        """The whole of it, (*M, B, O, I)."""
        backward = self.outputs <= self.inputs
        size = self.outputs if backward else self.inputs
        basis = torch.eye(size, dtype=self._x.dtype, device=self._x.device)
        blocks = []
        for columns in torch.split(basis, _BLOCK, dim=1):
            vectors = columns.expand(*self.lead, *columns.shape)
            blocks.append(self.transposed_product(vectors) if backward else self.product(vectors))
        whole = torch.cat(blocks, -1)
        return whole.mT if backward else whole

    def noise(self, size: int, count: int, generator: torch.Generator | None) -> Tensor:
        """Gaussian vectors (*M, B, size, count)."""
        device = generator.device if generator is not None else self._x.device
        v = torch.randn(
            *self.lead, size, count, generator=generator, device=device, dtype=self._x.dtype
        )
        return v.to(self._x.device)

    def _rows(self, v: Tensor, shape: torch.Size) -> Tensor:
        """(*M, B, N, C) as (*M, B C, ...)."""
        flat = v.mT.flatten(self._axis, self._axis + 1)
        return flat.reshape(*flat.shape[:-1], *shape).contiguous()

    def _columns(self, rows: Tensor, size: int, count: int) -> Tensor:
        """(*M, B C, ...) as (*M, B, N, C)."""
        return rows.reshape(*self.lead, count, size).mT


@final
@dataclass(frozen=True)
class SingularValues:
    r"""Singular values with how far each may be off.

    Args:
        values: (*M, B, k), descending for the top, ascending for the bottom.
        residuals: $\|J^T u - \sigma v\|$ of each: some singular value lies that close. Zero where they are exact.
        steps: of the iteration; 0 where they are exact.
    """

    values: Tensor
    residuals: Tensor
    steps: int


def singular_values(
    function: Function,
    x: Tensor,
    k: int | None = None,
    *,
    bottom: bool = False,
    examples_dim: int = 0,
    steps: int | None = None,
    generator: torch.Generator | None = None,
) -> SingularValues:
    r"""The k largest or smallest singular values of the Jacobian at each example, or all of them.

    All, or any where the Jacobian is small, come from the whole matrix. Otherwise by Lanczos bidiagonalization with
    full reorthogonalization from a random start (Golub and Kahan 1965): ``steps`` products with $J$ and $J^T$ each. Its
    upper end converges fast; the lower one needs about as many steps as there are inputs if many small values lie close
    to each other, and the residuals say so.

    Args:
        function: as of `Jacobian`.
        x: the points.
        k: how many; None for all.
        bottom: the smallest rather than the largest.
        examples_dim: as of `Jacobian`.
        steps: of the iteration, to have it used; None: the whole matrix up to `EXACT`, above it 4 k + 30 steps.
        generator: for the start.

    Returns:
        of an example's min(I, O) values those asked for.

    Example:
        >>> x = torch.randn(5, 3)
        >>> singular_values(lambda x: 2 * x, x).values.shape
        torch.Size([5, 3])
        >>> singular_values(lambda x: 2 * x, x, k=1).values.flatten().tolist()
        [2.0, 2.0, 2.0, 2.0, 2.0]
    """
    jacobian = Jacobian(function, x, examples_dim)
    count = min(jacobian.inputs, jacobian.outputs)
    k = count if k is None else min(k, count)
    if steps is None and (count <= EXACT or k == count):
        values = torch.linalg.svdvals(jacobian.dense())
        values = values.flip(-1)[..., :k] if bottom else values[..., :k]
        return SingularValues(values, torch.zeros_like(values), 0)
    chosen = min(max(steps or 4 * k + 30, k), count)
    fewer = jacobian.outputs < jacobian.inputs
    lanczos = bidiagonalize(jacobian, chosen, 1, generator, transposed=fewer)
    left, values, _ = torch.linalg.svd(lanczos.bidiagonal[..., 0, :, :])
    residuals = lanczos.rest[..., :1] * left[..., -1, :].abs()
    if bottom:
        values, residuals = values.flip(-1), residuals.flip(-1)
    return SingularValues(values[..., :k], residuals[..., :k], chosen)


@final
@dataclass(frozen=True)
class Density:
    r"""The density of squared singular values as point masses, at each example: $\sum_i w_i \delta(\sigma^2 - s_i)$.

    Args:
        squares: s, (*M, B, N).
        weights: w, (*M, B, N), of sum one.
    """

    squares: Tensor
    weights: Tensor

    def moment(self, order: int) -> Tensor:
        r"""$E[\sigma^{2 n}]$ at each example, (*M, B)."""
        return (self.weights * self.squares**order).sum(-1)

    def relative_variance(self) -> Tensor:
        r"""The variance of the squares in units of their squared mean, over the examples together: (*M,).

        With L wide layers it is $L (\mu_2 / \mu_1^2 - 1 - s_1)$, $\mu_k = E[\phi'^{2k}]$, with $s_1 = -1$ for
        Gaussian and 0 for orthogonal weights (Pennington et al. 2017, arXiv 1711.04735, eq. 22).
        """
        mean, second = self.moment(1).mean(-1), self.moment(2).mean(-1)
        return second / mean**2 - 1

    def below(self, squares: Tensor) -> Tensor:
        """The share of squared singular values up to each of these, averaged over the examples: (*M, N)."""
        share = (self.squares.unsqueeze(-1) <= squares).to(self.weights.dtype)
        return (share * self.weights.unsqueeze(-1)).sum(-2).mean(-2)


def spectral_density(
    function: Function,
    x: Tensor,
    *,
    examples_dim: int = 0,
    steps: int | None = None,
    probes: int = 8,
    generator: torch.Generator | None = None,
) -> Density:
    r"""The density of the squared singular values, i.e. of the eigenvalues of $J^T J$, of which there are I.

    Exact where the Jacobian is small. Otherwise by stochastic Lanczos quadrature: Gauss quadrature of $v^T f(J^T J) v$
    for random v, exact for polynomials up to degree 2 S - 1 but for the mean over v (Ubaru et al. 2017, SIAM J. Matrix
    Anal. Appl. 38(4); Ghorbani et al. 2019, arXiv 1901.10159, for networks).

    Args:
        function: as of `Jacobian`.
        x: the points.
        examples_dim: as of `Jacobian`.
        steps: of Lanczos, to have it used; None: the whole matrix up to `EXACT` inputs or outputs, above it 30 steps.
        probes: random vectors an example.
        generator: for them.

    Example:
        >>> density = spectral_density(lambda x: x[:, :2] * torch.tensor([1.0, 3.0]), torch.zeros(1, 4))
        >>> density.moment(1).tolist(), density.moment(2).tolist()
        ([2.5], [20.5])
    """
    jacobian = Jacobian(function, x, examples_dim)
    if steps is None and min(jacobian.inputs, jacobian.outputs) <= EXACT:
        values = torch.linalg.svdvals(jacobian.dense())
        # J^T J has as many zeros as there are more inputs than outputs: one point for all of them.
        squares = torch.nn.functional.pad(values.square(), (0, 1))
        weights = torch.full_like(squares, 1 / jacobian.inputs)
        weights[..., -1] = (jacobian.inputs - values.shape[-1]) / jacobian.inputs
        return Density(squares, weights)
    chosen = min(steps or 30, jacobian.inputs)
    lanczos = bidiagonalize(jacobian, chosen, probes, generator)
    _, values, right = torch.linalg.svd(lanczos.bidiagonal)
    weights = right[..., 0].square() / probes
    return Density(values.square().flatten(-2), weights.flatten(-2))


def between(network: nn.Sequential, first: int, last: int | None = None) -> nn.Sequential:
    """The part of an unpacked MLP between two of its layers: from the input of one to the input of another.

    Args:
        network: what ``MLP.unpack`` gave, or another Sequential of layers. A residual block counts as one.
        first: the layer whose input is x; 0 is the first.
        last: the layer whose input is y; None: y is the network's output.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1))
        >>> between(net, 1, 2)
        Sequential(
          (0): Linear(in_features=3, out_features=3, bias=True)
          (1): Tanh()
        )
    """
    starts = [
        i for i, part in enumerate(network) if any(isinstance(m, nn.Linear) for m in part.modules())
    ]
    end = len(network) if last is None else starts[last]
    return nn.Sequential(*list(network)[starts[first] : end])


@final
@dataclass(frozen=True)
class Bidiagonal:
    """What Lanczos leaves of a Jacobian J: orthonormal U, V with J V = U B.

    Args:
        bidiagonal: B, upper bidiagonal, (*M, B, C, S, S).
        rest: the norm of what J^T U has outside of V, in its last column, (*M, B, C).
    """

    bidiagonal: Tensor
    rest: Tensor


def bidiagonalize(
    jacobian: Jacobian,
    steps: int,
    count: int,
    generator: torch.Generator | None = None,
    *,
    transposed: bool = False,
) -> Bidiagonal:
    """Golub-Kahan-Lanczos with full reorthogonalization, from ``count`` random vectors an example.

    Args:
        jacobian: at the points.
        steps: of the iteration.
        count: C.
        generator: for the vectors.
        transposed: take J^T for J, whose space is the smaller one where there are fewer outputs than inputs.
    """
    products = (jacobian.product, jacobian.transposed_product)
    sizes = (jacobian.inputs, jacobian.outputs)
    there, back = products[::-1] if transposed else products
    sizes = sizes[::-1] if transposed else sizes
    first = jacobian.noise(sizes[0], count, generator)
    rights = [first / torch.linalg.vector_norm(first, dim=-2, keepdim=True)]
    lefts, alphas, betas = list[Tensor](), list[Tensor](), list[Tensor]()
    for step in range(steps):
        u = there(rights[-1])
        if step:
            u = u - betas[-1].unsqueeze(-2) * lefts[-1]
        u, alpha = _next(u, lefts, alphas, jacobian.noise(sizes[1], count, generator))
        lefts.append(u)
        alphas.append(alpha)
        v = back(u) - alpha.unsqueeze(-2) * rights[-1]
        v, beta = _next(v, rights, alphas, jacobian.noise(sizes[0], count, generator))
        rights.append(v)
        betas.append(beta)
    matrix = torch.diag_embed(torch.stack(alphas, -1))
    if steps > 1:
        matrix = matrix + torch.diag_embed(torch.stack(betas[:-1], -1), 1)
    return Bidiagonal(matrix, betas[-1])


def _next(
    v: Tensor, others: list[Tensor], sizes: list[Tensor], fresh: Tensor
) -> tuple[Tensor, Tensor]:
    """The next basis vector and its length: what of v is orthogonal to the others.

    Where that is rounding alone, the vectors so far span an invariant space: a fresh one goes on, at length zero.
    """
    v = _orthogonal(v, others)
    norm = torch.linalg.vector_norm(v, dim=-2)
    scale = torch.stack(sizes).amax(0) if sizes else torch.zeros_like(norm)
    over = norm <= 100 * torch.finfo(v.dtype).eps * scale
    if bool(over.any()):
        v = torch.where(over.unsqueeze(-2), _orthogonal(fresh, others), v)
    length = torch.linalg.vector_norm(v, dim=-2, keepdim=True)
    return v / length.clamp(min=torch.finfo(v.dtype).tiny), norm.masked_fill(over, 0.0)


def _orthogonal(v: Tensor, others: list[Tensor]) -> Tensor:
    """What is left of v without its parts along the others, taken off twice for rounding's sake."""
    if not others:
        return v
    basis = torch.stack(others, -1)  # (*M, B, N, C, S)
    for _ in range(2):
        along = (basis * v.unsqueeze(-1)).sum(-3, keepdim=True)
        v = v - (basis * along).sum(-1)
    return v
