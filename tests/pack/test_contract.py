"""What every option must keep: packed equals torch.nn's twin, and a member equals itself alone."""

from pathlib import Path

import pytest
import torch

CONF = Path(__file__).parents[2] / "conf"
pytestmark = pytest.mark.usefixtures("one_thread")


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


ACTIVATIONS, INITS = options("activation"), options("init")
NORMS = [(n, p) for n in options("norm") for p in ("before_activation", "after_activation")]
NORMS.remove(("none", "after_activation"))
RATES = {"none": {}, "dropout": {"p": 0.3}, "alpha_dropout": {"p": 0.2}}


def assert_twin(lab, specs, epochs, **shape):
    """Each member ends within 1e-10 of what torch.nn and torch.optim make of it."""
    pack = lab.pack(specs, **shape)
    twins = [lab.train_twin(pack, specs, k, epochs) for k in range(len(specs))]
    start = pack.state()["theta"]
    for epoch in range(epochs):
        pack.train_epoch(epoch)
    assert not torch.equal(start, pack.mlp.theta)
    for k, twin in enumerate(twins):
        state = pack.mlp.member_state(k)
        names = {n for n in twin.state_dict() if not n.endswith("num_batches_tracked")}
        assert names == state.keys()
        for name in names:
            worst = (state[name] - twin.state_dict()[name]).abs().max()
            assert worst <= 1e-10, f"member {k}, {name}"


# Packed equals the twin: 17 epochs of 3 batches, the last of them smaller, are 51 steps.


@pytest.mark.parametrize(("norm", "position"), NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_norms_equal_torch_nn(lab, activation, norm, position):
    # A second batch norm takes off what a linear layer makes of the first one's offsets: their gradient is rounding
    # noise, which Adam would turn into steps.
    optimizer = "sgd" if (activation, norm) == ("identity", "batch") else "adam"
    specs = [
        lab.spec(
            seed,
            activation=activation,
            norm=norm,
            norm_position=position,
            optimizer=(optimizer, {"lr": lr}),
        )
        for seed, lr in ((0, 1e-3), (7, 4e-3))
    ]
    assert_twin(lab, specs, 17)


@pytest.mark.parametrize("dropout", options("dropout"))
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("norm", "position"), NORMS)
def test_residual_bias_and_dropout_equal_torch_nn(lab, norm, position, residual, bias, dropout):
    optimizer = ("adam", {}) if residual == bias else ("sgd", {"lr": 0.05, "momentum": 0.9})
    specs = [
        lab.spec(
            seed,
            activation="tanh",
            norm=norm,
            norm_position=position,
            residual=residual,
            bias=bias,
            dropout=(dropout, {n: p * share for n, p in RATES[dropout].items()}),
            optimizer=optimizer,
        )
        for seed, share in ((3, 1.0), (4, 0.5))
    ]
    assert_twin(lab, specs, 17)


@pytest.mark.parametrize(
    ("init", "bias_init"),
    [*((init, "from_init") for init in INITS), *(("he", bias) for bias in options("bias_init"))],
)
def test_initializers_equal_torch_nn(lab, init, bias_init):
    specs = [
        lab.spec(
            seed,
            # At its base width spectral has no rates of its own.
            init=(init, {"base_width": 6}) if init == "spectral" else init,
            bias_init=bias_init,
            activation="silu",
            width=6,
            residual=init == "scaled_residual",
        )
        for seed in (0, 1)
    ]
    assert_twin(lab, specs, 17)


@pytest.mark.parametrize("name", options("optimizer"))
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_penalty_and_clipping_equal_torch(lab, name, task):
    specs = [
        lab.spec(seed, task=task, optimizer=name, activation="softplus", l2=l2, clip=clip)
        for seed, l2, clip in ((0, 0.0, None), (1, 0.02, 0.05), (2, 0.3, 1e3), (3, 0.0, 0.01))
    ]
    assert_twin(lab, specs, 17, outputs=2)


def test_clipping_scales_some_members_and_leaves_the_others(lab):
    plain, tight, loose = (
        lab.history(lab.pack([lab.spec(clip=clip, optimizer="sgd")]), 1)
        for clip in (None, 1e-3, 1e6)
    )
    assert not torch.equal(plain["theta"], tight["theta"])
    assert torch.equal(plain["theta"], loose["theta"])


# A member equals itself alone, to the bit.

MEMBERS = (
    {"seed": 0, "lr": 1e-3},
    {"seed": 1, "lr": 5e-3, "share": 0.5, "init": "xavier", "l2": 1e-2},
    {"seed": 4294967295, "lr": 2e-2, "share": 0.0, "clip": 0.1},
    {"seed": 0, "lr": 2e-3, "share": 2.0, "init": "orthogonal", "l2": 1e-4, "clip": 5.0},
    {"seed": 11, "lr": 1e-4, "init": "lsuv"},
)


def members(lab, *, optimizer="adam", dropout="dropout", schedule="cosine", **common):
    """Specs that differ in all that members may differ in."""
    rates, specs = RATES[dropout], []
    for given in MEMBERS:
        own = {n: v for n, v in given.items() if n not in ("lr", "share")}
        rate = {n: p * given.get("share", 1.0) for n, p in rates.items()}
        specs.append(
            lab.spec(
                **own,
                optimizer=(optimizer, {"lr": given["lr"]}),
                dropout=(dropout, rate),
                scheduler=(schedule, {"warmup_steps": 2 * (given["seed"] == 1)}),
                every=1,
                **common,
            )
        )
    return specs


def assert_alone(lab, specs, chosen=(0, 1, 2, 3, 4), epochs=2, **shape):
    table = lab.table(specs[0], **shape)
    packed = lab.history(lab.pack(specs, table), epochs)
    for k in chosen:
        alone = lab.history(lab.pack([specs[k]], table), epochs)
        assert lab.differences(packed, k, alone, 0) == []


@pytest.mark.parametrize(("norm", "position"), NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_and_norms_are_alone_what_they_are_packed(lab, activation, norm, position):
    specs = members(
        lab,
        activation=activation,
        norm=norm,
        norm_position=position,
        precision="32",
        width=[33, 7],
        batch_size=20,
    )
    assert_alone(lab, specs, (1, 4), epochs=1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_alone_what_they_are_packed_in_float64(lab, activation):
    specs = members(lab, activation=activation, norm="batch", width=[33, 7], batch_size=20)
    assert_alone(lab, specs, (1, 4), epochs=1)


SHAPES = {
    "aligned": {"width": 64, "batch_size": 64, "features": 64, "outputs": 10, "train": 192},
    "aligned, last batch odd": {"width": 64, "batch_size": 48, "features": 64, "train": 101},
    "33": {"width": 33, "batch_size": 33, "features": 30, "outputs": 10, "train": 101},
    "7": {"width": 7, "batch_size": 20, "features": 4, "outputs": 3, "train": 58},
    "33 and 7": {"width": [33, 7], "batch_size": 9, "features": 11, "outputs": 2, "train": 32},
    "one input": {"width": [16, 7], "batch_size": 16, "features": 1, "outputs": 2, "train": 38},
    "width one": {"width": [1, 5], "batch_size": 8, "features": 3, "outputs": 2, "train": 29},
    "batches of three": {"width": 12, "batch_size": 3, "features": 5, "outputs": 2, "train": 14},
    "100": {"width": 100, "batch_size": 50, "features": 17, "outputs": 5, "train": 120},
}


@pytest.mark.parametrize("precision", ["32", "64"])
@pytest.mark.parametrize("norm", options("norm"))
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_alone_what_they_are_packed(lab, shape, norm, precision):
    size = dict(SHAPES[shape])
    network = {name: size.pop(name) for name in ("width", "batch_size")}
    specs = members(lab, activation="gelu", norm=norm, precision=precision, **network)
    assert_alone(lab, specs, (0, 3), epochs=1, **size)


@pytest.mark.parametrize("precision", ["32", "64"])
@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("width", [33, 64])
def test_regression_is_alone_what_it_is_packed(lab, width, outputs, precision):
    specs = members(lab, task="regression", width=width, precision=precision, loss="huber")
    assert_alone(lab, specs, outputs=outputs)


@pytest.mark.parametrize("schedule", options("scheduler"))
@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_optimizers_and_schedules_are_alone_what_they_are_packed(lab, optimizer, schedule):
    specs = members(lab, optimizer=optimizer, schedule=schedule, precision="32", width=33)
    assert_alone(lab, specs, (1, 2))


@pytest.mark.parametrize("dropout", options("dropout"))
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", options("norm"))
def test_residual_bias_and_dropout_are_alone_what_they_are_packed(
    lab, norm, bias, residual, dropout
):
    specs = members(
        lab, norm=norm, bias=bias, residual=residual, dropout=dropout, precision="32", width=33
    )
    assert_alone(lab, specs, (1, 2), epochs=1)


def scaled(lab, **common):
    """Specs of residual networks whose branches have scales of their own."""
    return [
        lab.spec(k, residual=True, branch_scale=scale, **common)
        for k, scale in enumerate((1.0, 0.3, 2.0))
    ]


@pytest.mark.parametrize("dropout", ["none", "alpha_dropout"])
@pytest.mark.parametrize(("norm", "position"), NORMS)
def test_scaled_branches_equal_torch_nn(lab, norm, position, dropout):
    rate = (dropout, RATES[dropout])
    specs = scaled(lab, activation="gelu", norm=norm, norm_position=position, dropout=rate)
    assert_twin(lab, specs, 4)


@pytest.mark.parametrize("precision", ["32", "bf16-mixed", "64"])
@pytest.mark.parametrize("dropout", ["none", "alpha_dropout"])
def test_scaled_branches_are_alone_what_they_are_packed(lab, dropout, precision):
    rate = (dropout, RATES[dropout])
    specs = scaled(lab, width=33, depth=3, dropout=rate, precision=precision, every=1)
    assert_alone(lab, specs, (0, 1, 2))


@pytest.mark.parametrize("init", INITS)
def test_initializers_are_alone_what_they_are_packed(lab, init):
    specs = [
        lab.spec(
            k,
            init=init if k else "he",
            output_init="constant" if k == 2 else None,
            width=33,
            residual=init == "scaled_residual",
        )
        for k in range(3)
    ]
    assert_alone(lab, specs, (0, 1, 2), epochs=1)


@pytest.mark.parametrize("precision", ["32", "64"])
@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_rates_of_layers_are_alone_what_they_are_packed(lab, optimizer, precision):
    # Widths that aren't multiples of the alignment, and neighbours without rates of their own.
    inits = (("spectral", {"base_width": 8}), "he", ("spectral", {"base_width": 24}))
    extra = {"weight_decay": 0.1}
    specs = [
        lab.spec(k, init=init, width=[33, 7], precision=precision, optimizer=(optimizer, extra))
        for k, init in enumerate(inits)
    ]
    assert_alone(lab, specs, (0, 1, 2), epochs=1)


def test_weight_decay_and_momentum_of_some_members_change_no_other(lab):
    settings = (
        {"momentum": 0.0},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.5, "dampening": 0.3},
    )
    specs = [
        lab.spec(k, optimizer=("sgd", s), precision="32", width=33) for k, s in enumerate(settings)
    ]
    table = lab.table(specs[0])
    packed = lab.history(lab.pack(specs, table), 3)
    alone = lab.history(lab.pack(specs[:1], table), 3)
    packed.pop("optimizer.momentum_buffer")  # a pack without momentum keeps none
    assert lab.differences(packed, 0, alone, 0) == []


def test_members_with_tables_of_their_own_are_alone_what_they_are_packed(lab):
    specs = members(lab, norm="batch", width=33, precision="32")
    tables = [lab.table(s, seed=i, train=70) for i, s in enumerate(specs)]
    packed = lab.history(lab.pack(specs, tables), 2)
    for k, spec in enumerate(specs):
        alone = lab.history(lab.pack([spec], tables[k]), 2)
        assert lab.differences(packed, k, alone, 0) == []


@pytest.mark.parametrize(("activation", "width"), [("sigmoid", 128), ("tanh", 257)])
def test_two_threads_keep_members_apart_too(lab, activation, width):
    # Activations and parameters of above 32,768 elements: torch divides these among its threads. Sigmoid's kernel
    # rounds otherwise at the end of a share that isn't a whole number of registers, as 257 units can make it.
    torch.set_num_threads(2)
    specs = members(
        lab, norm="batch", activation=activation, precision="32", width=width, batch_size=64
    )
    assert_alone(lab, specs, (0, 2, 3), epochs=1, features=64, train=150)


# A member's failure stays its own.


@pytest.mark.parametrize("norm", options("norm"))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_broken_member_changes_no_bit_of_the_others(lab, norm, value):
    specs = members(lab, norm=norm, precision="32", width=33)
    table = lab.table(specs[0])
    whole = lab.history(lab.pack(specs, table), 2)
    pack = lab.pack(specs, table)
    with torch.no_grad():
        pack.mlp.theta[1] = value
    broken = lab.history(pack, 2)
    assert lab.differences(whole, 1, broken, 1)
    for k in (0, 2, 3, 4):
        assert lab.differences(whole, k, broken, k) == []


def test_a_member_without_clipping_is_not_clipped_by_its_neighbours(lab):
    # Its gradient's norm overflows float32, though no entry of it does.
    specs = [
        lab.spec(k, task="regression", clip=clip, precision="32", optimizer=("sgd", {"lr": 1e-30}))
        for k, clip in enumerate((None, 1.0))
    ]
    table = lab.table(specs[0])
    packs = lab.pack(specs, table), lab.pack(specs[:1], table)
    for pack in packs:
        with torch.no_grad():
            pack.mlp.theta *= 1e5
    packed, alone = (lab.history(pack, 1) for pack in packs)
    assert alone["theta"].isfinite().all()
    assert lab.differences(packed, 0, alone, 0) == []
