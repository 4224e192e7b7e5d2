"""Which activations a layer's own hook tells of, and which need a hook of their module.

A layer sees what it is given, and autograd notes which function gave that. So a module such as a ReLU needs a hook only
where its result is changed before the next layer is called, or where none is.
"""

from collections.abc import Hashable, Sequence
from typing import Any, final

from torch import Tensor, nn

FUNCTIONS: dict[str, nn.Module | None] = {
    "TanhBackward0": nn.Tanh(),
    "SigmoidBackward0": nn.Sigmoid(),
    "ReluBackward0": nn.ReLU(),
    "SiluBackward0": nn.SiLU(),
    "MishBackward0": nn.Mish(),
    "HardswishBackward0": nn.Hardswish(),
    "HardsigmoidBackward0": nn.Hardsigmoid(),
    "GeluBackward0": None,
    "EluBackward0": None,
    "LeakyReluBackward0": None,
    "SoftplusBackward0": None,
    "HardtanhBackward0": None,
    "ErfBackward0": None,
    "SinBackward0": None,
}
"""Activations that are told from what autograd notes of a plain function; None where that leaves numbers open."""

_TOLD = tuple(type(module) for module in FUNCTIONS.values() if module is not None)
"""Modules of which autograd's note tells all."""

_SHAPING = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "ToCopyBackward0")
"""What may stand between an activation and the next layer."""


def function_of(tensor: Tensor) -> str:
    """The name of the function that gave the tensor, views and changes of type apart."""
    node = tensor.grad_fn
    while node is not None and node.name() in _SHAPING:
        node = node.next_functions[0][0]
    return "" if node is None else node.name()


@final
class ActivationHooks:
    """Learns from a pass which modules need a hook.

    A network that turns out to be another one in a later pass gets all hooks back.

    Args:
        modules: those that may be activations.

    Attributes:
        modules: those that need a hook in the next pass.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.modules = self._all = modules
        self._learns = True
        self._made: tuple[nn.Module, Tensor] | None = None
        self._superfluous: set[nn.Module] = set()
        self._needed: set[nn.Module] = set()
        self._told: set[Hashable] = set()

    def made(self, layer: Hashable, module: nn.Module, output: Tensor) -> None:
        """A module's hook has shown a layer's activation."""
        if self._learns and type(module) in _TOLD:
            self._made = module, output
            self._told.add(layer)

    def used(self, given: Any) -> None:
        """The next module is called: if with the activation itself, that could have been told without its hook."""
        if self._made is not None:
            module, output = self._made
            (self._superfluous if given is output else self._needed).add(module)
            self._made = None

    def ended(self, layer: Hashable, *, seen: bool) -> None:
        """Nothing behind a layer is called that could show its activation, which has been seen or not."""
        self.used(None)
        if not seen and layer in self._told:
            self.modules, self._learns = self._all, False

    def learn(self) -> None:
        """A pass is over."""
        self.used(None)
        if self._learns:
            spared = self._superfluous - self._needed
            self.modules = [module for module in self._all if module not in spared]
            self._learns = False
