"""From a configuration to the network that theory speaks of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar, final

from unitgain.errors import ConfigError
from unitgain.forecast._own import own_activation, own_sigma_w
from unitgain.spec import Component, RunSpec
from unitgain.theory import activations, derived, weights
from unitgain.theory.activations import Activation
from unitgain.theory.derived import Facts, Role
from unitgain.theory.network import Dropout, Layer, Network, Norm, NormKind
from unitgain.theory.weights import BiasStd, Spread

ASSUMED_OUTPUTS = 10
"""Outputs of a network whose table isn't known; nothing but the output layer's own norm depends on them."""

FEW_INPUTS = 30
"""Inputs of a unit below which their sum isn't near to Gaussian."""

FEW_EXAMPLES = 16
"""Examples of a batch below which batch norm's own statistics decide."""

_ACTIVATIONS: Mapping[str, Callable[..., Activation]] = {
    "torch.nn.Identity": activations.identity,
    "torch.nn.ReLU": activations.relu,
    "torch.nn.LeakyReLU": activations.leaky_relu,
    "torch.nn.ELU": activations.elu,
    "torch.nn.SELU": activations.selu,
    "torch.nn.GELU": activations.gelu,
    "torch.nn.SiLU": activations.silu,
    "torch.nn.Tanh": activations.tanh,
    "torch.nn.Sigmoid": activations.sigmoid,
    "torch.nn.Softplus": activations.softplus,
    "unitgain.nn.Erf": activations.erf,
}
_NORMS: Mapping[str, NormKind] = {
    "torch.nn.Identity": "none",
    "unitgain.nn.BatchNorm": "batch",
    "unitgain.nn.LayerNorm": "layer",
    "unitgain.nn.RMSNorm": "rms",
}
_DROPOUTS = ("torch.nn.Identity", "unitgain.nn.Dropout", "unitgain.nn.AlphaDropout")
_Std = TypeVar("_Std", Spread, BiasStd)


def _by_target(*functions: Callable[..., _Std]) -> Mapping[str, Callable[..., _Std]]:
    """What theory says of initializers, by the target of the initializer that has its name."""
    return {f"unitgain.nn.init.{function.__name__}": function for function in functions}


_SPREADS = _by_target(
    weights.zeros,
    weights.constant,
    weights.normal,
    weights.uniform,
    weights.xavier,
    weights.he,
    weights.lecun,
    weights.orthogonal,
    weights.truncated_normal,
    weights.sparse,
    weights.identity,
    weights.mean_field,
    weights.torch_default,
    weights.lsuv,
)
_DERIVED = _by_target(derived.critical, derived.scaled_residual, derived.spectral)
_BIASES = _by_target(
    weights.bias_zeros, weights.bias_constant, weights.bias_normal, weights.bias_uniform
)


@final
@dataclass(frozen=True)
class Described:
    """A configured network in the terms of theory.

    Attributes:
        network: its hidden layers and its output layer.
        widths: inputs, units of each hidden layer, outputs.
        caveats: what theory leaves out of this one.
        known: whether theory can speak of it at all.
        orthogonal: whether the hidden layers' weights are.
    """

    network: Network
    widths: tuple[int, ...]
    caveats: tuple[str, ...]
    known: bool
    orthogonal: bool


def described(spec: RunSpec, inputs: int | None, outputs: int | None) -> Described:
    """The network of a run.

    Args:
        spec: of the run.
        inputs: features of an example; None: as many as the first hidden layer has units.
        outputs: units of the output layer; None: 10.
    """
    depth, hidden = spec.model.depth, spec.model.widths
    widths = (inputs or hidden[0], *hidden, outputs or ASSUMED_OUTPUTS)
    activation, norm, dropout = _activation_of(spec.activation), _norm_of(spec), _dropout_of(spec)
    base = Facts(
        activation,
        "hidden",
        inputs=widths[0],
        outputs=widths[-1],
        widths=hidden,
        norm=norm,
        dropout=dropout,
        branches=sum(spec.model.residual and a == b for a, b in pairwise(widths[:-1])),
        branch_scale=spec.model.branch_scale,
    )
    made: dict[tuple[Role, bool, bool], _Init] = {}
    inits, layers = [], []
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        role: Role = "output" if i == depth else "hidden" if i else "first"
        # A bias in front of batch norm isn't there: the norm would remove it.
        removed = role != "output" and norm.kind == "batch" and norm.first
        residual = role != "output" and spec.model.residual and fan_in == fan_out
        kind = (role, spec.model.bias and not removed, residual)
        if kind not in made:
            facts = replace(base, role=role, bias=kind[1], residual=residual)
            made[kind] = _Init(*_node_of(spec, role), spec.bias_init, facts)
        inits.append(made[kind])
        layers.append(made[kind].layer(fan_in, fan_out))
    caveats = [t for init, fan_in in zip(inits, widths, strict=False) for t in init.caveats(fan_in)]
    weighty = [
        init.all_equal or layer.sigma_w > 0 for init, layer in zip(inits, layers, strict=True)
    ]
    if not weighty[-1] and any(weighty):
        layers[-1] = Layer(1.0)
        caveats.append(
            "the output layer's weights are zero, so the first step gives the hidden layers nothing; "
            "what is said here holds from the second step on"
        )
    caveats += _other_caveats(spec)
    network = Network(activation, tuple(layers), norm, dropout, spec.model.branch_scale)
    known = not any(init.all_equal for init in inits[:-1]) and not _unknown_parts(spec)
    return Described(
        network, widths, tuple(dict.fromkeys(caveats)), known, inits[depth // 2].orthogonal
    )


def _node_of(spec: RunSpec, role: Role) -> tuple[str, Component]:
    """The key of the initializer of such a layer, and its node."""
    own = {"first": spec.first_init, "hidden": None, "output": spec.output_init}[role]
    return ("init", spec.init) if own is None else (f"{role}_init", own)


class _Init:
    """What a node of ``init``, ``first_init`` or ``output_init`` makes of a linear map.

    Args:
        key: of the node.
        node: itself.
        bias_node: what has the last word on biases, or None.
        facts: of the network, and of which of its layers this is.
    """

    def __init__(
        self, key: str, node: Component, bias_node: Component | None, facts: Facts
    ) -> None:
        self.facts = facts
        self.key, self.node, self.name = key, node, node.target.rpartition(".")[2]
        self.arguments: dict[str, Any] = node.arguments()
        self.spread: Spread | None = None
        if node.target in _SPREADS:
            self.spread = _SPREADS[node.target](**self.arguments)
        elif node.target in _DERIVED:
            self.spread = _DERIVED[node.target](facts, **self.arguments)
        self.bias: BiasStd = self.spread.bias if self.spread else weights.bias_zeros()
        self.bias_mean = 0.0
        self.own_bias = bias_node is not None and bias_node.target not in _BIASES
        if bias_node is not None and not self.own_bias:
            self.bias = _BIASES[bias_node.target](**bias_node.arguments())
            if bias_node.target == "unitgain.nn.init.bias_constant":
                self.bias_mean = float(bias_node.arguments()["value"])

    @property
    def orthogonal(self) -> bool:
        """Whether weights are a multiple of an orthogonal matrix."""
        return self.spread is not None and self.spread.orthogonal

    @property
    def all_equal(self) -> bool:
        """Whether every weight is the same, which keeps all units of a layer equal."""
        return self.spread is not None and self.spread.mean != 0

    def layer(self, fan_in: int, fan_out: int) -> Layer:
        """The linear map between so many units."""
        target, identity = None, False
        if self.spread is None:
            sigma_w: float | None = own_sigma_w(self.node, self.key, fan_in, fan_out, self.facts)
        else:
            sigma_w = self.spread.sigma_w(fan_in, fan_out)
        if sigma_w is None and self.name == "lsuv":
            sigma_w, target = 1.0, float(self.arguments["target_std"])
        if sigma_w is None and self.name == "identity":
            sigma_w = weights.orthogonal(float(self.arguments["gain"])).sigma_w(fan_in, fan_out)
            identity = fan_in == fan_out
        if sigma_w is None:
            raise ConfigError(
                f"{self.key}: an initializer with a standard deviation is needed, but {self.name} "
                "states none; use another one"
            )
        return Layer(
            sigma_w,
            self.bias(fan_in) if self.facts.bias else 0.0,
            self.bias_mean if self.facts.bias else 0.0,
            target,
            self.facts.residual,
            fan_out,
            identity,
        )

    def caveats(self, fan_in: int) -> list[str]:
        """What theory leaves out of this initializer."""
        found: list[str] = []
        if self.all_equal:
            found.append(
                f"{self.key}={self.name} keeps all units of a layer equal: there is no theory of it"
            )
        if self.name == "identity" and self.spread is not None:
            found.append(
                f"{self.key}=identity mixes no units: with dropout, biases that are drawn or layers of unequal "
                "widths it is taken for an orthogonal matrix, which does"
            )
        if self.name == "sparse" and self.spread is not None:
            kept = weights.kept_inputs(fan_in, float(self.arguments["sparsity"]))
            if kept < FEW_INPUTS:
                found.append(
                    f"{self.key}=sparse leaves a unit {kept} inputs, too few for a Gaussian sum"
                )
        if self.spread is None:
            found.append(f"{self.key}: what {self.name} draws was measured on one draw")
        if self.own_bias:
            found.append("bias_init: biases of your own are taken for zeros")
        return found


def _activation_of(node: Component) -> Activation:
    shipped = _ACTIVATIONS.get(node.target)
    return own_activation(node) if shipped is None else shipped(**node.arguments())


def _norm_of(spec: RunSpec) -> Norm:
    arguments = spec.norm.arguments()
    return Norm(
        _NORMS.get(spec.norm.target, "none"),
        spec.model.norm_position == "before_activation",
        float(arguments.get("eps", 1e-5)),
        spec.data.batch_size,
    )


def _dropout_of(spec: RunSpec) -> Dropout:
    rate = float(spec.dropout.arguments().get("p", 0.0))
    return Dropout(rate, spec.dropout.target == "unitgain.nn.AlphaDropout")


def _unknown_parts(spec: RunSpec) -> list[str]:
    """Parts of the user's own that change what passes a layer in ways that only they know."""
    parts = {"norm": (spec.norm, _NORMS), "dropout": (spec.dropout, _DROPOUTS)}
    return [
        f"{key}: there is no theory of {node.target}"
        for key, (node, known) in parts.items()
        if node.target not in known
    ]


def _other_caveats(spec: RunSpec) -> list[str]:
    caveats = _unknown_parts(spec)
    if spec.data.batch_size < FEW_EXAMPLES and spec.norm.target == "unitgain.nn.BatchNorm":
        caveats.append(
            f"norm=batch: statistics of {spec.data.batch_size} examples differ much from batch to batch, "
            "and the gradient with them"
        )
    return caveats
