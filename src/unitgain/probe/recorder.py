"""Gathering a step's tensors from any torch.nn module, with hooks that live for one step.

Shapes: K = 1 member, B examples, D units. The layers are the calls of a module's `layer_groups`, in their order.
"""

import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeGuard, final

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.hooks import RemovableHandle

from unitgain.probe.activation_hooks import FUNCTIONS, ActivationHooks, function_of
from unitgain.probe.blocks import Blocks, dense, flat, joined, padded, units_last
from unitgain.probe.groups import Group, distinct_weights, layer_groups
from unitgain.probe.layers import Layers
from unitgain.probe.quantities import QUANTITIES, LayerTensors, reads


@dataclass
class _Call:
    """One call of a layer in a forward pass; a step of accumulated gradients has several passes, by their numbers.

    Args:
        group: the layer.
        name: of this call among those of a pass.
        gradients: of its pre-activations.
        inputs: what it was given.
        activations: what its nonlinearity gave.
        output: its pre-activations of the latest pass, until the next layer is called.
    """

    group: Group
    name: tuple[nn.Module | None, int, int] = (None, 0, 0)
    gradients: dict[int, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    activations: dict[int, Tensor] = field(default_factory=dict)
    output: Tensor | None = None


@final
class Recorder:
    """Records the forward and backward passes of one optimizer step, within a ``with`` block.

    Inside the block, run the forward and the backward pass, several of them where gradients are accumulated; after the
    optimizer step, ``tensors()`` gives what the quantities need. No hook stays registered outside the block. Inside it,
    compiled modules run as they are written, since hooks aren't called in a compiled graph.

    Args:
        module: holds the layers to watch, of the kinds that `layer_groups` knows.
        quantities: what will be measured; nothing is kept that none of them reads.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        >>> with Recorder(net) as recorder:
        ...     net(torch.ones(2, 4)).mean().backward()
        >>> recorder.names
        ('0', '2')
        >>> from unitgain.probe import QUANTITIES
        >>> QUANTITIES["grad_weight"](recorder.tensors()).shape
        torch.Size([1, 2])
    """

    def __init__(self, module: nn.Module, quantities: Collection[str] = tuple(QUANTITIES)) -> None:
        self.groups = layer_groups(module)
        self._reads_inputs = reads(quantities, "inputs")
        self._reads_updates = reads(quantities, "weight_updates")
        self._of_module: dict[nn.Module, list[Group]] = {}
        hooked = {g.module for g in self.groups if g.gives_output or g.takes_input}
        for group in self.groups:
            if group.module in hooked:
                self._of_module.setdefault(group.module, []).append(group)
        inside = {part for m in self._of_module for part in m.modules()}
        self._others = ActivationHooks(
            [m for m in module.modules() if m not in inside and not any(True for _ in m.children())]
        )
        self._weights = distinct_weights(self.groups)
        self._undo, self._hooked = ExitStack(), False
        # A number that no other hook has.
        self._key = RemovableHandle(OrderedDict()).id
        self._blocks = Blocks()
        self._before: Layers | None = None
        self._places: dict[int, tuple[int, int]] = {}
        self._reset()

    def _reset(self) -> None:
        self._blocks.end()
        self._calls: dict[tuple[nn.Module | None, int, int], _Call] = {}
        self._times: dict[nn.Module, int] = {}
        self._latest: _Call | None = None
        self._pass, self._first_pass, self._backward_began = 0, 0, False
        self._parameter_gradients: dict[int, Tensor] | None = None
        self._kept: tuple[Layers, Layers] | None = None
        self._taken: list[_Call] | None = None
        self.activation: nn.Module | None = None

    @property
    def stepped(self) -> bool:
        """Whether the parameters' gradients were kept, which is when the optimizer takes a step."""
        return self._kept is not None or self._parameter_gradients is not None

    @property
    def layers(self) -> int:
        """How many layers were recorded."""
        return len(self._recorded())

    @property
    def names(self) -> tuple[str, ...]:
        """The layers' names: a module's path, with ``#2`` behind it for its second call in one forward pass."""
        times: Counter[str] = Counter()
        names = []
        for call in self._recorded():
            times[call.group.name] += 1
            number = times[call.group.name]
            names.append(call.group.name if number == 1 else f"{call.group.name}#{number}")
        return tuple(names)

    @property
    def flowing(self) -> tuple[bool, ...]:
        """Of each layer, whether a gradient of its pre-activations was recorded."""
        return tuple(bool(call.gradients) for call in self._recorded())

    def __enter__(self) -> Self:
        self._reset()
        if self._reads_updates:
            self._before = self._blocks.stack("before", self._weights)
            for g, (indices, _) in enumerate(self._before.groups):
                self._places |= {id(self._weights[i]): (g, row) for row, i in enumerate(indices)}
        return self.resume()

    def resume(self) -> Self:
        """Go on after ``__exit__`` with a further pass of the same step."""
        if "torch._dynamo" in sys.modules:
            self._undo.push(torch.compiler.set_stance("force_eager").__exit__)
        self._taken = None
        # What register_forward_hook does, without a handle a module: hundreds of them take as long as several layers.
        hooks = (self._of_module, self._on_layer), (self._others.modules, self._on_other)
        for modules, hook in hooks:
            for module in modules:
                module._forward_hooks[self._key] = hook
        self._hooked = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if not self._hooked:
            return
        for modules in (self._of_module, self._others.modules):
            for module in modules:
                module._forward_hooks.pop(self._key, None)
        self._undo.close()
        if self._latest is not None:
            self._see_end(self._latest)
        if self._calls:
            self._others.learn()
        self._hooked, self._latest = False, None

    def restart(self) -> None:
        """Drop the passes so far: their gradients were thrown away."""
        self._reset()

    def keep_parameter_gradients(self, of: Sequence[Tensor] | None = None) -> None:
        """Copy the parameters' gradients as they are now, before whatever is done to them next.

        Args:
            of: these parameters only, where several optimizers take their steps at different times. Of the passes
                since the last of such steps, what belongs to other optimizers' layers is dropped.
        """
        if of is None:
            calls = self._recorded()
            self._kept = self._gradients_of(calls)
            return
        kept = self._parameter_gradients or {}
        chosen = {id(p) for p in of}
        self._keep_passes_of(chosen)
        for group in self.groups:
            for p in (*group.weights, *group.biases):
                if p.grad is not None and id(p) in chosen:
                    kept[id(p)] = dense(p.grad).detach().clone()
        self._parameter_gradients = kept

    def _keep_passes_of(self, chosen: set[int]) -> None:
        for call in self._calls.values():
            own = any(id(p) in chosen for p in call.group.weights)
            for passes in (call.gradients, call.inputs, call.activations):
                for number in [n for n in passes if (n < self._first_pass) == own]:
                    del passes[number]
        self._first_pass = self._pass + 1

    def tensors(
        self, scale: float | Tensor = 1.0, saturated: Callable[[Tensor], Tensor] | None = None
    ) -> LayerTensors:
        """What was recorded, with a leading member axis of one; passes of one step lie behind each other along B.

        Good until the next step is recorded.

        Args:
            scale: what the loss was multiplied by before the backward pass (a gradient scaler's factor).
            saturated: as in `LayerTensors`.
        """
        calls = self._taken = self._recorded()
        weight_gradients, bias_gradients = (
            self._gradients_of(calls) if self._kept is None else self._kept
        )
        stack, names = self._blocks.stack, [c.name for c in calls]
        weights = stack("weights", [flat(c.group.weights) for c in calls])
        h = [joined(c.inputs, c.gradients) for c in calls] if self._reads_inputs else []
        before = [self._weights_before([calls[i] for i in g]) for g, _ in weights.groups]
        return LayerTensors(
            preactivation_gradients=stack(
                "gradients",
                [padded(list(c.gradients.values())) for c in calls],
                scale,
                names=names,
            ),
            activations=stack(
                "activations", [joined(c.activations, c.gradients) for c in calls], names=names
            ),
            inputs=stack("inputs", h or [None] * len(calls)),
            weights=weights,
            weight_gradients=weight_gradients,
            bias_gradients=bias_gradients,
            weight_updates=self._blocks.difference("updates", weights, before)
            if self._reads_updates
            else Layers(len(calls), ()),
            saturated=saturated,
        )

    def _gradients_of(self, calls: list[_Call]) -> tuple[Layers, Layers]:
        """The gradients of the calls' weights and biases."""
        weights = [self._gradient_of(c.group.weights) for c in calls]
        biases = [self._gradient_of(c.group.biases) for c in calls]
        stack = self._blocks.stack
        return stack("weight_gradients", weights), stack("bias_gradients", biases)

    def _weights_before(self, calls: list[_Call]) -> Tensor:
        """The weights of some layers of one shape before the step, (G, 1, ...)."""
        if self._before is None:
            return torch.zeros(())
        blocks = [block for _, block in self._before.groups]
        places = [[self._places[id(p)] for p in call.group.weights] for call in calls]
        if any(len(of_layer) > 1 for of_layer in places):
            rows = [flat([blocks[g][row, 0] for g, row in of_layer]) for of_layer in places]
            return torch.stack(rows).unsqueeze(1)
        block, order = blocks[places[0][0][0]], [of_layer[0][1] for of_layer in places]
        if order == list(range(order[0], order[-1] + 1)):
            return block[order[0] : order[-1] + 1]
        return block[order]

    def _recorded(self) -> list[_Call]:
        """Layers that a gradient passed through, behind those that were never called but have one of their own."""
        if self._taken is not None:
            return self._taken
        calls = [
            call
            for call in self._calls.values()
            if call.gradients or (not call.group.gives_output and self._has_gradient(call.group))
        ]
        called = {id(call.group) for call in calls}
        apart = [g for g in self.groups if id(g) not in called and self._has_gradient(g)]
        return [_Call(group) for group in apart] + calls

    def _has_gradient(self, group: Group) -> bool:
        return any(self._gradient(p) is not None for p in group.weights)

    def _gradient(self, parameter: Tensor) -> Tensor | None:
        if self._parameter_gradients is None:
            return parameter.grad
        return self._parameter_gradients.get(id(parameter))

    def _gradient_or_zeros(self, parameter: Tensor) -> Tensor:
        gradient = self._gradient(parameter)
        return torch.zeros_like(parameter) if gradient is None else gradient

    def _gradient_of(self, parameters: Sequence[Tensor]) -> Tensor | None:
        if len(parameters) == 1:
            gradient = self._gradient(parameters[0])
            return None if gradient is None else dense(gradient)
        gradients = [g for p in parameters if (g := self._gradient(p)) is not None]
        if len(gradients) < len(parameters):
            # Entries without a gradient count as zeros, unless none has one.
            gradients = gradients and [self._gradient_or_zeros(p) for p in parameters]
        return flat([dense(g) for g in gradients]) if gradients else None

    def _on_layer(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        z = output[0] if isinstance(output, tuple) else output
        if not isinstance(z, Tensor) or not z.requires_grad:
            return
        if self._backward_began:
            self._next_pass()
        given = inputs[0] if inputs and isinstance(inputs[0], Tensor) else None
        self._see_function(given)
        times = self._times[module] = self._times.get(module, 0) + 1
        for index, group in enumerate(self._of_module[module]):
            name = (module, index, times)
            call = self._calls.setdefault(name, _Call(group, name))
            if self._reads_inputs and group.takes_input and _is_real(given):
                call.inputs[self._pass] = units_last(given.detach(), module)
            if group.gives_output:
                call.output, self._latest = z, call
                self._hook_gradient(z, partial(self._on_gradient, call, self._pass))

    def _hook_gradient(self, z: Tensor, hook: Callable[[Tensor], None]) -> None:
        node = z.grad_fn if type(z) is Tensor and z._backward_hooks is None else None
        if node is None:
            z.register_hook(hook)  # type: ignore[no-untyped-call]
        else:
            # What register_hook does, without a handle, which takes as long as the rest of recording a layer.
            z._backward_hooks = OrderedDict({self._key: hook})
            node._register_hook_dict(z)

    def _next_pass(self) -> None:
        if not self.stepped and all(p.grad is None for p in self._weights):
            # The gradients of the passes so far were thrown away.
            self._reset()
        self._pass, self._backward_began = self._pass + 1, False
        self._times.clear()
        self._latest = None

    def _on_gradient(self, call: _Call, pass_: int, gradient: Tensor) -> None:
        self._backward_began = True
        gradient = units_last(gradient, call.group.module)
        if pass_ in call.gradients:
            # Two losses went back through one output, one after the other.
            call.gradients[pass_] = call.gradients[pass_] + gradient
        else:
            call.gradients[pass_] = self._placed("gradients", call, gradient)

    def _on_other(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        # The first leaf without parameters that keeps a layer's shape is its activation: norms mostly have
        # parameters, and a loss gives one number. But a plain function may have come before it.
        call = self._latest
        if call is None or call.output is None:
            return
        given = inputs[0] if inputs else None
        self._others.used(given)
        if self._pass in call.activations or self._take_function(call, given):
            return
        if (
            isinstance(output, Tensor)
            and output.requires_grad
            and output.shape == call.output.shape
            and not isinstance(module, _DropoutNd)
            and not any(True for _ in module.parameters())
        ):
            h = units_last(output.detach(), call.group.module)
            call.activations[self._pass] = self._placed("activations", call, h)
            self.activation = self.activation or module
            self._others.made(call.name, module, output)

    def _see_end(self, call: _Call) -> None:
        """No more is called behind a layer."""
        self._others.ended(call.name, seen=self._pass in call.activations)
        call.output = None

    def _placed(self, field: str, call: _Call, tensor: Tensor) -> Tensor:
        """What the first of a step's passes recorded, beside what it did of other layers."""
        # A graph of an earlier step may still go back.
        first = self._pass == 0 and self._calls.get(call.name) is call
        return self._blocks.place(field, call.name, tensor) if first else tensor

    def _see_function(self, given: Any) -> None:
        """The next layer is called: what it is given may be an activation that no module made."""
        call, self._latest = self._latest, None
        if call is None:
            return
        self._others.used(given)
        if self._pass not in call.activations:
            self._take_function(call, given)
        self._see_end(call)

    def _take_function(self, call: _Call, given: Any) -> bool:
        """Take a tensor for the layer's activation, if a plain function of that kind gave it."""
        if not isinstance(given, Tensor) or call.output is None:
            return False
        function = function_of(given)
        if function not in FUNCTIONS or given.numel() != call.output.numel():
            return False
        h = given.detach()
        if h.shape != call.output.shape:
            h = h.reshape(call.output.shape)
        h = units_last(h, call.group.module)
        call.activations[self._pass] = self._placed("activations", call, h)
        self.activation = self.activation or FUNCTIONS[function]
        return True


def _is_real(given: Tensor | None) -> TypeGuard[Tensor]:
    return given is not None and given.is_floating_point()
