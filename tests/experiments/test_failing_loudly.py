"""How the study of detection moves images and shifts rows."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from unitgain.data import fit_encoder
from unitgain.data.sources import digits
from unitgain.data.splits import Stratified

PATH = Path(__file__).parents[2] / "experiments" / "failing_loudly" / "plot.py"


@pytest.fixture(scope="module")
def plot():
    spec = spec_from_file_location("failing_loudly_plot", PATH)
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table():
    raw = digits()
    split = Stratified(fractions=(0.3, 0.1, 0.6))(raw)
    encoder = fit_encoder(raw, split.train, scale="standard", impute=None)
    return SimpleNamespace(
        x=encoder.encode(raw),
        y=raw.y,
        split=split,
        encoder=encoder,
        shifted=SimpleNamespace(table=raw),
    )


IMAGES = np.random.default_rng(1).random((3, 64))


def test_images_are_rotated_as_by_scipy(plot):
    found = plot.moved(IMAGES, (40.0, 0.0, 0.0), np.random.default_rng(0))
    rng = np.random.default_rng(0)
    for image, turned in zip(IMAGES, found, strict=True):
        angle = rng.uniform(-40, 40)
        rng.uniform(size=4)
        expected = ndimage.rotate(
            image.reshape(8, 8), -angle, reshape=False, order=1, mode="nearest"
        )
        np.testing.assert_allclose(turned.reshape(8, 8), expected, atol=1e-10)


def test_images_are_translated_as_by_scipy(plot):
    found = plot.moved(IMAGES, (0.0, 0.4, 0.0), np.random.default_rng(0))
    rng = np.random.default_rng(0)
    for image, gone in zip(IMAGES, found, strict=True):
        rng.uniform(size=3)
        by = rng.uniform(-0.4, 0.4, 2) * 8
        expected = ndimage.shift(image.reshape(8, 8), -by, order=1, mode="nearest")
        np.testing.assert_allclose(gone.reshape(8, 8), expected, atol=1e-10)


def test_images_are_zoomed_about_their_middle(plot):
    ramp = np.tile(np.arange(8.0), (8, 1)).reshape(1, 64)
    found = plot.moved(ramp, (0.0, 0.0, 0.4), np.random.default_rng(0)).reshape(8, 8)
    rng = np.random.default_rng(0)
    rng.uniform()
    factor = rng.uniform(0.6, 1.4, 2)[1]
    expected = np.clip(3.5 + factor * (np.arange(8) - 3.5), 0, 7)
    np.testing.assert_allclose(found, np.tile(expected, (8, 1)), atol=1e-10)


def test_rows_of_class_0_go_or_stay_alone(plot, table):
    def labels(shift):
        _, target = plot._parts(table, shift, 400, np.random.default_rng(0))
        known = {row.tobytes(): label for row, label in zip(table.x, table.y, strict=True)}
        return np.array([known[row.tobytes()] for row in target.numpy()])

    assert 0 not in labels(plot.Shifting("small", 1.0, gone=1.0))
    assert set(labels(plot.Shifting("large", 0.0, only_zero=True))) == {0}
    assert set(labels(plot.Shifting("none", 0.0))) == set(range(10))


def test_as_much_noise_on_as_many_rows_as_asked_for(plot, table):
    none, noisy = plot.Shifting("none", 0.0), plot.Shifting("large", 0.5, noise=1.27)
    source, before = plot._parts(table, none, 400, np.random.default_rng(0))
    same, after = plot._parts(table, noisy, 400, np.random.default_rng(0))
    assert (source == same).all()
    added = (after - before).numpy()
    changed = (added != 0).any(axis=1)
    assert changed.sum() == 200
    varies = (added != 0).any(axis=0)
    cells = added[np.ix_(changed, varies)]
    # Features are scaled to a standard deviation of one, and so is the noise; four standard errors.
    assert cells.std() == pytest.approx(1.27, abs=4 * 1.27 / np.sqrt(2 * cells.size))


def test_no_row_was_trained_on_nor_is_in_both_parts(plot, table):
    parts = plot._parts(table, plot.Shifting("none", 0.0), 500, np.random.default_rng(3))
    trained = {row.tobytes() for row in table.x[table.split.train]}
    rows = [{row.tobytes() for row in part.numpy()} for part in parts]
    duplicates = len(table.x) - len({row.tobytes() for row in table.x})
    assert duplicates == 0
    assert not rows[0] & rows[1]
    assert not (rows[0] | rows[1]) & trained
