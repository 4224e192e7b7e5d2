"""Modules of one member that torch.nn lacks."""

from typing import final

from torch import Tensor, nn


@final
class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """The input plus what the branch makes of it."""
        return x + self.branch(x)  # type: ignore[no-any-return]
