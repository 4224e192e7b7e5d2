"""Gathering a step's tensors from any torch.nn module, with hooks that live for one step.

Shapes: K = 1 member, B examples, D units. The layers are the module's ``torch.nn.Linear``s in the order of their calls.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Self, final

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from unitgain.probe.quantities import Layers, LayerTensors


@final
class Recorder:
    """Records one forward and backward pass of a module of plain layers, within a ``with`` block.

    Inside the block, run the forward pass and the backward pass; after the optimizer step, ``tensors()`` gives what
    the quantities need. No hook stays registered outside the block.

    Args:
        module: holds the ``torch.nn.Linear`` layers to watch.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        >>> with Recorder(net) as recorder:
        ...     net(torch.ones(2, 4)).mean().backward()
        >>> from unitgain.probe import QUANTITIES
        >>> QUANTITIES["grad_weight"](recorder.tensors()).shape
        torch.Size([1, 2])
    """

    def __init__(self, module: nn.Module) -> None:
        self._linears = [m for m in module.modules() if isinstance(m, nn.Linear)]
        self._others = [
            m
            for m in module.modules()
            if not isinstance(m, nn.Linear) and not any(True for _ in m.children())
        ]
        self._handles: list[RemovableHandle] = []
        self._calls: list[nn.Linear] = []
        self._shape: tuple[int, ...] = ()
        self._gradients: dict[int, Tensor] = {}
        self._activations: dict[int, Tensor] = {}
        self._inputs: dict[int, Tensor] = {}
        self._weights: dict[int, Tensor] = {}
        self._parameter_gradients: dict[int, Tensor] | None = None
        self.activation: nn.Module | None = None

    @property
    def stepped(self) -> bool:
        """Whether the parameters' gradients were kept, which is when the optimizer takes a step."""
        return self._parameter_gradients is not None

    @property
    def layers(self) -> int:
        """How many calls of linear layers were recorded."""
        return len(self._calls)

    def __enter__(self) -> Self:
        self._calls.clear()
        self._gradients.clear()
        self._activations.clear()
        self._inputs.clear()
        self._parameter_gradients = None
        self._handles = [m.register_forward_hook(self._on_linear) for m in self._linears]
        self._handles += [m.register_forward_hook(self._on_activation) for m in self._others]
        self._weights = {id(m): m.weight.detach().clone() for m in self._linears}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def keep_parameter_gradients(self) -> None:
        """Copy the parameters' gradients as they are now, before whatever is done to them next."""
        parameters = [p for m in self._linears for p in m.parameters(recurse=False)]
        self._parameter_gradients = {
            id(p): p.grad.detach().clone() for p in parameters if p.grad is not None
        }

    def tensors(
        self, scale: float = 1.0, saturated: Callable[[Tensor], Tensor] | None = None
    ) -> LayerTensors:
        """What was recorded, with a leading member axis of one.

        Args:
            scale: what the loss was multiplied by before the backward pass (a gradient scaler's factor).
            saturated: as in `LayerTensors`.
        """
        count = range(len(self._calls))
        return LayerTensors(
            preactivation_gradients=Layers.of(
                [_packed(self._gradients.get(i), scale) for i in count]
            ),
            activations=Layers.of([_packed(self._activations.get(i)) for i in count]),
            inputs=Layers.of([_packed(self._inputs.get(i)) for i in count]),
            weights=Layers.of([_packed(m.weight) for m in self._calls]),
            weight_gradients=Layers.of([_packed(self._gradient_of(m.weight)) for m in self._calls]),
            bias_gradients=Layers.of([_packed(self._gradient_of(m.bias)) for m in self._calls]),
            weight_updates=Layers.of(
                [_packed(m.weight - self._weights[id(m)]) for m in self._calls]
            ),
            saturated=saturated,
        )

    def _gradient_of(self, parameter: Tensor | None) -> Tensor | None:
        if parameter is None:
            return None
        if self._parameter_gradients is None:
            return parameter.grad
        return self._parameter_gradients.get(id(parameter))

    def _on_linear(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not output.requires_grad or not isinstance(module, nn.Linear):
            return
        index = len(self._calls)
        self._calls.append(module)
        self._inputs[index] = inputs[0]
        self._shape = tuple(output.shape)
        output.register_hook(self._keeper(index))  # type: ignore[no-untyped-call]

    def _keeper(self, index: int) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            self._gradients[index] = gradient

        return keep

    def _on_activation(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # The first leaf without parameters that keeps a linear layer's shape is its activation: norms mostly have
        # parameters, and a loss gives one number.
        if not self._calls or not isinstance(output, Tensor) or not output.requires_grad:
            return
        plain = not any(True for _ in module.parameters())
        if plain and tuple(output.shape) == self._shape:
            self._activations.setdefault(len(self._calls) - 1, output.detach())
            self.activation = self.activation or module


def _packed(tensor: Tensor | None, scale: float = 1.0) -> Tensor | None:
    """(1, B, D) from (B, ..., D) or a parameter's (…); None stays None."""
    if tensor is None:
        return None
    tensor = tensor if scale == 1.0 else tensor / scale
    return tensor.detach().unsqueeze(0)
