"""Every gradient of a network with one hidden layer, against the chain rule by hand."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS, LAMBDAS = 24, (0.0, 0.3)
PHI = {
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (
        lambda z: 1 / (1 + np.exp(-z)),
        lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    ),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
}


def loss_and_gradient(task, o, y):
    """L and dL/do, for outputs o (T, B) and classes (B,) or targets (T, B)."""
    count = o.shape[1]
    if task == "regression":
        return ((o - y) ** 2).mean(), 2 * (o - y) / o.size
    p = np.exp(o - o.max(0))
    p /= p.sum(0)
    one_hot = np.eye(len(o))[:, y]
    return -np.log((p * one_hot).sum(0)).mean(), (p - one_hot) / count


def by_hand(x, y, state, phi, lam, task):
    """J and its gradients, columns being examples:  z = W1 x + b1,  h = phi(z),  o = W2 h + b2."""
    function, derivative = PHI[phi]
    w1, b1, w2, b2 = (state[n] for n in ("0.weight", "0.bias", "2.weight", "2.bias"))
    z = w1 @ x + b1[:, None]
    h = function(z)
    o = w2 @ h + b2[:, None]
    loss, dj_do = loss_and_gradient(task, o, y)
    objective = loss + lam / 2 * ((w1**2).sum() + (w2**2).sum())
    dj_dz = (w2.T @ dj_do) * derivative(z)
    gradients = {
        "2.weight": dj_do @ h.T + lam * w2,
        "2.bias": dj_do.sum(1),
        "0.weight": dj_dz @ x.T + lam * w1,
        "0.bias": dj_dz.sum(1),
    }
    return loss, objective, gradients, dj_dz, dj_do


@pytest.fixture
def setting(lab, request):
    """A pack whose single step of gradient descent at rate 1 moves it by minus the gradient."""
    task, phi = request.param
    specs = [
        lab.spec(
            k,
            task=task,
            depth=1,
            width=7,
            activation=phi,
            batch_size=ROWS,
            l2=lam,
            dropout="none",
            init="torch_default",
            optimizer=("sgd", {"lr": 1.0}),
            every=1,
        )
        for k, lam in enumerate(LAMBDAS)
    ]
    return task, phi, lab.pack(specs, train=ROWS)


CASES = [(task, phi) for task in ("classification", "regression") for phi in PHI]


@pytest.mark.parametrize("setting", CASES, indirect=True, ids="-".join)
def test_gradients_are_the_chain_rule_s(setting):
    task, phi, pack = setting
    before = [pack.mlp.member_state(k) for k in range(2)]
    (batch,) = pack.data.epoch(0)
    xs, ys = (t[:, :ROWS] for t in pack.data.gather(batch.index))
    steps = pack.train_epoch(0)
    for k, lam in enumerate(LAMBDAS):
        x, y = xs[k].numpy().T, ys[k].numpy().T
        state = {name: t.numpy() for name, t in before[k].items()}
        loss, _, gradients, dj_dz, dj_do = by_hand(x, y, state, phi, lam, task)
        after = pack.mlp.member_state(k)
        assert gradients.keys() == after.keys()
        for name, gradient in gradients.items():
            moved = state[name] - after[name].numpy()
            np.testing.assert_allclose(moved, gradient, rtol=1e-12, atol=1e-14)
        assert float(steps.loss_SK[0, k]) == pytest.approx(loss, rel=1e-13)
        names = list(pack.probe.quantities)
        measured = dict(zip(names, steps.probe_QKL[0][:, k].numpy(), strict=True))
        norms = [np.linalg.norm(gradients[f"{i}.weight"]) for i in (0, 2)]
        np.testing.assert_allclose(measured["grad_weight"], norms, rtol=1e-12)
        norms = [np.linalg.norm(gradients[f"{i}.bias"]) for i in (0, 2)]
        np.testing.assert_allclose(measured["grad_bias"], norms, rtol=1e-12)
        norms = [np.sqrt(ROWS) * np.linalg.norm(g) for g in (dj_dz, dj_do)]
        np.testing.assert_allclose(measured["grad_preactivation"], norms, rtol=1e-12)


@pytest.mark.parametrize("setting", CASES, indirect=True, ids="-".join)
def test_the_objective_is_the_loss_and_half_lambda_times_the_squared_norms(setting):
    task, phi, pack = setting
    (batch,) = pack.data.epoch(0)
    xs, ys = (t[:, :ROWS] for t in pack.data.gather(batch.index))
    with torch.no_grad():
        loss = (pack.loss(pack.mlp(xs), ys) * batch.weight[:, :ROWS]).sum(1)
        objective = pack.objective(loss)
    for k, lam in enumerate(LAMBDAS):
        state = {name: t.numpy() for name, t in pack.mlp.member_state(k).items()}
        expected = by_hand(xs[k].numpy().T, ys[k].numpy().T, state, phi, lam, task)
        assert float(loss[k]) == pytest.approx(expected[0], rel=1e-13)
        assert float(objective[k]) == pytest.approx(expected[1], rel=1e-13)


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("phi", PHI)
def test_the_rule_by_hand_agrees_with_finite_differences(phi, task):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 6))
    y = rng.integers(0, 3, 6) if task == "classification" else rng.standard_normal((3, 6))
    shapes = {"0.weight": (5, 4), "0.bias": (5,), "2.weight": (3, 5), "2.bias": (3,)}
    state = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    gradients = by_hand(x, y, state, phi, 0.3, task)[2]
    step = 1e-6
    for name, value in state.items():
        for place in np.ndindex(value.shape):
            objective = []
            for sign in (1, -1):
                moved = value.copy()
                moved[place] += sign * step
                objective.append(by_hand(x, y, state | {name: moved}, phi, 0.3, task)[1])
            slope = (objective[0] - objective[1]) / (2 * step)
            assert gradients[name][place] == pytest.approx(slope, rel=1e-6, abs=1e-8)
