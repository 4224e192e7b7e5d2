import pytest
import torch
from torch import nn

from unitgain.probe import QUANTITIES, Recorder


def gradients_of(recorder):
    return QUANTITIES["grad_preactivation"](recorder.tensors())[0]


def step(net, x, loss_of=lambda output: output.square().mean()):
    with Recorder(net) as recorder:
        loss_of(net(x)).backward()
    return recorder


def test_no_hook_stays():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    step(net, torch.randn(2, 3))
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
    with pytest.raises(RuntimeError, match="mat1 and mat2"), Recorder(net):
        net(torch.randn(2, 9))
    assert not any(m._forward_hooks for m in net.modules())


def test_recording_changes_no_gradient():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(5, 3)
    net(x).square().mean().backward()
    plain = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    step(net, x)
    assert all(torch.equal(a, p.grad) for a, p in zip(plain, net.parameters(), strict=True))


def test_layers_come_in_the_order_of_their_calls():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 1)
            self.body = nn.Linear(3, 4)

        def forward(self, x):
            return self.head(torch.relu(self.body(x)))

    tensors = step(Reversed(), torch.randn(2, 3)).tensors()
    weights = [indices for indices, _ in tensors.weights.groups]
    shapes = [tuple(t.shape) for _, t in tensors.weights.groups]
    assert dict(zip(weights, shapes, strict=True)) == {(0,): (1, 1, 4, 3), (1,): (1, 1, 1, 4)}


def test_a_layer_that_is_called_twice_counts_twice():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(torch.tanh(self.linear(x)))

    torch.manual_seed(0)
    net, x = Shared(), torch.randn(4, 3)
    recorder = step(net, x)
    assert recorder.layers == 2
    first = net.linear(x)
    second = net.linear(torch.tanh(first))
    expected = torch.autograd.grad(second.square().mean(), (first, second))
    for value, gradient in zip(gradients_of(recorder), expected, strict=True):
        torch.testing.assert_close(value, gradient.norm() * 2.0)


def test_activation_in_place_leaves_the_preactivations_gradient():
    torch.manual_seed(0)
    x = torch.randn(6, 3)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 2))
    twin = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    twin.load_state_dict(net.state_dict())
    torch.testing.assert_close(gradients_of(step(net, x)), gradients_of(step(twin, x)))


@pytest.mark.parametrize("place", ["between", "behind"])
def test_norm_with_parameters_is_no_activation(place):
    torch.manual_seed(0)
    middle = [nn.LayerNorm(8), nn.Tanh()]
    net = nn.Sequential(
        nn.Linear(3, 8), *(middle if place == "between" else middle[::-1]), nn.Linear(8, 2)
    )
    x = torch.randn(6, 3)
    expected = (net[:3] if place == "between" else net[:2])(x).mean()
    recorded = QUANTITIES["activation_mean"](step(net, x).tensors())[0, 0]
    torch.testing.assert_close(recorded, expected.detach())


def test_dropout_behind_an_activation_is_not_measured():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(8, 2))
    x = torch.randn(6, 3)
    recorded = QUANTITIES["activation_mean"](step(net, x).tensors())[0, 0]
    torch.testing.assert_close(recorded, net[:2](x).mean().detach())


def test_a_loss_module_is_no_activation():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4))
            self.loss = nn.CrossEntropyLoss()

        def forward(self, x):
            return self.loss(self.net(x), torch.zeros(len(x), dtype=torch.long))

    tensors = step(WithLoss(), torch.randn(6, 3), lambda loss: loss).tensors()
    mean = QUANTITIES["activation_mean"](tensors)
    assert mean[0, 0].isfinite()
    assert mean[0, 1].isnan()


def test_passes_without_gradients_are_not_recorded():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    x = torch.randn(2, 3)
    with Recorder(net) as recorder:
        with torch.no_grad():
            net(x)
        net(x).mean().backward()
    assert recorder.layers == 2


def test_scale_of_the_loss_is_taken_back():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), torch.randn(5, 3)
    plain = gradients_of(step(net, x))
    scaled = step(net, x, lambda output: 1024.0 * output.square().mean())
    torch.testing.assert_close(
        QUANTITIES["grad_preactivation"](scaled.tensors(scale=1024.0))[0], plain
    )


def test_frozen_layers_still_pass_their_gradient_on():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    net[2].requires_grad_(False)
    tensors = step(net, torch.randn(5, 3)).tensors()
    assert QUANTITIES["grad_preactivation"](tensors).isfinite().all()
    weight = QUANTITIES["grad_weight"](tensors)[0]
    assert weight.isfinite().tolist() == [True, False, True]


def test_a_recorder_can_be_used_again():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    recorder = Recorder(net)
    values = []
    for x in (torch.randn(5, 3), torch.randn(7, 3)):
        net.zero_grad()
        with recorder:
            net(x).square().mean().backward()
        assert recorder.layers == 2
        values.append(gradients_of(recorder))
        torch.testing.assert_close(values[-1], gradients_of(step(net, x)))
    assert not torch.equal(*values)


class _InOrder(nn.Module):
    """Large enough for tensors to be put where the last step had them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(256, 256) for _ in range(3))
        self.order = [0, 1, 2]

    def forward(self, x):
        for i in self.order:
            x = torch.relu(self.layers[i](x))
        return x


def _recorded(recorder, net, xs):
    with recorder:
        for x in xs:
            net(x).square().mean().backward()
    tensors = recorder.tensors()
    net.zero_grad()
    fields = ("preactivation_gradients", "activations")
    return {f: [t.clone() for _, t in getattr(tensors, f).groups] for f in fields}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [0, 1], [1, 1, 0]])
@pytest.mark.parametrize("passes", [1, 2])
def test_later_steps_are_recorded_as_a_first_one_is(order, passes):
    torch.manual_seed(0)
    net = _InOrder()
    recorder = Recorder(net)
    for _ in range(2):
        _recorded(recorder, net, [torch.randn(80, 256)])
    net.order = order
    xs = [torch.randn(80, 256) for _ in range(passes)]
    for _ in range(2):
        later, first = _recorded(recorder, net, xs), _recorded(Recorder(net), net, xs)
        for name, tensors in first.items():
            torch.testing.assert_close(later[name], tensors, rtol=0, atol=0)


def test_a_graph_of_an_earlier_step_writes_over_nothing():
    torch.manual_seed(0)
    net, x, other = _InOrder(), torch.randn(80, 256), torch.randn(80, 256)
    recorder = Recorder(net)
    _recorded(recorder, net, [other])
    with recorder:
        loss = net(other).square().mean()
    expected = _recorded(Recorder(net), net, [x])
    with recorder:
        net(x).square().mean().backward()
        gradients = [p.grad.clone() for p in net.parameters()]
        loss.backward()
        for p, gradient in zip(net.parameters(), gradients, strict=True):
            p.grad = gradient
    for name, layers in expected.items():
        now = [t for _, t in getattr(recorder.tensors(), name).groups]
        torch.testing.assert_close(now, layers, rtol=0, atol=0)


class Skipping(nn.Module):
    """Its first activation goes on as it is, or with a skip connection that no hook sees."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)
        self.skips = False

    def forward(self, x):
        h = self.act(self.first(x))
        return self.last(h + x if self.skips else h)


def activations_of(recorder):
    return QUANTITIES["activation_second_moment"](recorder.tensors())[0]


def again(recorder, net, x):
    """A further step of the recorder, with the modules that were hooked."""
    net.zero_grad()
    torch.manual_seed(0)
    with recorder:
        hooked = [name for name, m in net.named_modules() if m._forward_hooks]
        net(x).square().mean().backward()
    recorder.keep_parameter_gradients()
    return hooked


def test_activations_that_layers_are_given_need_no_hook_of_their_own():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8)
    )
    net.extend([nn.GELU(), nn.Linear(8, 2), nn.Sigmoid()])
    x, recorder = torch.randn(6, 3), Recorder(net)
    assert again(recorder, net, x) == [str(k) for k in range(9)]
    first = activations_of(recorder)
    # A GELU may be one of two, dropout is no activation, and behind the last one comes no layer.
    for _ in range(2):
        assert again(recorder, net, x) == ["0", "2", "4", "5", "6", "7", "8"]
        torch.testing.assert_close(activations_of(recorder), first)
    assert not first.isnan().any()


def test_activations_that_are_changed_before_the_next_layer_keep_their_hook():
    torch.manual_seed(0)
    net, x = Skipping(), torch.randn(6, 3)
    net.skips, recorder = True, Recorder(net)
    for _ in range(3):
        assert again(recorder, net, x) == ["first", "act", "last"]
        expected = torch.relu(net.first(x)).square().mean()
        torch.testing.assert_close(activations_of(recorder)[0], expected.detach())


def test_a_network_that_is_not_the_same_at_each_step_gets_all_hooks_back():
    torch.manual_seed(0)
    net, x = Skipping(), torch.randn(6, 3)
    recorder = Recorder(net)
    again(recorder, net, x)
    expected = activations_of(recorder)
    assert again(recorder, net, x) == ["first", "last"]
    net.skips = True
    again(recorder, net, x)
    assert activations_of(recorder).isnan().all()
    for net.skips in (True, False, True):
        assert again(recorder, net, x) == ["first", "act", "last"]
        torch.testing.assert_close(activations_of(recorder), expected, equal_nan=True)


def test_what_a_network_does_to_its_activations_later_is_not_recorded():
    class Erasing(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 1)

        def forward(self, x):
            self.h = torch.tanh(self.first(x))
            return self.last(self.h)

    torch.manual_seed(0)
    net, x = Erasing(), torch.randn(32, 64)
    expected = torch.tanh(net.first(x)).square().mean().detach()
    recorder = Recorder(net)
    for _ in range(2):
        again(recorder, net, x)
        net.h.detach().zero_()
        torch.testing.assert_close(activations_of(recorder)[0], expected)


def test_tensors_are_the_same_when_they_are_asked_for_again():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2)), torch.randn(32, 64)
    recorder = Recorder(net)
    for _ in range(2):
        again(recorder, net, x)
        first, second = (
            QUANTITIES["grad_preactivation"](recorder.tensors(scale=8.0)) for _ in range(2)
        )
        torch.testing.assert_close(first, second)
