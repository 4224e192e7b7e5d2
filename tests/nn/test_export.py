import io
import itertools

import onnxruntime
import pytest
import torch
from torch import nn

from unitgain.nn import (
    MLP,
    AlphaDropout,
    BatchNorm,
    Dropout,
    LayerNorm,
    MemberInit,
    RMSNorm,
    Shape,
    init,
    initialize,
)

pytestmark = pytest.mark.usefixtures("one_thread")
NORMS = {"none": None, "batch": BatchNorm(), "layer": LayerNorm(), "rms": RMSNorm()}
DROPOUTS = {
    "none": None,
    "dropout": [Dropout(0.1), Dropout(0.5)],
    "alpha": [AlphaDropout(0.1), AlphaDropout(0.2)],
}
CASES = list(itertools.product(NORMS, [True, False], [True, False]))


def trained(norm="none", residual=False, norm_first=True, dropout="none", dtype=torch.float32):
    """A pack of two whose affine parameters and statistics aren't what they began as."""
    mlp = MLP(
        Shape(5, 3, (8, 8, 8), residual=residual, norm_first=norm_first),
        activation=nn.GELU(),
        norm=NORMS[norm],
        dropouts=DROPOUTS[dropout],
        branch_scales=(0.3, 0.3) if residual else None,
        seeds=(0, 1),
        dtype=dtype,
    )
    initialize(mlp, [MemberInit(init.torch_default())] * 2)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        mlp.theta += 0.1 * torch.randn(mlp.theta.shape, generator=g, dtype=dtype)
        mlp.train()(2 * inputs(dtype) + 1)
    return mlp.eval()


def inputs(dtype=torch.float32, rows=16):
    g = torch.Generator().manual_seed(1)
    return torch.randn(2, rows, 5, generator=g, dtype=dtype)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("dropout", DROPOUTS)
@pytest.mark.parametrize(("norm", "residual", "norm_first"), CASES)
def test_outputs_are_the_packed_ones(norm, residual, norm_first, dropout, dtype, tolerance):
    mlp = trained(norm, residual, norm_first, dropout, dtype)
    x = inputs(dtype)
    y = mlp(x)
    for k in range(2):
        single = mlp.unpack(k)
        assert type(single) is nn.Sequential
        assert not any(m.training for m in single.modules())
        torch.testing.assert_close(single(x[k]), y[k], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("norm", "residual", "norm_first"), CASES)
def test_the_state_has_the_names_and_shapes_of_torch_nn(norm, residual, norm_first):
    mlp = trained(norm, residual, norm_first)
    state, single = mlp.member_state(1), mlp.unpack(1)
    fresh = trained(norm, residual, norm_first).unpack(0)
    missing, unexpected = fresh.load_state_dict(single.state_dict(), strict=True)
    assert (missing, unexpected) == ([], [])
    x = inputs()[1]
    assert torch.equal(fresh(x), single(x))
    counters = {n for n in single.state_dict() if n.endswith("num_batches_tracked")}
    assert state.keys() == single.state_dict().keys() - counters
    for name, tensor in state.items():
        assert torch.equal(single.state_dict()[name], tensor)
        assert tensor.is_contiguous()
    # torch itself fills in the counters that a state lacks.
    assert nn.Module.load_state_dict(fresh, state, strict=True)


def test_shapes_are_torch_nn_s():
    mlp = MLP(Shape(5, 3, (8, 6)), activation=nn.ReLU(), norm=BatchNorm(), seeds=(0,))
    assert {name: tuple(t.shape) for name, t in mlp.unpack().state_dict().items()} == {
        "0.weight": (8, 5),
        "1.weight": (8,),
        "1.bias": (8,),
        "1.running_mean": (8,),
        "1.running_var": (8,),
        "1.num_batches_tracked": (),
        "3.weight": (6, 8),
        "4.weight": (6,),
        "4.bias": (6,),
        "4.running_mean": (6,),
        "4.running_var": (6,),
        "4.num_batches_tracked": (),
        "6.weight": (3, 6),
        "6.bias": (3,),
    }


def test_an_unpacked_member_is_a_copy():
    mlp = trained("batch")
    before = {name: tensor.clone() for name, tensor in mlp.block_state().items()}
    single = mlp.unpack(1).train()
    single(inputs()[1]).sum().backward()
    with torch.no_grad():
        for parameter in single.parameters():
            parameter.zero_()
    assert all(torch.equal(mlp.block_state()[name], tensor) for name, tensor in before.items())
    assert not mlp.training


@pytest.mark.parametrize(("norm", "residual", "norm_first"), CASES)
def test_torch_export_keeps_the_outputs(norm, residual, norm_first):
    single, x = trained(norm, residual, norm_first, "dropout").unpack(1), inputs()[1]
    rows = torch.export.Dim("rows", min=2)
    program = torch.export.export(single, (x,), dynamic_shapes=({0: rows},))
    stored = io.BytesIO()
    torch.export.save(program, stored)
    stored.seek(0)
    loaded = torch.export.load(stored).module()
    for batch in (x, inputs(rows=7)[0]):
        torch.testing.assert_close(loaded(batch), single(batch), rtol=1e-6, atol=1e-6)


# torch's exporter copies a tree with what torch itself calls deprecated.
@pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"
)
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_onnx_gives_the_same_outputs(norm, residual):
    single, x = trained(norm, residual, dropout="dropout").unpack(0), inputs()[0]
    program = torch.onnx.export(single, (x,), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), single(x), rtol=1e-5, atol=1e-5)
