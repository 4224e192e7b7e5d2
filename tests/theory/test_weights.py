import inspect
import subprocess
import sys

import pytest

from unitgain.nn import init
from unitgain.spec import _init as spec
from unitgain.spec._slot import targets_of
from unitgain.theory import derived, weights

SHIPPED = [target.rpartition(".")[2] for node in spec.INITIALIZERS for target in targets_of(node)]
NAMES = [name for name in SHIPPED if name not in derived.DERIVED]
BIASES = [t.rpartition(".")[2] for node in spec.BIAS_INITIALIZERS for t in targets_of(node)]


@pytest.mark.parametrize("name", NAMES + BIASES)
def test_every_shipped_initializer_has_a_namesake_with_its_arguments(name):
    ours, theirs = getattr(weights, name), getattr(init, name)
    assert list(inspect.signature(ours).parameters.values()) == list(
        inspect.signature(theirs).parameters.values()
    )


@pytest.mark.parametrize("name", derived.DERIVED)
def test_those_that_follow_from_the_network_take_its_facts_first(name):
    assert name in SHIPPED
    facts, *others = inspect.signature(getattr(derived, name)).parameters.values()
    assert facts.annotation is derived.Facts
    assert others == list(inspect.signature(getattr(init, name)).parameters.values())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_stated_is_what_the_initializer_states(name):
    stated, initializer = getattr(weights, name)(), getattr(init, name)()
    assert (stated.weight is None) == (initializer.weight_std is None)
    if stated.weight is not None:
        assert stated.weight(30, 20) == initializer.weight_std(30, 20)
    bias_std = (lambda fan_in: 0.0) if initializer.bias_std is None else initializer.bias_std
    assert stated.bias(30) == bias_std(30)


def test_effective_sigmas_need_no_torch():
    code = (
        "import sys; from unitgain.theory import weights as w; s = w.torch_default(); "
        "print(round(s.sigma_w(50, 20) ** 2, 12), round(s.bias(50), 12), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.333333333333", "0.081649658093", "False"]
