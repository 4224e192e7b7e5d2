"""What an initializer is, how a user's function becomes one, and how a member is filled."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, final, overload

import torch
from torch import Tensor, nn

from unitgain.errors import ConfigError, explained
from unitgain.nn._init_lsuv import LSUV
from unitgain.nn._names import name_of
from unitgain.theory.derived import Facts, Kind, Rule


class WeightFill(Protocol):
    """Fills one member's weight (out, in) in place, from the generator alone."""

    def __call__(self, weight: Tensor, /, *, generator: torch.Generator) -> object:
        """Fill ``weight``."""


class BiasFill(Protocol):
    """Fills one member's bias (out,) in place, from the generator alone."""

    def __call__(self, bias: Tensor, fan_in: int, /, *, generator: torch.Generator) -> object:
        """Fill ``bias`` of a layer with ``fan_in`` inputs."""


@final
@dataclass(frozen=True)
class Initializer:
    """How one layer of one member begins.

    Attributes:
        weight: Called as ``weight(tensor, generator=g)`` with a contiguous tensor of shape
            (out, in), the layout of ``torch.nn.Linear``; fills it in place.
        weight_std: (fan_in, fan_out) -> the stated standard deviation of an entry over draws;
            None where there is none to state.
        bias: Called as ``bias(tensor, fan_in, generator=g)``; None leaves zeros.
        bias_std: fan_in -> the stated standard deviation of a bias over draws.
        data_driven: What is done on a batch of data after the fill; None for nothing.
        rate_factor: (rule, kind, fan_in, fan_out) -> what the layer's learning rate is multiplied
            by; None for 1.

    Example:
        >>> import torch
        >>> from unitgain.nn.init import he
        >>> initializer = he()
        >>> initializer.weight_std(50, 10)
        0.2
        >>> weight = torch.empty(10, 50)
        >>> _ = initializer.weight(weight, generator=torch.Generator().manual_seed(0))
    """

    weight: WeightFill
    weight_std: Callable[[int, int], float] | None = None
    bias: BiasFill | None = None
    bias_std: Callable[[int], float] | None = None
    data_driven: LSUV | None = None
    rate_factor: Callable[[Rule, Kind, int, int], float] | None = None


@final
@dataclass(frozen=True)
class Derived:
    """An initializer that follows from the network: it is made once that is known.

    Attributes:
        make: Facts -> the initializer of the layers that they hold for. Called once a member for
            the first layer, the output layer, and each kind of layer between them.

    Example:
        >>> from unitgain.nn.init import mean_field
        >>> shallow = Derived(lambda facts: mean_field(sigma_w=1.0 + 1.0 / facts.depth))
    """

    make: Callable[[Facts], Initializer]


@final
@dataclass(frozen=True)
class BiasInitializer:
    """How the biases of one layer of one member begin, whatever the weights do.

    Attributes:
        fill: Called as ``fill(tensor, fan_in, generator=g)``; fills it in place.
        std: fan_in -> the stated standard deviation of a bias over draws; None where there is none.
    """

    fill: BiasFill
    std: Callable[[int], float] | None = None


@overload
def with_bias(initializer: Initializer, bias: BiasInitializer | None) -> Initializer: ...


@overload
def with_bias(initializer: Derived, bias: BiasInitializer | None) -> Derived: ...


def with_bias(
    initializer: Initializer | Derived, bias: BiasInitializer | None
) -> Initializer | Derived:
    """The same initializer with its bias replaced; None keeps what it says of biases itself.

    Example:
        >>> from unitgain.nn.init import bias_constant, he
        >>> with_bias(he(), bias_constant(0.1)).bias_std(64)
        0.0
    """
    if bias is None:
        return initializer
    if isinstance(initializer, Derived):
        return Derived(partial(_made_with_bias, initializer, bias))
    return replace(initializer, bias=bias.fill, bias_std=bias.std)


def _made_with_bias(derived: Derived, bias: BiasInitializer, facts: Facts) -> Initializer:
    return with_bias(derived.make(facts), bias)


def fill_member(
    weight_OI: Tensor, bias_O: Tensor | None, initializer: Initializer, generator: torch.Generator
) -> None:
    """Fill one layer of one member in place: the weight first, then the bias.

    Each is drawn in a new contiguous CPU tensor of the target's dtype and then copied, so the
    numbers depend on the generator, the shape and the dtype alone: never on the target's strides,
    its device or its place in a pack.

    Shape:
        - weight_OI: (out, in), any strides: a member's slice of (K, in, out), transposed, will do.
        - bias_O: (out,), or None for a layer without biases, which leaves the weight the same.

    Args:
        weight_OI: What the weight is copied to.
        bias_O: What the bias is copied to.
        initializer: How both begin.
        generator: A CPU generator; where it stands decides the draw.

    Example:
        >>> import torch
        >>> from unitgain.nn.init import identity
        >>> weight_KIO = torch.empty(2, 3, 2)
        >>> fill_member(weight_KIO[1].T, None, identity(), torch.Generator().manual_seed(0))
        >>> weight_KIO[1]
        tensor([[1., 0.],
                [0., 1.],
                [0., 0.]])
    """
    fan_in = weight_OI.shape[1]
    with torch.no_grad():
        drawn = torch.zeros(weight_OI.shape, dtype=weight_OI.dtype, device="cpu")
        initializer.weight(drawn, generator=generator)
        weight_OI.copy_(drawn)
        if bias_O is None:
            return
        drawn = torch.zeros(bias_O.shape, dtype=bias_O.dtype, device="cpu")
        if initializer.bias is not None:
            initializer.bias(drawn, fan_in, generator=generator)
        bias_O.copy_(drawn)


def as_initializer(value: object, key: str = "init") -> Initializer | Derived:
    """An initializer out of what a configuration gave.

    A plain function is enough: ``fn(weight, generator)`` fills a (out, in) weight in place. The
    functions of ``torch.nn.init`` are such functions (``_partial_: true`` binds their arguments),
    and one that draws nothing may leave ``generator`` out.

    Args:
        value: An `Initializer`, a `Derived`, or a function.
        key: Where the configuration gave it, for the errors.

    Raises:
        ConfigError: It is neither, or the function's parameters can't be met; and, once it is
            called, it raised, didn't fill in place, left entries that aren't finite, or drew from
            torch's global generator.

    Example:
        >>> import torch
        >>> from functools import partial
        >>> initializer = as_initializer(partial(torch.nn.init.orthogonal_, gain=2.0))
        >>> weight = torch.empty(3, 3)
        >>> initializer.weight(weight, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(weight @ weight.T, 4 * torch.eye(3), atol=1e-5)
        True
    """
    if isinstance(value, Initializer | Derived):
        return value
    if isinstance(value, BiasInitializer):
        raise ConfigError(
            f"{key}: an initializer of weights is needed, but this one fills biases; "
            "move it to bias_init"
        )
    function = _user_function(value, key, "fn(weight, generator)")
    given = _parameters_met(function, key, ("generator",), "fn(weight, generator)")
    return Initializer(weight=_UserFill(function, given, key, "weight"))


def as_bias_initializer(value: object) -> BiasInitializer | None:
    """A bias initializer out of what a configuration gave.

    Args:
        value: A `BiasInitializer`; a function ``fn(bias, generator)`` that fills in place and may
            also ask for ``fan_in``; or None, for what the weight's initializer says of biases.

    Raises:
        ConfigError: As in `as_initializer`.

    Example:
        >>> as_bias_initializer(None) is None
        True
    """
    if value is None or isinstance(value, BiasInitializer):
        return value
    if isinstance(value, Initializer | Derived):
        raise ConfigError(
            "bias_init: an initializer of biases is needed, but this one fills weights; "
            "use one of unitgain.nn.init.bias_zeros, bias_constant, bias_normal, bias_uniform"
        )
    signature = "fn(bias, generator) or fn(bias, fan_in, generator)"
    function = _user_function(value, "bias_init", signature)
    given = _parameters_met(function, "bias_init", ("fan_in", "generator"), signature)
    return BiasInitializer(fill=_UserFill(function, given, "bias_init", "bias"))


@final
@dataclass(frozen=True)
class _UserFill:
    """Calls a user's function and holds it to the contract of a fill."""

    function: Callable[..., object]
    given: frozenset[str]
    key: str
    filled: str

    def __call__(
        self, tensor: Tensor, fan_in: int | None = None, /, *, generator: torch.Generator
    ) -> None:
        """Fill ``tensor`` in place; a fault of the function is a `ConfigError`."""
        offered: dict[str, object] = {"fan_in": fan_in, "generator": generator}
        global_state = torch.get_rng_state()
        # An entry that the function forgets would pass for a number in uninitialised memory.
        nn.init.constant_(tensor, torch.nan)
        with torch.no_grad():
            result = self._called(tensor, offered)
        if not torch.equal(global_state, torch.get_rng_state()):
            torch.set_rng_state(global_state)
            raise ConfigError(
                f"{self.key}: an initializer draws from its `generator` alone, "
                f"but {name_of(self.function)} drew from torch's global generator; "
                "pass generator=generator to every random call in it"
            )
        self._check(tensor, result)

    def _called(self, tensor: Tensor, offered: dict[str, object]) -> object:
        target = f"on one of shape {tuple(tensor.shape)} {name_of(self.function)}"
        requirement = f"an initializer must fill any {self.filled}"
        with explained(self.key, target, requirement, "mend it"):
            return self.function(tensor, **{name: offered[name] for name in self.given})

    def _check(self, tensor: Tensor, result: object) -> None:
        if isinstance(result, Tensor) and result.data_ptr() != tensor.data_ptr():
            raise ConfigError(
                f"{self.key}: an initializer fills its {self.filled} in place, but "
                f"{name_of(self.function)} returned a new tensor of shape {tuple(result.shape)}; "
                f"end it with {self.filled}.copy_(...)"
            )
        wrong = int((~torch.isfinite(tensor)).sum())
        if wrong:
            raise ConfigError(
                f"{self.key}: an initializer fills every entry with a finite number, but "
                f"{name_of(self.function)} left {wrong} of {tensor.numel()} entries of a "
                f"{self.filled} of shape {tuple(tensor.shape)} unfilled or not finite; "
                "fill each of them"
            )


def _user_function(value: object, key: str, signature: str) -> Callable[..., object]:
    """``value`` as a function, or the error that says what is needed instead."""
    if callable(value) and not isinstance(value, type | nn.Module):
        return value
    raise ConfigError(
        f"{key}: an option of unitgain.nn.init or a function {signature} is needed, but this is "
        f"{name_of(value)}; name a function in _target_ and add _partial_: true"
    )


def _parameters_met(
    function: Callable[..., object], key: str, offered: tuple[str, ...], signature: str
) -> frozenset[str]:
    """Which of the offered keywords the function takes, if those are all that it needs."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some builtins tell nothing of their parameters
        return frozenset(offered[-1:])
    kinds = {parameter.name: parameter.kind for parameter in parameters}
    keywords = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = frozenset(name for name in offered if kinds.get(name) in keywords)
    if inspect.Parameter.VAR_KEYWORD in kinds.values():
        given = frozenset(offered)
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.name not in given
        and parameter.default is inspect.Parameter.empty
        and parameter.kind not in variadic
    ]
    takes_tensor = bool(parameters) and parameters[0].name not in given
    if takes_tensor and (len(needed) <= 1):
        return given
    found = ", ".join(str(parameter) for parameter in parameters)
    raise ConfigError(
        f"{key}: a function of this form is needed: {signature}, "
        f"but {name_of(function)} takes ({found}); "
        "give its other arguments in the configuration, beside _partial_: true"
    )
