import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unitgain.errors import ConfigError

pytestmark = pytest.mark.usefixtures("one_thread")


def specs(lab, count=3, **common):
    return [lab.spec(k, optimizer=("adam", {"lr": 1e-3 * (k + 1)}), **common) for k in range(count)]


@pytest.fixture
def rich(lab):
    """A pack with all that has a state: running statistics, moments, masks, schedules."""
    return lambda: lab.pack(
        specs(
            lab,
            norm="batch",
            dropout=("dropout", {"p": 0.2}),
            scheduler="one_cycle",
            every=2,
            epochs=4,
        )
    )


# Steps


def test_an_epoch_leaves_a_loss_for_each_step_and_member(lab):
    pack = lab.pack(specs(lab))
    batches = pack.data.epoch(0)
    xs, ys = pack.data.gather(batches[0].index)
    with torch.no_grad():
        outputs = pack.mlp(xs)
    steps = pack.train_epoch(0)
    assert steps.loss_SK.shape == (3, 3)
    for k in range(3):
        rows = batches[0].rows
        expected = F.cross_entropy(outputs[k, :rows], ys[k, :rows])
        torch.testing.assert_close(steps.loss_SK[0, k], expected)


def test_the_penalty_is_no_part_of_the_loss(lab):
    plain, penalised = (lab.pack(specs(lab, l2=l2)) for l2 in (0.0, 10.0))
    first = [pack.train_epoch(0).loss_SK for pack in (plain, penalised)]
    assert torch.equal(first[0][0], first[1][0])
    assert not torch.equal(first[0][1], first[1][1])


def test_losses_of_a_part_are_means_over_its_rows(lab):
    for task, loss in (("classification", F.cross_entropy), ("regression", F.mse_loss)):
        table = lab.table(lab.spec(task=task))
        pack = lab.pack(specs(lab, task=task, norm="batch"), table)
        pack.train_epoch(0)
        for part in ("train", "val", "test"):
            rows = getattr(table.split, part)
            x, y = torch.from_numpy(table.x[rows]), torch.from_numpy(table.y[rows])
            for limit in (4096, 5):
                prediction = pack.predict(part, limit)
                for k in range(3):
                    single = pack.mlp.unpack(k)
                    torch.testing.assert_close(prediction.output_KNT[k], single(x))
                    torch.testing.assert_close(prediction.loss_K[k], loss(single(x), y).detach())
                    assert torch.equal(prediction.target[k], y)


def test_evaluation_changes_nothing(rich):
    pack, other = rich(), rich()
    for epoch in range(2):
        pack.train_epoch(epoch)
        pack.predict("val")
        other.train_epoch(epoch)
    for name, tensor in pack.state().items():
        assert torch.equal(tensor, other.state()[name])


# Going on


def test_a_pack_that_goes_on_from_its_state_ends_with_the_same_bits(rich):
    whole = rich()
    for epoch in range(2):
        whole.train_epoch(epoch)
    state = whole.state()
    rest = [whole.train_epoch(epoch) for epoch in (2, 3)]
    resumed = rich()
    resumed.load_state(state)
    again = [resumed.train_epoch(epoch) for epoch in (2, 3)]
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, resumed.state()[name])
    for a, b in zip(rest, again, strict=True):
        assert torch.equal(a.loss_SK, b.loss_SK)
        assert a.probe_step == b.probe_step
    np.testing.assert_array_equal(whole.last_lr(), resumed.last_lr())


def test_a_state_is_a_copy(rich):
    pack = rich()
    state = pack.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    pack.train_epoch(0)
    assert all(torch.equal(state[name], before[name]) for name in state)
    assert {"theta", "running_mean_0", "running_var_1", "optimizer.exp_avg"} <= state.keys()


def test_training_draws_nothing_from_torch_s_global_generator(rich):
    pack = rich()
    before = torch.get_rng_state()
    pack.train_epoch(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stop_leaves_the_epoch_unfinished(rich):
    pack = rich()
    asked = []

    def stop():
        asked.append(None)
        return len(asked) == 3

    assert pack.train_epoch(0, stop) is None
    assert len(asked) == 3
    assert rich().train_epoch(0, lambda: False) is not None


# The probe


@pytest.mark.parametrize("every", [1, 2, 5])
def test_steps_are_measured_by_their_number_in_the_run(lab, every):
    pack = lab.pack(specs(lab, every=every))
    measured = [step for epoch in range(4) for step in pack.train_epoch(epoch).probe_step]
    assert measured == [step for step in range(12) if step % every == 0]


def test_without_a_probe_nothing_is_measured(lab):
    steps = lab.pack(specs(lab, every=None)).train_epoch(0)
    assert (steps.probe_step, steps.probe_QKL) == ([], [])


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "rms"])
def test_measuring_changes_no_bit_of_training(lab, norm):
    off, on = (
        lab.pack(specs(lab, norm=norm, dropout=("dropout", {"p": 0.3}), every=every))
        for every in (None, 1)
    )
    for epoch in range(2):
        a, b = off.train_epoch(epoch), on.train_epoch(epoch)
        assert torch.equal(a.loss_SK, b.loss_SK)
    for name, tensor in off.state().items():
        assert torch.equal(tensor, on.state()[name]), name


def test_forward_statistics_are_those_of_the_examples(lab):
    pack = lab.pack(specs(lab, activation="relu", every=1, batch_size=18))
    singles = [pack.mlp.unpack(k) for k in range(3)]
    batch = pack.data.epoch(0)[0]
    assert batch.rows == 18
    x, _ = pack.data.gather(batch.index)
    measured = pack.train_epoch(0).probe_QKL[0]
    for k, single in enumerate(singles):
        row = dict(zip(pack.probe.quantities, measured[:, k], strict=True))
        with torch.no_grad():
            h = single[:2](x[k, :18])
        torch.testing.assert_close(row["activation_mean"][0], h.mean())
        torch.testing.assert_close(row["activation_variance"][0], h.var(correction=0))
        torch.testing.assert_close(row["silent_fraction"][0], (h == 0).all(0).double().mean())
        assert row["activation_mean"][-1].isnan()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop"])
def test_updates_are_what_the_step_changed(lab, name, decay):
    settings = {"lr": 0.01, "weight_decay": decay}
    pack, first = (
        lab.pack([lab.spec(k, optimizer=(name, settings), every=every) for k in range(3)])
        for every in (1, None)
    )
    before = [first.mlp.member_state(k) for k in range(3)]
    asked = iter((False, True))
    first.train_epoch(0, lambda: next(asked))
    rows = pack.train_epoch(0).probe_QKL[0]
    for k in range(3):
        after = first.mlp.member_state(k)
        row = dict(zip(pack.probe.quantities, rows[:, k], strict=True))
        for i, n in enumerate(n for n in after if n.endswith("weight")):
            change = (after[n] - before[k][n]).norm() / after[n].norm()
            torch.testing.assert_close(row["update_ratio"][i], change, rtol=1e-9, atol=0)
            torch.testing.assert_close(row["weight_norm"][i], after[n].norm())
            assert change > 1e-4


# What went first


def poisoned(lab, layer, value):
    pack = lab.pack(specs(lab, precision="32", task="regression"))
    slot = next(s for s in pack.mlp.layout.of_kind("bias") if s.layer == layer)
    with torch.no_grad():
        pack.mlp.theta[1, slot.offset] = value
    return pack


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_blame_names_the_layer_that_went_first(lab, layer):
    pack = poisoned(lab, layer, float("inf"))
    blame = pack.blame(0, {1: 0})[1]
    assert (blame.step, blame.layer, blame.where) == (0, layer + 1, "pre-activation")


def test_blame_names_the_loss_where_outputs_are_finite(lab):
    # The square of 1e30 overflows float32.
    pack = poisoned(lab, 2, 1e30)
    blame = pack.blame(0, {1: 0})[1]
    assert (blame.step, blame.layer, blame.where) == (0, 3, "loss")


def test_blame_finds_the_step_of_a_later_epoch(lab):
    pack = lab.pack(specs(lab, precision="32"))
    pack.train_epoch(0)
    state = pack.state()
    pack.train_epoch(1)
    pack.load_state(state)
    with pytest.raises(ValueError, match=r"steps \{0: 9\} are not all in epoch 1"):
        pack.blame(1, {0: 9})[0]


# What can't be one pack


def test_a_norm_of_another_kind_is_one_line(lab):
    spec = lab.spec().model_copy(update={"norm": lab.spec(activation="tanh").activation})
    with pytest.raises(
        ConfigError,
        match=r"^norm: must be a unitgain\.nn\.Norm or torch\.nn\.Identity, got torch\.nn\.Tanh; derive it",
    ):
        lab.pack([spec])


def test_a_dropout_of_another_kind_is_one_line(lab):
    spec = lab.spec().model_copy(update={"dropout": lab.spec(activation="tanh").activation})
    with pytest.raises(
        ConfigError, match=r"^dropout: must be a unitgain\.nn\.DropoutKind, .* got torch\.nn\.Tanh$"
    ):
        lab.pack([spec])


def test_members_with_and_without_dropout_can_t_be_one_pack(lab):
    both = [lab.spec(0, dropout="none"), lab.spec(1, dropout="dropout")]
    with pytest.raises(
        ConfigError, match=r"^dropout: .*the same for the whole pack, got torch\.nn\.Identity$"
    ):
        lab.pack(both)


def test_an_optimizer_of_torch_is_one_line(lab):
    spec = lab.spec().model_copy(update={"optimizer": lab.spec(activation="tanh").activation})
    with pytest.raises(
        ConfigError,
        match=r"^optimizer: must be a unitgain\.pack\.optim\.Optimizer, got torch\.nn\.Tanh; "
        "use optimizer=sgd, adam, adamw or rmsprop$",
    ):
        lab.pack([spec])
