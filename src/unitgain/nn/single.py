"""Modules of one member that torch.nn lacks."""

from typing import final

from torch import Tensor, nn


@final
class Residual(nn.Module):
    """x + scale * branch(x)."""

    def __init__(self, branch: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, x: Tensor) -> Tensor:
        """The input plus what the branch makes of it, scaled."""
        y = self.branch(x)
        return x + (y if self.scale == 1.0 else self.scale * y)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return "" if self.scale == 1.0 else f"scale={self.scale:g}"
