"""Smooth functions of tensors, minimised by L-BFGS."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor


def minimise(
    function: Callable[[Tensor], Tensor],
    start_P: Tensor,
    *,
    positive: bool = False,
    steps: int = 200,
    tolerance: float = 1e-6,
) -> Tensor:
    """Where a differentiable function is least, by scipy's L-BFGS-B with torch's gradients.

    Args:
        function: maps parameters (P,) to a number; evaluated where the start lies.
        start_P: where the search begins.
        positive: keep all parameters at 0 or above.
        steps: at most that many iterations.
        tolerance: of the largest component of the projected gradient.
    """

    def value_and_slope(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        theta_P = torch.from_numpy(at).to(start_P).requires_grad_()
        with torch.enable_grad():
            value = function(theta_P)
        (slope_P,) = torch.autograd.grad(value, theta_P)
        return float(value.detach()), slope_P.cpu().numpy()

    found = minimize(  # type: ignore[no-untyped-call]
        value_and_slope,
        start_P.cpu().numpy(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * len(start_P) if positive else None,
        options={"maxiter": steps, "gtol": tolerance, "ftol": 1e-12, "maxcor": 20},
    )
    return torch.from_numpy(np.asarray(found.x)).to(start_P)
