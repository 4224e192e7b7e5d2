"""Layers of many kinds, their names, and what is recorded of them, against autograd on tensors made by hand."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from unitgain.probe import QUANTITIES, Recorder
from unitgain.probe.groups import layer_groups


def names(module):
    return [group.name for group in layer_groups(module)]


def step(net, *inputs, loss_of=lambda output: output.square().mean()):
    with Recorder(net) as recorder:
        loss_of(net(*inputs)).backward()
    return recorder


def row(recorder, name):
    return QUANTITIES[name](recorder.tensors())[0]


class Own(nn.Module):
    """A weight of its own, and what it is used for."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((4,), 0.5))
        self.inner = nn.Linear(3, 4)

    def forward(self, x):
        return self.inner(x) * self.scale


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Conv1d(2, 3, 3), ["Conv1d"]),
        (nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU()), ["0"]),
        (nn.Sequential(nn.Conv3d(2, 3, 3), nn.ConvTranspose3d(3, 2, 3)), ["0", "1"]),
        (nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 2)), ["0", "2"]),
        (nn.Sequential(nn.LSTM(3, 4, 2, bidirectional=True)), ["0.l0", "0.l0_reverse", "0.l1", "0.l1_reverse"]),
        (nn.Sequential(nn.GRU(3, 4), nn.RNNCell(4, 4)), ["0.l0", "1"]),
        (nn.Sequential(nn.MultiheadAttention(4, 2)), ["0.in_proj", "0.out_proj"]),
        (
            nn.Sequential(nn.MultiheadAttention(4, 2, kdim=3, vdim=3)),
            ["0.q_proj", "0.k_proj", "0.v_proj", "0.out_proj"],
        ),
        (Own(), ["Own", "inner"]),
        (nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 4))), ["0"]),
        (nn.Sequential(nn.PReLU(), nn.GroupNorm(2, 4), nn.RMSNorm(4)), []),
    ],
)  # fmt: skip
def test_names(module, expected):
    assert names(module) == expected


def test_every_weight_belongs_to_one_layer():
    net = nn.TransformerEncoderLayer(8, 2, 16)
    weights = [p for group in layer_groups(net) for p in group.weights]
    norms = {net.norm1.weight, net.norm2.weight}
    matrices = [p for name, p in net.named_parameters() if "bias" not in name and p not in norms]
    assert {id(p) for p in weights} == {id(p) for p in matrices}
    assert len(weights) == len(matrices)


def test_convolutions():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    x = torch.randn(5, 2, 6, 6)
    recorder = step(net, x)
    z = net[0](x)
    output = net[3](torch.relu(z).flatten(1))
    gradients = torch.autograd.grad(output.square().mean(), (z, output))
    expected = torch.stack([5**0.5 * g.norm() for g in gradients])
    torch.testing.assert_close(row(recorder, "grad_preactivation"), expected)
    torch.testing.assert_close(row(recorder, "grad_weight")[0], net[0].weight.grad.norm())
    mean = row(recorder, "activation_mean")[0]
    torch.testing.assert_close(mean, torch.relu(z).mean().detach())


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention(batch_first):
    torch.manual_seed(0)
    net = nn.MultiheadAttention(4, 2, batch_first=batch_first)
    shape = (6, 3, 4) if batch_first else (3, 6, 4)
    x = torch.randn(shape)
    # Only the attention's own output has the gradient: three tokens of six examples.
    with Recorder(net) as recorder:
        output, _ = net(x, x, x)
        loss = output.square().sum() / 6
        loss.backward()
    assert recorder.names == ("MultiheadAttention.in_proj", "MultiheadAttention.out_proj")
    weight = [net.in_proj_weight.grad.norm(), net.out_proj.weight.grad.norm()]
    torch.testing.assert_close(row(recorder, "grad_weight"), torch.stack(weight))
    flow = row(recorder, "grad_preactivation")
    assert flow[0].isnan()
    torch.testing.assert_close(flow[1], 6**0.5 * (2 * output / 6).norm().detach())


@pytest.mark.parametrize("sparse", [True, False])
def test_embedding(sparse):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(7, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 2))
    recorder = step(net, torch.tensor([[1, 1], [1, 3], [6, 0]]))
    gradient = net[0].weight.grad
    expected = gradient.to_dense().norm()
    torch.testing.assert_close(row(recorder, "grad_weight")[0], expected)
    assert row(recorder, "grad_preactivation").isfinite().all()


def test_recurrent_layers_and_raw_parameters_have_weights_alone():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.start = nn.Parameter(torch.randn(1, 1, 3))
            self.rnn = nn.GRU(3, 4, 2, batch_first=True)
            self.head = nn.Linear(4, 1)

        def forward(self, x):
            return self.head(self.rnn(x + self.start)[0])

    torch.manual_seed(0)
    net = Net()
    recorder = step(net, torch.randn(2, 5, 3))
    assert recorder.names == ("Net", "rnn.l0", "rnn.l1", "head")
    weights = [
        [net.start],
        [net.rnn.weight_ih_l0, net.rnn.weight_hh_l0],
        [net.rnn.weight_ih_l1, net.rnn.weight_hh_l1],
        [net.head.weight],
    ]
    expected = [torch.cat([p.grad.flatten() for p in ps]).norm() for ps in weights]
    torch.testing.assert_close(row(recorder, "grad_weight"), torch.stack(expected))
    assert row(recorder, "grad_preactivation").isnan().tolist() == [True, True, True, False]


def test_tied_weights_have_one_gradient_and_two_layers():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    recorder = step(net, torch.randn(4, 3))
    weight = row(recorder, "grad_weight")
    assert recorder.names == ("0", "2")
    torch.testing.assert_close(weight, net[0].weight.grad.norm().expand(2))


@pytest.mark.parametrize(
    ("function", "module"),
    [
        (torch.tanh, nn.Tanh()),
        (nn.functional.gelu, nn.GELU()),
        (torch.sigmoid, nn.Sigmoid()),
        (lambda z: nn.functional.relu(z, inplace=True), nn.ReLU()),
    ],
)
@pytest.mark.parametrize("dropout", [False, True])
def test_activations_that_are_functions(function, module, dropout):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 2)
            self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()

        def forward(self, x):
            return self.second(self.dropout(function(self.first(x))))

    net, x = Net(), torch.randn(6, 3)
    recorder = step(net, x)
    h = module(net.first(x)).detach()
    torch.testing.assert_close(row(recorder, "activation_mean")[0], h.mean())
    assert row(recorder, "activation_mean")[1].isnan()
    kind = type(recorder.activation)
    assert kind is (type(None) if isinstance(module, nn.GELU) else type(module))


def test_what_a_residual_sum_gives_is_no_activation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.second(x + self.first(x))

    assert row(step(Net(), torch.randn(4, 3)), "activation_mean").isnan().all()


def test_passes_of_one_step_equal_the_whole_batch():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(12, 3)
    whole = step(net, x)
    values = {name: row(whole, name) for name in QUANTITIES}
    net.zero_grad()
    with Recorder(net) as parts:
        for rows in x.split(4):
            (net(rows).square().mean() / 3).backward()
    assert parts.names == ("0", "2", "4")
    for name, expected in values.items():
        actual = row(parts, name)
        torch.testing.assert_close(actual, expected, equal_nan=True, rtol=1e-5, atol=1e-7)


def test_passes_of_several_lengths():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    parts = [torch.randn(2, length, 3) for length in (5, 3)]
    with Recorder(net) as recorder:
        for x in parts:
            net(x).square().sum(1).mean().div(2).backward()
    squares = 0.0
    for x in parts:
        z = net[0](x)
        loss = net[2](torch.tanh(z)).square().sum(1).mean() / 2
        squares += torch.autograd.grad(loss, z)[0].square().sum()
    torch.testing.assert_close(row(recorder, "grad_preactivation")[0], (4 * squares).sqrt())


def test_checkpointed_layers_count_once():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))
    head, x = nn.Linear(4, 1), torch.randn(5, 4)
    net = nn.Sequential(block, head)
    plain = row(step(net, x), "grad_preactivation")
    net.zero_grad()
    with Recorder(net) as recorder:
        h = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
        head(h).square().mean().backward()
    assert recorder.names == ("0.0", "0.2", "1")
    torch.testing.assert_close(row(recorder, "grad_preactivation"), plain)


def test_two_losses_through_one_output():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    expected = row(
        step(net, x, loss_of=lambda y: y.square().mean() + y.mean()), "grad_preactivation"
    )
    net.zero_grad()
    with Recorder(net) as recorder:
        output = net(x)
        output.square().mean().backward(retain_graph=True)
        output.mean().backward()
    torch.testing.assert_close(row(recorder, "grad_preactivation"), expected)


def test_a_compiled_module_gives_what_the_plain_one_gives():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    plain = step(net, x)
    expected = {name: row(plain, name) for name in QUANTITIES}
    net.zero_grad()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, backend=backend)
    compiled(x)
    net.zero_grad()
    recorder = step(compiled, x)
    assert recorder.names == ("0", "2")
    for name, values in expected.items():
        torch.testing.assert_close(row(recorder, name), values, equal_nan=True)
    compiled(x)
    assert len(graphs) == 1, "neither hooks nor their removal may compile it anew"


def test_half_precision_is_measured_in_float32():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)), torch.randn(6, 3)
    plain = row(step(net, x), "grad_preactivation")
    net.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        recorder = step(net, x)
    assert recorder.tensors().preactivation_gradients.groups[0][1].dtype == torch.float32
    torch.testing.assert_close(row(recorder, "grad_preactivation"), plain, rtol=0.02, atol=0)
