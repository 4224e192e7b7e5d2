"""How much layers learn against their width."""

import numpy as np
import pytest

from unitgain.errors import ConfigError
from unitgain.pack.coordinates import Coordinates, coordinate_check

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTHS = (64, 128, 256)
OPTIMIZERS = {"adam": {"lr": 1e-3}, "sgd": {"lr": 0.05}, "rmsprop": {"lr": 1e-4}}


def check(lab, init, optimizer, widths=WIDTHS, **more):
    spec = lab.spec(
        init=init,
        output_init="zeros" if init[0] == "spectral" else None,
        optimizer=(optimizer, OPTIMIZERS[optimizer]),
        depth=3,
        batch_size=32,
        precision="32",
        activation="tanh",
        **more,
    )
    return coordinate_check(spec, lab.table(spec, train=128, features=16), widths, seeds=2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_layers_learn_alike_at_every_width_under_spectral_alone(lab, optimizer):
    found = check(lab, ("spectral", {"base": "critical", "base_width": 64}), optimizer)
    assert np.abs(found.change_slopes[:-1]).max() < 0.1
    assert abs(found.change_slopes[-1]) < 0.3
    plain = check(lab, ("critical", {}), optimizer)
    # At a rate of SGD that is the same for all layers the first one learns less and less.
    steep = -plain.change_slopes[:1] if optimizer == "sgd" else plain.change_slopes[1:]
    assert steep.min() > 0.3
    assert np.abs(plain.size_slopes[:3]).max() < 0.1


def test_the_output_s_initial_size_falls_as_the_root_of_the_width(lab):
    spec = lab.spec(init=("spectral", {"base_width": 64}), depth=2, precision="32")
    table = lab.table(spec, train=128)
    found = coordinate_check(spec, table, (64, 256, 1024), steps=1, seeds=4)
    assert found.size_slopes[-1] == pytest.approx(-0.5, abs=0.12)


def test_at_the_base_width_nothing_is_changed(lab):
    spectral = check(lab, ("spectral", {"base_width": 64}), "adam", (64, 65))
    spec = lab.spec(
        init="he",
        output_init="zeros",
        optimizer=("adam", OPTIMIZERS["adam"]),
        depth=3,
        batch_size=32,
        precision="32",
        activation="tanh",
    )
    table = lab.table(spec, train=128, features=16)
    plain = coordinate_check(spec, table, (64, 65), seeds=2)
    assert np.array_equal(spectral.change_WL[0], plain.change_WL[0])
    assert not np.array_equal(spectral.change_WL[1], plain.change_WL[1])


def test_slopes_are_those_of_power_laws():
    widths = np.array([64.0, 128.0, 512.0])
    change = np.stack([widths**0.5, widths**-1.0, np.zeros(3)], axis=1)
    found = Coordinates((64, 128, 512), change, change)
    assert found.change_slopes[:2] == pytest.approx([0.5, -1.0])
    assert np.isnan(found.change_slopes[2])


def test_norms_and_dropout_may_be_there_and_steps_may_outlast_an_epoch(lab):
    spec = lab.spec(
        init="spectral", norm="batch", dropout=("dropout", {"p": 0.2}), residual=True, every=1
    )
    found = coordinate_check(spec, lab.table(spec), (8, 16), steps=7, seeds=1)
    assert found.change_WL.shape == (2, 3)
    assert (found.change_WL > 0).all()


def test_what_diverges_is_said(lab):
    spec = lab.spec(optimizer=("sgd", {"lr": 1e30}), task="regression")
    with pytest.raises(
        ConfigError, match=r"optimizer.lr: .* but at width 8 those of layer 1 don't"
    ):
        coordinate_check(spec, lab.table(spec), (8, 16))
