import pytest
import torch
from torch import nn

from unitgain.nn import (
    MLP,
    BatchNorm,
    MemberInit,
    Shape,
    Trace,
    init,
    initialize,
    initialize_from_data,
)
from unitgain.nn.layout import row_quantum
from unitgain.nn.streams import generator, stream

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = Shape(5, 2, (9, 9, 4))
HE, LSUV = MemberInit(init.he()), MemberInit(init.lsuv())


def filled(inits, seeds=None, shape=SHAPE, **options):
    seeds = range(len(inits)) if seeds is None else seeds
    mlp = MLP(shape, activation=nn.ReLU(), seeds=seeds, dtype=torch.float64, **options)
    initialize(mlp, inits)
    return mlp


def batch(mlp, rows=32):
    g = torch.Generator().manual_seed(5)
    return torch.randn(mlp.members, rows, 5, generator=g, dtype=torch.float64)


def changed(a, b):
    return {name for name in a if not torch.equal(a[name], b[name])}


# Streams


def test_a_stream_depends_on_each_part_of_its_purpose():
    keys = {
        stream(seed, purpose, number)
        for seed in range(20)
        for purpose in ("init", "order")
        for number in range(20)
    }
    assert len(keys) == 800
    assert all(0 <= key < 2**63 for key in keys)


def test_a_generator_begins_where_its_stream_does():
    first, second = (torch.randn(4, generator=generator(3, "init", 1)) for _ in range(2))
    assert torch.equal(first, second)
    expected = torch.randn(4, generator=torch.Generator().manual_seed(stream(3, "init", 1)))
    assert torch.equal(first, expected)


def test_the_streams_of_a_version_stay_the_same():
    # Runs of the past can be repeated only as long as this number stands.
    assert stream(0, "init", 1) == 1725474129216888526


# From the generator


def test_a_member_s_numbers_depend_on_its_seed_alone():
    inits = [HE, MemberInit(init.xavier()), HE]
    mlp = filled(inits, seeds=[4, 5, 6])
    for k in range(3):
        alone = filled([inits[k]], seeds=[4 + k])
        assert changed(mlp.member_state(k), alone.member_state(0)) == set()
    same = filled([HE, HE], seeds=[4, 4])
    assert changed(same.member_state(0), same.member_state(1)) == set()


def test_another_initializer_of_one_layer_leaves_the_others_as_they_were():
    plain = filled([HE]).member_state(0)
    first = filled([MemberInit(init.he(), first=init.torch_default())]).member_state(0)
    output = filled([MemberInit(init.he(), output=init.orthogonal())]).member_state(0)
    hidden = filled([MemberInit(init.xavier(), init.he(), init.he())]).member_state(0)
    assert changed(plain, first) == {"0.weight", "0.bias"}
    assert changed(plain, output) == {"6.weight"}
    assert changed(plain, hidden) == {"2.weight", "4.weight"}


def test_biases_change_no_weight():
    with_bias = init.with_bias(init.he(), init.bias_normal(0.1))
    plain, biased = filled([HE]).member_state(0), filled([MemberInit(with_bias)]).member_state(0)
    assert changed(plain, biased) == {"0.bias", "2.bias", "4.bias", "6.bias"}
    without = filled([HE], shape=Shape(5, 2, (9, 9, 4), bias=False)).member_state(0)
    assert all(torch.equal(without[name], plain[name]) for name in without)


def test_a_deeper_network_begins_with_the_same_layers():
    deep = filled([HE], shape=Shape(5, 2, (9, 9, 9, 9))).member_state(0)
    shallow = filled([HE], shape=Shape(5, 2, (9, 9))).member_state(0)
    assert all(torch.equal(deep[n], shallow[n]) for n in ("0.weight", "2.weight"))


def test_layers_of_one_shape_are_drawn_apart():
    state = filled([HE]).member_state(0)
    assert not torch.equal(state["0.weight"][:, :4], state["2.weight"][:, :4])


def test_filling_leaves_torch_s_global_generator_alone():
    before = torch.get_rng_state()
    filled([HE, MemberInit(init.sparse()), MemberInit(init.torch_default())])
    assert torch.equal(torch.get_rng_state(), before)


def test_padding_is_zero():
    mlp = filled([HE, HE])
    kinds = {slot.kind for slot in mlp.layout.slots}
    used = sum(mlp.layout.mask(kind) for kind in kinds)
    assert (mlp.theta[:, ~used] == 0).all()
    assert (~used).any()


# From data


@pytest.mark.parametrize("norm", [None, BatchNorm()])
@pytest.mark.parametrize("target", [1.0, 0.3])
def test_lsuv_gives_its_members_the_target_and_leaves_the_others_as_they_were(norm, target):
    lsuv = MemberInit(init.lsuv(target_std=target, tolerance=1e-9))
    inits = [HE, lsuv, HE, LSUV, lsuv]
    mlp = filled(inits, norm=norm)
    before = mlp.theta.detach().clone()
    x = batch(mlp)
    initialize_from_data(mlp, inits, x)
    assert torch.equal(mlp.theta[[0, 2]], before[[0, 2]])
    trace = Trace()
    with torch.no_grad():
        mlp.train()(x, trace=trace)
    for z in trace.preactivations:
        std = z.std(dim=(1, 2), correction=0)
        torch.testing.assert_close(
            std[[1, 4]], torch.full((2,), target, dtype=torch.float64), rtol=1e-8, atol=0
        )
        assert abs(float(std[3]) - 1) <= 0.01
        assert (std[[0, 2]] - target).abs().min() > 0.01
    scale = mlp.theta.detach()[1] / before[1]
    for slot in mlp.layout.of_kind("weight"):
        part = scale[slot.offset : slot.offset + slot.size]
        torch.testing.assert_close(part, part[0].expand_as(part), rtol=1e-12, atol=0)


def test_lsuv_alone_is_lsuv_packed():
    inits = [HE, LSUV, MemberInit(init.he(), output=init.lsuv()), LSUV]
    mlp = filled(inits)
    x = batch(mlp)
    initialize_from_data(mlp, inits, x)
    for k in range(4):
        alone = filled([inits[k]], seeds=[k])
        initialize_from_data(alone, [inits[k]], x[k : k + 1].clone())
        assert changed(mlp.member_state(k), alone.member_state(0)) == set()


def test_lsuv_of_one_layer_scales_that_layer_alone():
    inits = [MemberInit(init.orthogonal(), output=init.lsuv())]
    mlp = filled(inits)
    before = mlp.member_state(0)
    initialize_from_data(mlp, inits, batch(mlp))
    assert changed(before, mlp.member_state(0)) == {"6.weight"}


def test_running_statistics_are_restored():
    inits = [LSUV, HE]
    mlp = filled(inits, norm=BatchNorm())
    before = {n: t.clone() for n, t in mlp.block_state().items() if n != "theta"}
    assert before
    initialize_from_data(mlp, inits, batch(mlp))
    assert all(torch.equal(mlp.block_state()[name], before[name]) for name in before)


@pytest.mark.parametrize("norm", [None, BatchNorm()])
def test_padding_counts_for_nothing(norm):
    inits = [MemberInit(init.lsuv(tolerance=1e-9))] * 2
    plain, padded = filled(inits, norm=norm), filled(inits, norm=norm)
    x = batch(plain, 20)
    initialize_from_data(plain, inits, x)
    x = torch.cat([x, 100 * torch.ones_like(x[:, :12])], 1)
    initialize_from_data(padded, inits, x, 20)
    torch.testing.assert_close(plain.theta, padded.theta, rtol=1e-8, atol=0)


def test_the_first_batch_of_a_run_gives_the_target_without_its_padding(lab):
    spec = lab.spec(0, init=("lsuv", {"tolerance": 1e-9}), batch_size=20, width=33)
    pack = lab.pack([spec])
    assert row_quantum(pack.mlp.shape.all_widths) == 32
    first = pack.data.epoch(0)[0]
    x, _ = pack.data.gather(first.index)
    trace = Trace()
    with torch.no_grad():
        pack.mlp(x[:, : first.rows], trace=trace)
    for z in trace.preactivations:
        assert float(z.std(correction=0)) == pytest.approx(1, rel=1e-8)


def test_without_a_data_driven_initializer_nothing_happens():
    mlp = filled([HE, HE])
    before = mlp.theta.detach().clone()
    initialize_from_data(mlp, [HE, HE], batch(mlp))
    assert torch.equal(mlp.theta, before)
