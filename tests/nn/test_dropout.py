import itertools
import math

import pytest
import torch
from torch import nn

from unitgain.errors import ConfigError
from unitgain.nn import AlphaDropout, Dropout
from unitgain.nn.dropout import keep_mask, mask_keys

ROWS, WIDTH = 64, 50


def masks(seeds, first_step, steps, layers, rate=0.5, rows=ROWS, width=WIDTH):
    """bool (S, L, K, B, D)."""
    keys = mask_keys(seeds, first_step, steps, layers)
    rates = torch.full((len(seeds),), rate, dtype=torch.float64)
    flat = [keep_mask(k, rates, rows, width) for k in keys.view(-1, len(seeds))]
    return torch.stack(flat).view(steps, layers, len(seeds), rows, width)


def assert_uncorrelated(a, b, rate=0.5, sigmas=5.0):
    """Their correlation is within so many standard errors, 1 / sqrt(n), of zero."""
    a, b = ((m.double() - (1 - rate)) / math.sqrt(rate * (1 - rate)) for m in (a, b))
    assert abs(float((a * b).mean())) < sigmas / math.sqrt(a.numel())


@pytest.mark.parametrize("rate", [0.001, 0.05, 0.1, 1 / 3, 0.5, 0.9, 0.999])
def test_the_share_of_kept_elements_is_one_minus_the_rate(rate):
    kept = masks(range(8), 0, 10, 3, rate).double()
    error = math.sqrt(rate * (1 - rate) / kept.numel())
    assert abs(float(kept.mean()) - (1 - rate)) < 5 * error
    by_element = kept.mean((0, 1, 2))
    spread = math.sqrt(rate * (1 - rate) / (kept.numel() / by_element.numel()))
    # 5.5: the extreme of 3200 elements. A rare event's distribution has a longer tail.
    if 0.05 <= rate <= 0.95:
        assert float((by_element - (1 - rate)).abs().max()) < 5.5 * spread


def test_a_rate_of_zero_keeps_everything():
    assert masks([0, 1, 2], 0, 5, 2, 0.0).all()


def test_the_counts_of_masks_vary_as_independent_elements_do():
    counts = masks(range(6), 0, 20, 3).double().sum((-2, -1)).flatten()
    n = ROWS * WIDTH
    # The variance of a sample variance of m normal numbers is 2 / m of its square.
    assert abs(float(counts.var()) / (n / 4) - 1) < 5 * math.sqrt(2 / counts.numel())


def test_members_steps_layers_and_elements_are_uncorrelated():
    m = masks(range(6), 0, 12, 4)
    pairs = {
        "steps": (m[:-1], m[1:]),
        "layers": (m[:, :-1], m[:, 1:]),
        "members": (m[:, :, :-1], m[:, :, 1:]),
        "examples": (m[..., :-1, :], m[..., 1:, :]),
        "units": (m[..., :-1], m[..., 1:]),
        "step and layer": (m[:-1, 1:], m[1:, :-1]),
        "step and member": (m[:-1, :, 1:], m[1:, :, :-1]),
        "layer and member": (m[:, :-1, 1:], m[:, 1:, :-1]),
        "rows 32 apart": (m[..., :-32, :], m[..., 32:, :]),
    }
    for a, b in pairs.values():
        assert_uncorrelated(a, b)


def test_every_pair_of_consecutive_seeds_is_uncorrelated():
    m = masks(range(40), 3, 1, 1)[0, 0]
    pairs = list(itertools.combinations(range(40), 2))
    left, right = (m[[p[i] for p in pairs]].double() * 2 - 1 for i in (0, 1))
    correlation = (left * right).mean((1, 2)) * math.sqrt(ROWS * WIDTH)
    # 780 standard normal numbers, if independent: 5 sigmas once in 2,200 sets.
    assert float(correlation.abs().max()) < 5
    assert abs(float(correlation.mean())) < 5 / math.sqrt(len(pairs))


def test_three_masks_of_a_step_hide_no_parity():
    m = masks(range(30), 0, 30, 3)
    parity = m[:, 0] ^ m[:, 1] ^ m[:, 2]
    assert_uncorrelated(parity, torch.ones_like(parity) ^ m[:, 0])


def test_keys_don_t_repeat():
    keys = mask_keys([0, 1, 2, 2**32 - 1], 0, 100, 10).flatten()
    # 4000 of 2^32 keys: two agree with probability 0.002.
    assert keys.unique().numel() == keys.numel()


def test_a_member_s_masks_are_the_same_in_any_pack_of_any_length_from_any_step():
    whole = masks([5, 6, 7], 0, 10, 4, 0.3)
    assert torch.equal(masks([7], 0, 10, 4, 0.3)[:, :, 0], whole[:, :, 2])
    assert torch.equal(masks([7, 5], 6, 3, 4, 0.3)[:, :, 1], whole[6:9, :, 0])
    assert torch.equal(masks([6], 2, 1, 2, 0.3)[0, :, 0], whole[2, :2, 1])


def test_rows_of_padding_change_no_mask():
    keys, rate = mask_keys([3], 0, 1, 1)[0, 0], torch.tensor([0.4], dtype=torch.float64)
    few, many = keep_mask(keys, rate, 20, 33), keep_mask(keys, rate, 32, 33)
    assert torch.equal(few, many[:, :20])


def test_a_higher_rate_drops_a_superset():
    keys = mask_keys([3, 3], 0, 1, 1)[0, 0]
    low, high = keep_mask(keys, torch.tensor([0.2, 0.6], dtype=torch.float64), ROWS, WIDTH)
    assert (low | ~high).all()
    assert (low & ~high).any()


def test_dropout_scales_what_it_keeps():
    x = torch.randn(2, ROWS, WIDTH, dtype=torch.float64)
    keys = mask_keys([0, 1], 0, 1, 1)[0, 0]
    rate = torch.tensor([0.25, 0.0], dtype=torch.float64)
    y = Dropout(0.25).apply(x, keys, rate)
    keep = keep_mask(keys, rate, ROWS, WIDTH)
    torch.testing.assert_close(y[0], torch.where(keep[0], x[0] / 0.75, 0.0), rtol=1e-15, atol=0)
    assert torch.equal(y[1], x[1])


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_alpha_dropout_keeps_mean_zero_and_variance_one(rate):
    n = 400
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, n, n, generator=generator, dtype=torch.float64)
    y = AlphaDropout(rate).apply(
        x, mask_keys([9], 0, 1, 1)[0, 0], torch.tensor([rate], dtype=torch.float64)
    )
    assert abs(float(y.mean())) < 5 / n
    spread = float((y.square() - 1).var().sqrt())
    assert abs(float(y.square().mean()) - 1) < 5 * spread / n


def test_alpha_dropout_takes_the_two_values_of_torch():
    x = torch.randn(1, 100, 100, dtype=torch.float64)
    rate = torch.tensor([0.3], dtype=torch.float64)
    ours = AlphaDropout(0.3).apply(x, mask_keys([0], 0, 1, 1)[0, 0], rate)
    torch.manual_seed(0)
    twin = nn.AlphaDropout(0.3)(x)
    dropped = torch.mode(twin.flatten()).values
    keep = keep_mask(mask_keys([0], 0, 1, 1)[0, 0], rate, 100, 100)
    torch.testing.assert_close(ours[~keep], dropped.expand_as(ours[~keep]), rtol=1e-6, atol=0)
    both = keep & (twin != dropped)
    # torch's own constants have float32's digits.
    torch.testing.assert_close(ours[both], twin[both], rtol=1e-6, atol=1e-6)


def test_alpha_dropout_at_rate_zero_changes_nothing():
    x = torch.randn(1, 8, 8)
    y = AlphaDropout(0.0).apply(x, mask_keys([0], 0, 1, 1)[0, 0], torch.zeros(1).double())
    assert torch.equal(x, y)


@pytest.mark.parametrize("kind", [Dropout, AlphaDropout])
def test_single_is_torch_s_module(kind):
    single = kind(0.3).single()
    assert type(single) is getattr(nn, kind.__name__)
    assert single.p == 0.3


@pytest.mark.parametrize("kind", [Dropout, AlphaDropout])
@pytest.mark.parametrize("p", [-0.1, 1.0, 1.2, float("nan")])
def test_an_impossible_rate_is_refused(kind, p):
    with pytest.raises(
        ConfigError, match=rf"^dropout\.p: must be at least 0 and below 1, got {p}$"
    ):
        kind(p)
