"""A configured run at its first step: what a forward and a backward pass say of it, and which changes heal it.

Shapes: K seeds, L layers (the output layer last), Q quantities, B examples, D features.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unitgain.data import Prepared, open_data
from unitgain.forecast import Remedy, remedies
from unitgain.pack.build import build_mlp, build_pack
from unitgain.probe import Verdict
from unitgain.probe.sharpness import sharpness
from unitgain.probe.spectrum import singular_values
from unitgain.spec import Probe, RunSpec
from unitgain.train.diagnosis import (
    FAULTLESS,
    OF_ONE_STEP,
    Diagnosis,
    Measured,
    Predicted,
    Proposal,
)
from unitgain.train.outlook import Outlook
from unitgain.train.settings import process_settings
from unitgain.train.trial import try_parts

_FIRST_CHANGES = 4
"""Changes that don't heal alone and are tried together with another."""

_EXAMPLES = 8


def diagnose_run(spec: RunSpec, seeds: int = 3, *, sharp: bool = False) -> Diagnosis:
    """Measure a configured run at the first step of its training, and what theory says would heal it.

    Args:
        spec: of the run.
        seeds: how many: its own and those that follow.
        sharp: take the sharpness, too.

    Raises:
        ConfigError: a component that can't be used.
        DataError: a table that can't be used.
    """
    bench = Bench.of(spec, seeds)
    forecast = bench.outlook(spec).forecast
    measured, verdict = bench.judged(spec)
    proposals = bench.proposals(spec) if verdict.label not in FAULTLESS else []
    gains, curvature = _of_unpacked(spec, bench.table, sharp=sharp)
    return Diagnosis(
        forecast.name,
        _facts(spec, bench.table, seeds),
        measured,
        verdict,
        Predicted.of(forecast),
        tuple(sorted(proposals, key=lambda each: not each.heals)),
        gains,
        curvature,
    )


@final
@dataclass(frozen=True)
class Bench:
    """What a run and its changes are measured with.

    Args:
        table: of the run; no change touches it.
        seeds: how many.
        q_0: the mean square of the inputs.
    """

    table: Prepared
    seeds: int
    q_0: float

    @classmethod
    def of(cls, spec: RunSpec, seeds: int) -> "Bench":
        """That of a run."""
        table = open_data(spec)
        x_ND = table.x[table.split.train]
        return cls(table, seeds, float(np.mean(np.square(x_ND, dtype=np.float64))))

    @property
    def outputs(self) -> int:
        """Of the network."""
        table = self.table
        return table.n_classes if table.task == "classification" else table.n_outputs

    def outlook(self, spec: RunSpec) -> Outlook:
        """What theory says of a run on this table."""
        return Outlook(spec, self.table.n_features, self.outputs, self.q_0)

    def judged(self, spec: RunSpec) -> tuple[Measured, Verdict]:
        """What a run is, and the verdict on it."""
        measured = measure_run(spec, self.table, self.seeds)
        return measured, measured.verdict(self.outlook(spec).expected)

    def proposals(self, spec: RunSpec) -> list[Proposal]:
        """What theory says heals the gradient of a run, each tried; if none does, two changes at a time."""
        single = [self._tried(remedy) for remedy in self._remedies(spec)]
        # Fewer layers are another network: they come last.
        kept = [each for each in single if not _shortens(each.steps)]
        if any(each.heals for each in kept):
            return single
        double = []
        for first in kept[:_FIRST_CHANGES]:
            assert first.spec is not None
            for remedy in self._remedies(first.spec):
                if _shortens(remedy.overrides):
                    continue
                both = self._tried(remedy)
                steps = merged(first.steps, both.steps)
                text = both.text if steps == both.steps else f"{first.text}, and {both.text}"
                double.append(replace(both, text=text, steps=steps))
                if both.heals:
                    break
        healing = [each for each in double if each.heals]
        return sorted(healing, key=lambda each: -each.verdict.confidence) + single

    def _remedies(self, spec: RunSpec) -> list[Remedy]:
        return remedies(spec, inputs=self.table.n_features, outputs=self.outputs, q_0=self.q_0)

    def _tried(self, remedy: Remedy) -> Proposal:
        measured, verdict = self.judged(remedy.spec)
        return Proposal(remedy.text, remedy.overrides, remedy.slope, measured, verdict, remedy.spec)


def _shortens(steps: Sequence[str]) -> bool:
    return any(text.startswith("model.depth=") for text in steps)


def merged(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """Overrides, one after the other: a choice of the second makes what the first sets below it void.

    Example:
        >>> merged(["init=mean_field", "init.sigma_w=4", "model.depth=30"], ["init=critical", "seed=1"])
        ('model.depth=30', 'init=critical', 'seed=1')
    """
    keys = [text.partition("=")[0] for text in second]

    def void(text: str) -> bool:
        key = text.lstrip("+~").partition("=")[0]
        return any(key == new or key.startswith(f"{new}.") for new in keys)

    return (*(text for text in first if not void(text)), *second)


def measure_run(spec: RunSpec, table: Prepared, seeds: int) -> Measured:
    """What the first step of a run gives, for some seeds as one pack.

    Args:
        spec: of the run.
        table: its data.
        seeds: its own and those that follow.
    """
    specs = [_measuring(spec, k) for k in range(seeds)]
    tables = [table] * seeds
    with process_settings(spec):
        mlp = build_mlp(specs, tables)
        try_parts(specs[0], table, mlp)
        steps = build_pack(specs, tables, mlp, torch.device("cpu")).train_epoch(0, most=1)
    assert steps is not None
    value_KQL = steps.probe_QKL[0].transpose(0, 1).double().numpy()
    names = [*map(str, range(1, mlp.depth + 1)), "out"]
    return Measured.of(value_KQL, OF_ONE_STEP, names, float(steps.loss_SK[0].double().mean()))


def _measuring(spec: RunSpec, k: int) -> RunSpec:
    probe = Probe(every=1, quantities=OF_ONE_STEP)
    return spec.model_copy(update={"probe": probe, "seed": spec.seed + k})


def _of_unpacked(
    spec: RunSpec, table: Prepared, *, sharp: bool
) -> tuple[tuple[float, float], float | None]:
    """Jacobian and sharpness of the run's own seed, as an ordinary module on its first batch."""
    one = [_measuring(spec, 0)]
    with process_settings(spec):
        mlp = build_mlp(one, [table])
        pack = build_pack(one, [table], mlp, torch.device("cpu"))
        batch = pack.data.epoch(0)[0]
        x_KBD, target = pack.data.gather(batch.index)
        x_BD = x_KBD[0, : batch.rows]
        module = as_trained(mlp.unpack(0), lambda m: m(x_BD))
        gains = gains_of(module, x_BD)
        if not sharp:
            return gains, None

        def loss(_: object) -> Tensor:
            return (pack.loss(module(x_KBD[0]).unsqueeze(0), target) * batch.weight).sum()

        return gains, sharpness(loss, module.parameters(), [None]).eigenvalue


def as_trained(module: nn.Module, run: Callable[[nn.Module], object]) -> nn.Module:
    """The module with dropout off and batch norms held at the statistics of a batch, so that examples are apart.

    Args:
        module: is changed.
        run: a forward pass on the batch.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    if norms:
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        run(module)
    return module.eval()


def gains_of(function: nn.Module, x: Tensor) -> tuple[float, float]:
    """The largest and the smallest singular value of the Jacobian, the median of the first examples."""
    double = copy.deepcopy(function).double()
    values = singular_values(double, x[:_EXAMPLES].double()).values
    return float(values[:, 0].median()), float(values[:, -1].median())


def _facts(spec: RunSpec, table: Prepared, seeds: int) -> str:
    widths = spec.model.widths
    width = f"{widths[0]}" if len(set(widths)) == 1 else f"{min(widths)} to {max(widths)}"
    rows = min(spec.data.batch_size, len(table.split.train))
    source = spec.data.target.rpartition(".")[2]
    runs = f"{seeds} seeds" if seeds > 1 else "one seed"
    return f"{len(widths)} hidden layers of {width}, a batch of {rows} from {source}, {runs}"
