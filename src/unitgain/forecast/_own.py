"""Activations and initializers of the user's own, which take torch to look at."""

import json
import math
from functools import lru_cache

from unitgain.spec import Component, instantiate
from unitgain.theory.activations import Activation
from unitgain.theory.derived import Facts


def own_activation(node: Component) -> Activation:
    """The activation that a component gives, with autograd's slope."""
    return _activation(_text(node))


def own_sigma_w(node: Component, key: str, fan_in: int, fan_out: int, facts: Facts) -> float:
    """sqrt(fan_in) times the root mean square of a weight that an initializer draws."""
    return _sigma_w(_text(node), key, fan_in, fan_out, facts)


def _text(node: Component) -> str:
    """What tells one node from another."""
    return json.dumps(node.model_dump(mode="json", by_alias=True), sort_keys=True)


@lru_cache(maxsize=64)
def _activation(text: str) -> Activation:
    from unitgain.nn.activations import as_activation
    from unitgain.nn.facts import theory_of

    return theory_of(as_activation(instantiate(json.loads(text), _key_="activation")))


@lru_cache(maxsize=256)
def _sigma_w(text: str, key: str, fan_in: int, fan_out: int, facts: Facts) -> float:
    import torch

    from unitgain.nn.init import Derived, as_initializer

    initializer = as_initializer(instantiate(json.loads(text), _key_=key), key)
    if isinstance(initializer, Derived):
        initializer = initializer.make(facts)
    weight = torch.zeros(fan_out, fan_in, dtype=torch.float64)
    initializer.weight(weight, generator=torch.Generator().manual_seed(0))
    return math.sqrt(fan_in * float(weight.square().mean()))
