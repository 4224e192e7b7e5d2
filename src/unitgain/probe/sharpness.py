r"""The sharpness of a loss: the largest eigenvalue of its Hessian, without the Hessian.

Gradient descent with rate $\eta$ is stable along directions of curvature below $2 / \eta$, and training tends to bring
the largest there (Cohen et al. 2021, arXiv 2103.00065).

Shapes: P parameters, S steps.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from unitgain.errors import ConfigError

Product = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True)
class Sharpness:
    r"""The ends of a Hessian's spectrum.

    Args:
        eigenvalue: the largest, with its sign: below zero only where all curvature is.
        residual: $\|H v - \lambda v\|$ of it, with v of length one: some eigenvalue lies that close.
        lowest: the smallest eigenvalue found, below zero where the loss curves downwards somewhere. It is approximate:
            its own residual is ``lowest_residual``.
        lowest_residual: that of ``lowest``.
        iterations: products with the Hessian.
        converged: whether ``residual`` is within the tolerance.
    """

    eigenvalue: float
    residual: float
    lowest: float
    lowest_residual: float
    iterations: int
    converged: bool


def sharpness(
    loss: Callable[[Any], Tensor],
    parameters: Iterable[Tensor],
    batches: Sequence[Any],
    *,
    weights: Sequence[float] | None = None,
    tolerance: float = 1e-3,
    iterations: int = 100,
    generator: torch.Generator | None = None,
) -> Sharpness:
    r"""The largest eigenvalue of the Hessian of the mean loss over some batches, by Lanczos iteration.

    Each iteration is one product $H v$ by differentiating twice (Pearlmutter 1994), on every batch. Unlike power
    iteration, which goes where the curvature is largest in size, it tells the largest from the most negative, and takes
    the root of as many products. It keeps all its vectors, S P numbers, and takes their parts off each new one.

    Args:
        loss: of a batch, a mean over its examples. It must be the same each time: no dropout, fixed batch statistics.
        parameters: with respect to these; those that need no gradient are left out.
        batches: what ``loss`` is called with.
        weights: of the batches in the mean, such as their sizes; None: equal.
        tolerance: of the residual, relative to the largest eigenvalue's size.
        iterations: at most so many.
        generator: for the start.

    Raises:
        ConfigError: no batch, no parameter, or a loss that is no single number.

    Example:
        >>> w = torch.tensor([1.0, 1.0], requires_grad=True)
        >>> found = sharpness(lambda scale: (scale * w.square()).sum() / 2, [w], [torch.tensor([3.0, -5.0])])
        >>> round(found.eigenvalue, 4), round(found.lowest, 4), found.converged
        (3.0, -5.0, True)
    """
    chosen = [p for p in parameters if p.requires_grad]
    if not chosen or not len(batches):
        lack = "parameters" if not chosen else "batches"
        raise ConfigError(f"{lack}: must be at least one, got none; sharpness is that of a loss")
    shares = list(weights) if weights is not None else [1.0] * len(batches)
    if len(shares) != len(batches):
        raise ConfigError(f"weights: must be one a batch, {len(batches)}, got {len(shares)}")
    total = sum(shares)
    product = _product(loss, chosen, list(zip(batches, (s / total for s in shares), strict=True)))
    size = sum(p.numel() for p in chosen)
    device = chosen[0].device if generator is None else generator.device
    v = torch.randn(size, generator=generator, device=device, dtype=chosen[0].dtype)
    return _lanczos(product, v.to(chosen[0].device), tolerance, min(iterations, size))


def hessian_product(
    loss: Callable[[Any], Tensor], parameters: Sequence[Tensor], batch: Any, v_P: Tensor
) -> Tensor:
    """H v at one batch, (P,): the gradient of the gradient's inner product with v."""
    with torch.enable_grad():
        value = loss(batch)
        if value.numel() != 1:
            raise ConfigError(f"loss: must be one number, got shape {tuple(value.shape)}")
        gradients = torch.autograd.grad(
            value.reshape(()), parameters, create_graph=True, allow_unused=True
        )
        pieces = torch.split_with_sizes(v_P, [p.numel() for p in parameters])
        inner = [
            (g * piece.view_as(g)).sum()
            for g, piece in zip(gradients, pieces, strict=True)
            if g is not None and g.requires_grad
        ]
        if not inner:
            # A loss that is linear in the parameters has no curvature.
            return torch.zeros_like(v_P)
        seconds = torch.autograd.grad(torch.stack(inner).sum(), parameters, allow_unused=True)
    flat = [
        torch.zeros_like(p) if s is None else s for s, p in zip(seconds, parameters, strict=True)
    ]
    return torch.cat([s.reshape(-1) for s in flat])


def _product(
    loss: Callable[[Any], Tensor], parameters: list[Tensor], batches: list[tuple[Any, float]]
) -> Product:
    def product(v_P: Tensor) -> Tensor:
        total = torch.zeros_like(v_P)
        for batch, share in batches:
            total += share * hessian_product(loss, parameters, batch, v_P)
        return total

    return product


def _lanczos(product: Product, v_P: Tensor, tolerance: float, iterations: int) -> Sharpness:
    basis = [v_P / torch.linalg.vector_norm(v_P)]
    alphas, betas = list[float](), list[float]()
    while True:
        w = product(basis[-1])
        alphas.append(float(w @ basis[-1]))
        matrix = torch.stack(basis)
        for _ in range(2):
            # Rounding brings back what earlier steps took off.
            w = w - matrix.T @ (matrix @ w)
        beta = float(torch.linalg.vector_norm(w))
        values, tails = _ritz(alphas, betas)
        top, lowest = float(values[-1]), float(values[0])
        size = max(abs(top), abs(lowest))
        exact = beta <= 100 * torch.finfo(w.dtype).eps * size
        rest = 0.0 if exact else beta
        residual = rest * float(tails[-1])
        converged = residual <= tolerance * abs(top)
        if converged or exact or len(alphas) == iterations:
            low = rest * float(tails[0])
            return Sharpness(top, residual, lowest, low, len(alphas), converged)
        betas.append(beta)
        basis.append(w / beta)


def _ritz(alphas: list[float], betas: list[float]) -> tuple[Tensor, Tensor]:
    """Eigenvalues of the tridiagonal matrix, ascending, and the sizes of their vectors' last entries."""
    matrix = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    off = torch.tensor(betas, dtype=torch.float64)
    if len(betas):
        matrix += torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    return values, vectors[-1].abs()
