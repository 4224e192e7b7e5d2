"""On a GPU a pack repeats itself to the bit, and its members agree with the same run alone up to rounding."""

import pytest
import torch

from unitgain.pack.build import build_mlp, build_pack
from unitgain.pack.engine import Steps
from unitgain.probe import QUANTITIES
from unitgain.spec import parse

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SEEDS = (3, 1, 2, 5)


def trained(lab, seeds, epochs=2):
    """The parameters (K, P) and losses of packs on the GPU."""
    specs = [lab.spec(seed=seed, precision="32") for seed in seeds]
    tables = [lab.table(specs[0])] * len(specs)
    device = torch.device("cuda")
    mlp = build_mlp(specs, tables).to(device)
    pack = build_pack(specs, tables, mlp, device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    losses = [pack.train_epoch(epoch).loss_SK for epoch in range(epochs)]
    return mlp.theta.detach().cpu(), torch.cat(losses).cpu()


def test_a_pack_repeats_itself_to_the_bit(lab):
    for one, other in zip(trained(lab, SEEDS), trained(lab, SEEDS), strict=True):
        assert torch.equal(one, other)


def test_members_agree_with_the_run_alone_up_to_rounding(lab):
    theta, loss = trained(lab, SEEDS)
    for k, seed in enumerate(SEEDS):
        alone_theta, alone_loss = trained(lab, (seed,))
        torch.testing.assert_close(loss[:, k], alone_loss[:, 0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(theta[k], alone_theta[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_a_measured_step_does_not_wait_for_the_device(lab, norm):
    specs = [lab.spec(seed=seed, precision="32", norm=norm, bias=False) for seed in SEEDS]
    probe = {"every": 1, "quantities": list(QUANTITIES)}
    specs = [parse(s.resolved() | {"probe": probe}) for s in specs]
    tables = [lab.table(specs[0])] * len(specs)
    device = torch.device("cuda")
    mlp = build_mlp(specs, tables).to(device)
    pack = build_pack(specs, tables, mlp, device)
    # An epoch's order and coefficients come from the host before its steps.
    pack.train_epoch(0)
    batches, steps = pack.data.epoch(0), Steps(torch.empty(0), [], [])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for i, batch in enumerate(batches):
            pack._step(i, batch, None, steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps.probe_QKL) == len(batches)
    assert torch.stack(steps.probe_QKL)[:, 0].isfinite().all()
