"""Norms and statistics of activations: two ways to take them, any scale, and no member that depends on another."""

import math

import numpy as np
import pytest
import torch

from unitgain.probe import Layers
from unitgain.probe import _device as device
from unitgain.probe import _host as host

SIZES = [(2, 1), (3, 5), (16, 33), (64, 64), (7, 300), (30, 5000)]


def blocks(count, units, members=3, layers=4, seed=0, dtype=torch.float32):
    """Activations as a ReLU leaves them, some units silent."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(layers, members, count, units, generator=generator, dtype=torch.float64)
    h = (h + 0.3).relu()
    h[1:3, :, :, ::4] = 0.0
    return h.to(dtype)


def of(block):
    return Layers(len(block) + 1, ((tuple(range(len(block))), block),))


def on_host(block):
    table, silent = host.statistics(of(block))
    return torch.from_numpy(table).transpose(1, 2), silent


def in_float64(h):
    """All statistics of one member's layer by their definitions."""
    h = h.double()
    rows = [row for row in h if row.any()]
    pairs = [torch.cosine_similarity(a, b, dim=0) for i, a in enumerate(rows) for b in rows[:i]]
    return [
        float(h.mean()),
        float(h.square().mean()),
        float(h.var(correction=0)),
        float(torch.stack(pairs).mean()) if pairs else math.nan,
        float((h == 0).all(0).double().mean()),
    ]


@pytest.mark.parametrize("size", SIZES)
def test_statistics_against_their_definitions(size):
    block = blocks(*size)
    tables = on_host(block)[0], torch.stack(device.statistics(of(block))[0])
    for g, layer in enumerate(block):
        for k, h in enumerate(layer):
            expected = in_float64(h)
            for table in tables:
                np.testing.assert_allclose(table[:, k, g], expected, rtol=2e-6, atol=2e-7)
    assert all(table[:, :, -1].isnan().all() for table in tables)


@pytest.mark.parametrize("scale", [1e-37, 1e-30, 1e-20, 1e-16, 1e15, 1e18, 1e30])
def test_statistics_at_any_scale(scale):
    block = blocks(12, 20)
    ones = on_host(block)[0].double()
    scaled = block * scale
    for narrow in (on_host(scaled)[0], torch.stack(device.statistics(of(scaled))[0])):
        table = narrow.double()
        torch.testing.assert_close(table[0] / scale, ones[0], rtol=1e-5, atol=0, equal_nan=True)
        torch.testing.assert_close(table[3:], ones[3:], rtol=1e-5, atol=1e-6, equal_nan=True)
        if 1e-19 < scale < 1e18:
            torch.testing.assert_close(
                table[1:3] / scale**2, ones[1:3], rtol=1e-5, atol=0, equal_nan=True
            )


def test_one_layer_of_another_size_spoils_none():
    block = blocks(12, 20)
    plain = on_host(block)[0]
    block[2, 1] *= 1e-25
    table = on_host(block)[0]
    np.testing.assert_array_equal(table[:, 0], plain[:, 0])
    torch.testing.assert_close(table[3:, 1, 2], plain[3:, 1, 2])


@pytest.mark.parametrize("angle", [1e-1, 1e-2, 1e-3, 1e-4])
def test_cosines_near_one_keep_their_digits(angle):
    """Two directions at an angle a have the cosine cos a, whose distance from one is a^2 / 2."""
    h = torch.zeros(1, 1, 2, 40, dtype=torch.float64)
    h[..., :20] = 1 / math.sqrt(20)
    h[0, 0, 1] *= math.cos(angle)
    h[0, 0, 1, 20:] = math.sin(angle) / math.sqrt(20)
    narrow = h.float()
    exact = 1 - in_float64(narrow[0, 0])[3]
    assert exact == pytest.approx(angle**2 / 2, rel=0.05)
    for table in (on_host(narrow)[0], torch.stack(device.statistics(of(narrow))[0])):
        # A float32 near one is at most 6e-8 away from what it stands for.
        assert 1 - float(table[3, 0, 0]) == pytest.approx(exact, abs=7e-8 if angle < 0.04 else 4e-7)


def test_correlation_at_the_ends_of_its_range():
    same = torch.ones(1, 1, 5, 8)
    assert on_host(same)[0][3, 0, 0] == 1.0
    opposite = torch.tensor([[[[1.0, 2.0], [-1.0, -2.0]]]])
    assert on_host(opposite)[0][3, 0, 0] == pytest.approx(-1.0)
    orthogonal = torch.eye(6)[None, None]
    assert on_host(orthogonal)[0][3, 0, 0] == pytest.approx(0.0, abs=1e-7)


def test_examples_without_a_direction_are_left_out():
    h = torch.tensor(
        [[[[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]], [[[0.0, 0.0], [0.0, 0.0], [3.0, 1.0]]]]
    )
    for table in (on_host(h)[0], torch.stack(device.statistics(of(h))[0])):
        assert table[3, 0, 0] == pytest.approx(math.sqrt(0.5))
        assert table[3, 0, 1].isnan()
    one = torch.ones(1, 1, 1, 4)
    for table in (on_host(one)[0], torch.stack(device.statistics(of(one))[0])):
        assert table[3, 0, 0].isnan()


def test_units_whose_numbers_cancel_are_not_silent():
    h = torch.zeros(1, 2, 2, 3)
    h[0, :, 0, 1], h[0, :, 1, 1] = 1.0, -1.0
    h[0, 1, 0, 2] = -2.0
    expected = [[True, False, True], [True, False, False]]
    assert on_host(h)[1][0][0].tolist() == expected
    assert device.statistics(of(h))[1][0][0].tolist() == expected


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_stay_with_their_member(bad):
    block = blocks(8, 6)
    plain = on_host(block)[0]
    block[1, 1, 3, 2] = bad
    for table in (on_host(block)[0], torch.stack(device.statistics(of(block))[0])):
        assert not table[:3, 1, 1].isfinite().any()
        torch.testing.assert_close(table[:, [0, 2]], plain[:, [0, 2]], equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
def test_members_do_not_depend_on_each_other(size, dtype, one_thread):
    block = blocks(*size, members=7, dtype=dtype)
    # A neighbour whose numbers need a second look, beside one that has collapsed and one that nearly has.
    block[:, 2] *= 1e-28
    block[:, 4] += 100.0
    block[:, 0] += 3.0
    norms = host.norms([of(block)])[0]
    table, silent = host.statistics(of(block))
    for k in (0, 2, 4, 6):
        # Memory of its own, at other places.
        alone = block[:, k : k + 1].clone()
        one, own = host.statistics(of(alone))
        np.testing.assert_array_equal(table[:, :, k], one[:, :, 0])
        np.testing.assert_array_equal(norms[:, k], host.norms([of(alone)])[0][:, 0])
        np.testing.assert_array_equal(silent[0][:, k], own[0][:, 0])


@pytest.mark.parametrize("numbers", [1, 100, 4096, 4097, 20000])
@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1.0, 1e20, 1e35])
def test_norms_of_any_length_and_scale(numbers, scale):
    x = torch.randn(3, 2, numbers, generator=torch.Generator().manual_seed(0))
    exact = torch.linalg.vector_norm(x.double(), dim=2)
    x[1] *= scale
    exact[1] = torch.linalg.vector_norm(x[1].double(), dim=1)
    for norms in (torch.from_numpy(host.norms([of(x)])[0]).T, device.norms([of(x)])[0]):
        torch.testing.assert_close(norms[:, :3].double(), exact.T, rtol=1e-6, atol=0)


def test_padding_is_cut_off_without_a_copy():
    block = blocks(16, 10)
    cut = Layers(4, (((0, 1, 2, 3), block[:, :, :11]),))
    table, _ = host.statistics(cut)
    exact, _ = host.statistics(Layers(4, (((0, 1, 2, 3), block[:, :, :11].clone()),)))
    np.testing.assert_array_equal(table, exact)
    assert np.shares_memory(cut.examples_whole[0][1], block.numpy())
    assert np.shares_memory(cut.whole[0][1], block.numpy())


def test_layers_that_alternate_in_shape():
    tensors = [
        torch.full((2, 3), float(i)) if i % 2 else torch.full((2, 4), float(i)) for i in range(5)
    ]
    layers = Layers.of([*tensors, None])
    expected = [i * math.sqrt(3 if i % 2 else 4) for i in range(5)]
    for norms in (torch.from_numpy(host.norms([layers])[0]).T, device.norms([layers])[0]):
        np.testing.assert_allclose(norms[1, :5], expected, rtol=1e-6)
        assert norms[:, 5].isnan().all()
