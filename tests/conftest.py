"""Small tables, packs of runs on them, and the same runs in torch.nn."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from unitgain.data import Split, prepare, table_from_arrays
from unitgain.data.shifts import NoShift
from unitgain.nn.dropout import keep_mask, mask_keys
from unitgain.pack.build import build_mlp, build_pack
from unitgain.spec import instantiate, parse

CONF = Path(__file__).parents[1] / "conf"
SOURCES = {"classification": "digits", "regression": "diabetes"}


@pytest.fixture
def one_thread():
    """The number of threads that bits are promised for."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _component(group, value):
    """A node of conf/GROUP from an option's name, or (name, {argument: value})."""
    if value is None:
        return {}
    name, changes = (value, {}) if isinstance(value, str) else value
    return yaml.safe_load((CONF / group / f"{name}.yaml").read_text()) | changes


def _spec(
    seed=0,
    *,
    task="classification",
    depth=2,
    width=9,
    bias=True,
    residual=False,
    branch_scale=1.0,
    norm_position="before_activation",
    batch_size=16,
    drop_last=False,
    precision="64",
    epochs=2,
    clip=None,
    l2=0.0,
    every=None,
    debug=None,
    **groups,
):
    """A run's typed configuration; groups take an option's name, or (name, {argument: value})."""
    kinds = {"first_init": "init", "output_init": "init"}
    nodes = {n: _component(kinds.get(n, n), value) for n, value in groups.items()}
    return parse(
        {
            "seed": seed,
            "l2_penalty": l2,
            "model": {
                "_target_": "unitgain.nn.MLP",
                "depth": depth,
                "width": width,
                "bias": bias,
                "residual": residual,
                "branch_scale": branch_scale,
                "norm_position": norm_position,
            },
            "data": {
                "_target_": f"unitgain.data.sources.{SOURCES[task]}",
                "batch_size": batch_size,
                "drop_last": drop_last,
            },
            "trainer": {
                "max_epochs": epochs,
                "precision": precision,
                "gradient_clip_norm": clip,
                "progress": False,
            },
            "probe": {"every": every},
            "debug": debug,
            **nodes,
        }
    )


def _table(
    spec, *, train=42, val=13, test=11, features=5, outputs=3, seed=0, weight=None, split=None
):
    """A prepared table of random rows for a run: the first ``train`` rows train, and so on."""
    rng = np.random.default_rng(seed)
    rows = train + val + test
    x = rng.standard_normal((rows, features))
    signal = x @ rng.standard_normal((features, outputs)) + 0.1 * rng.standard_normal(
        (rows, outputs)
    )
    if spec.data.task == "classification":
        y = (signal - signal.mean(0)).argmax(1)
        names = [f"c{i}" for i in range(outputs)]
        table = table_from_arrays(
            "toy", x, y, task="classification", class_names=names, weight=weight
        )
    else:
        table = table_from_arrays("toy", x, np.sin(signal), task="regression", weight=weight)
    split = split or Split(*np.split(np.arange(rows), [train, train + val]))
    return prepare(NoShift()(table, split), node=spec.data)


def _pack(specs, table=None, **shape):
    """A pack of runs on one table, or on a list of one each; ``shape`` is that of a random table."""
    tables = table if isinstance(table, list) else [table or _table(specs[0], **shape)] * len(specs)
    return build_pack(specs, tables, build_mlp(specs, tables), torch.device("cpu"))


def _history(pack, epochs):
    """All that a pack leaves, each tensor with the members first."""
    steps = [pack.train_epoch(e) for e in range(epochs)]
    left = {"loss": torch.cat([s.loss_SK for s in steps]).T}
    probes = [p for s in steps for p in s.probe_QKL]
    if probes:
        left["probe"] = torch.stack(probes).movedim(2, 0)
    left |= pack.state()
    for part in ("val", "test"):
        prediction = pack.predict(part)
        left |= {f"{part} output": prediction.output_KNT, f"{part} loss": prediction.loss_K}
    left["lr"] = torch.from_numpy(pack.last_lr())
    return left


def _differences(one, k, other, j):
    """The names of what differs by a single bit between member k of one history and j of another."""
    assert one.keys() == other.keys()
    return [
        name
        for name in one
        if not torch.allclose(one[name][k], other[name][j], rtol=0, atol=0, equal_nan=True)
    ]


class _Masked(nn.Module):
    """torch's dropout with the mask of a member's step and layer, written out."""

    def __init__(self, dropout, seed, layer):
        super().__init__()
        self.alpha, self.p = isinstance(dropout, nn.AlphaDropout), dropout.p
        self.seed, self.layer, self.step = seed, layer, 0

    def forward(self, x):
        if not self.training:
            return x
        keys = mask_keys([self.seed], self.step, 1, self.layer + 1)[0, self.layer]
        rate = torch.tensor([self.p], dtype=torch.float64)
        keep = keep_mask(keys, rate, *x.shape)[0]
        if not self.alpha:
            return torch.where(keep, x / (1 - self.p), 0.0)
        low = -1.0507009873554805 * 1.6732632423543772
        a = ((1 - self.p) * (1 + self.p * low**2)) ** -0.5
        return a * torch.where(keep, x, low) - a * self.p * low


def _with_masks(single, seed):
    """Put `_Masked` in the place of each dropout of an unpacked member."""
    layer = 0
    for holder in [m for m in single.modules() if isinstance(m, nn.Sequential)]:
        for name, child in list(holder.named_children()):
            if isinstance(child, nn.Dropout | nn.AlphaDropout):
                setattr(holder, name, _Masked(child, seed, 0))
    for module in single.modules():
        if isinstance(module, _Masked):
            module.layer, layer = layer, layer + 1
    return single


TORCH = {
    "SGD": torch.optim.SGD,
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "RMSprop": torch.optim.RMSprop,
}


def _train_twin(pack, specs, k, epochs):
    """Member k of an untrained pack as a torch.nn module, trained by a plain loop on its batches."""
    spec = specs[k]
    single = _with_masks(pack.mlp.unpack(k), spec.seed).train()
    name = spec.optimizer.target.rpartition(".")[2]
    optimizer = TORCH[name](single.parameters(), **spec.optimizer.arguments())
    weights = [m.weight for m in single.modules() if isinstance(m, nn.Linear)]
    loss_of = F.cross_entropy if spec.data.task == "classification" else F.mse_loss
    step = 0
    for epoch in range(epochs):
        for batch in pack.data.epoch(epoch):
            for module in single.modules():
                if isinstance(module, _Masked):
                    module.step = step
            x, y = (t[k, : batch.rows] for t in pack.data.gather(batch.index))
            penalty = 0.5 * spec.l2_penalty * sum(w.square().sum() for w in weights)
            optimizer.zero_grad()
            (loss_of(single(x), y) + penalty).backward()
            if spec.trainer.gradient_clip_norm:
                nn.utils.clip_grad_norm_(single.parameters(), spec.trainer.gradient_clip_norm)
            optimizer.step()
            step += 1
    return single


@pytest.fixture(scope="session")
def lab():
    """What tests of packs are made with."""
    return SimpleNamespace(
        spec=_spec,
        table=_table,
        pack=_pack,
        history=_history,
        differences=_differences,
        train_twin=_train_twin,
        instantiate=instantiate,
    )
