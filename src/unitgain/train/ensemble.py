"""A sweep's members as one ensemble: chosen and calibrated on validation rows, judged on test rows.

Shapes: K members, M candidates, N rows, R resamples, C classes, T targets.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unitgain.errors import ConfigError
from unitgain.nn.ensemble import Ensemble, tempered
from unitgain.pack.metrics import higher_is_better
from unitgain.runs import atomic_write
from unitgain.shift.calibration import Calibrator
from unitgain.spec import RunSpec
from unitgain.stats.intervals import Interval
from unitgain.train.ensemble_members import Members, Rows
from unitgain.train.scores import Scores

RESAMPLES = 1000
BAGS = 20
_NUMBERS = 2**22
"""Predictions that are scored at a time."""

Score = Callable[[Tensor], Tensor]


def select(
    prediction_KN: Tensor,
    score: Score,
    rng: np.random.Generator,
    *,
    size: int = 25,
    bags: int = BAGS,
) -> NDArray[np.float64]:
    r"""Weights of members by greedy forward selection with replacement, averaged over bags of members.

    From a random half of the members, the one is added, again and again, with which the mean prediction scores best;
    what is kept is the best of the ensembles on the way, however small. The average over bags keeps the choice from
    fitting the rows that it is made on. Where it scores worse than the best member alone, which many bags may lack, the
    choice is made once, from all members: it begins with the best, so that it never scores worse.

    Args:
        prediction_KN: (K, N, C) probabilities or (K, N, T) predictions.
        score: of candidates (M, N, ...), (M,): less is better.
        rng: of the bags.
        size: the largest number of additions.
        bags: their number; one has all members.

    Returns:
        (K,) weights, their sum one.

    Example:
        >>> half = torch.tensor([[[0.0]], [[2.0]], [[9.0]]])
        >>> select(half, lambda p: (p - 1).square().mean((1, 2)), np.random.default_rng(0), bags=1)
        array([0.5, 0.5, 0. ])

    Reference:
        Caruana, Niculescu-Mizil, Crew and Ksikes (2004), doi 10.1145/1015330.1015432, sections 2.1 to 2.3.
    """
    members = len(prediction_KN)
    weight_K = np.zeros(members)
    for _ in range(bags):
        bag = np.arange(members)
        if bags > 1:
            bag = np.sort(rng.permutation(members)[: -(-members // 2)])
        picks = _greedy(prediction_KN[torch.from_numpy(bag)], score, size)
        np.add.at(weight_K, bag[picks], 1 / (len(picks) * bags))
    if bags > 1 and float(score(_mixed(prediction_KN, weight_K)[None])) > float(
        score(prediction_KN).min()
    ):
        return select(prediction_KN, score, rng, size=size, bags=1)
    return weight_K


def _greedy(prediction_KN: Tensor, score: Score, size: int) -> list[int]:
    """The members of the best ensemble on the way to ``size`` additions."""
    total_N = torch.zeros_like(prediction_KN[0])
    picks: list[int] = []
    best, kept = np.inf, 1
    for count in range(1, size + 1):
        value_K = score((total_N + prediction_KN) / count)
        pick = int(value_K.argmin())
        picks.append(pick)
        total_N += prediction_KN[pick]
        # Rounding alone is no improvement: without the slack copies of one member would go on.
        if float(value_K[pick]) < best - 1e-12 * max(abs(best) if np.isfinite(best) else 0.0, 1.0):
            best, kept = float(value_K[pick]), count
    return picks[:kept]


@final
class Judge:
    """Losses and metrics of mean predictions, many at once.

    The loss is that of the mean prediction: the log loss, or the mean squared error of scaled targets.

    Args:
        spec: of any member.
        members: whose table it is.
    """

    def __init__(self, spec: RunSpec, members: Members) -> None:
        self._scores = Scores(spec)
        self._classes = spec.data.task == "classification"
        self._mean_T = torch.from_numpy(members.table.y_mean)
        self._scale_T = torch.from_numpy(members.table.y_scale)
        self.names = ("loss", *self._scores.metrics)

    def higher(self, name: str) -> bool:
        """Whether more of a metric is better.

        Raises:
            ConfigError: it is one of the user's own that doesn't say.
        """
        if name == "loss":
            return False
        metric = self._scores.metrics[name]
        return higher_is_better(metric.func if isinstance(metric, partial) else metric)

    def __call__(self, name: str, prediction_MN: Tensor, rows: Rows) -> Tensor:
        """The loss or a metric, (M,), of predictions (M, N, ...) of all rows."""
        index_MN = torch.arange(len(rows.target_N)).expand(len(prediction_MN), -1)
        return self.at(name, prediction_MN, rows, index_MN)

    def at(self, name: str, prediction_MN: Tensor, rows: Rows, index_MN: Tensor) -> Tensor:
        """The same of predictions of the rows ``index_MN``."""
        target_MN = rows.target_N[index_MN]
        if name == "loss":
            weight_MN = rows.weight_N[index_MN]
            return (self._losses(prediction_MN, target_MN) * weight_MN).sum(1) / weight_MN.sum(1)
        if not self._classes:
            prediction_MN = prediction_MN * self._scale_T + self._mean_T
            target_MN = target_MN * self._scale_T + self._mean_T
        weight = None if rows.importance_N is None else rows.importance_N[index_MN]
        return self._scores.value(name, prediction_MN, target_MN, weight).double()

    def resampled(
        self, name: str, prediction_N: Tensor, rows: Rows, index_RN: Tensor
    ) -> NDArray[np.float64]:
        """The same of one prediction on each resample of the rows, (R,)."""
        step = max(1, _NUMBERS // prediction_N.numel())
        parts = [
            self.at(name, prediction_N[index], rows, index) for index in torch.split(index_RN, step)
        ]
        return torch.cat(parts).numpy()

    def _losses(self, prediction_MN: Tensor, target_MN: Tensor) -> Tensor:
        if not self._classes:
            return (prediction_MN - target_MN).square().mean(-1)
        own_MN = prediction_MN.gather(-1, target_MN.unsqueeze(-1)).squeeze(-1)
        return -own_MN.clamp(min=torch.finfo(own_MN.dtype).eps).log()


@final
@dataclass(frozen=True)
class Verdict:
    """A metric of test rows, with percentile intervals over resampled rows.

    Attributes:
        best: of the best single run.
        ensemble: of the ensemble.
        difference: ensemble minus best run, on the same rows.
    """

    best: Interval
    ensemble: Interval
    difference: Interval


@final
@dataclass(frozen=True, eq=False)
class Found:
    """An ensemble of a sweep's members.

    Attributes:
        members: that it was chosen from.
        metric: of validation rows that it was chosen by.
        weight_K: of each member, zero for those left out.
        best: the run with the best validation metric.
        validation: that metric, of the best run and of the ensemble.
        temperature: of the ensemble's probabilities; 1 for regression, where rows have weights, and where every
            validation row is right, which tells nothing of it.
        best_temperature: of the best run's, in ``test`` alone.
        test: metrics of test rows.
        level: of their intervals.
    """

    members: Members
    metric: str
    weight_K: NDArray[np.float64]
    best: int
    validation: tuple[float, float]
    temperature: float
    best_temperature: float
    test: Mapping[str, Verdict]
    level: float

    def module(self) -> Ensemble:
        """The ensemble as one module of torch, in evaluation mode, on the CPU."""
        chosen = np.flatnonzero(self.weight_K)
        table = self.members.table
        return Ensemble(
            [self.members.network(int(k)) for k in chosen],
            self.weight_K[chosen].tolist(),
            classes=table.task == "classification",
            temperature=self.temperature,
            mean=table.y_mean.tolist() or (0.0,),
            scale=table.y_scale.tolist() or (1.0,),
        ).eval()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ensemble.json."""
        table, names = self.members.table, [path.name for path in self.members.directories]
        return {
            "metric": f"val/{self.metric}",
            "runs": len(names),
            "members": [
                {"run": names[k], "weight": float(self.weight_K[k])}
                for k in np.argsort(-self.weight_K, kind="stable")
                if self.weight_K[k]
            ],
            "best_run": names[self.best],
            "validation": {"best_run": self.validation[0], "ensemble": self.validation[1]},
            "temperature": self.temperature,
            "best_run_temperature": self.best_temperature,
            "level": self.level,
            "test": {
                name: {
                    key: [each.value, each.low, each.high]
                    for key, each in (
                        ("best_run", verdict.best),
                        ("ensemble", verdict.ensemble),
                        ("difference", verdict.difference),
                    )
                }
                for name, verdict in self.test.items()
            },
            "data_fingerprint": table.fingerprint,
            "features": list(table.feature_names),
            "outputs": list(table.class_names or table.target_names),
        }


def ensemble_of(
    members: Members,
    rng: np.random.Generator,
    *,
    metric: str = "loss",
    size: int = 25,
    bags: int = BAGS,
    level: float = 0.95,
) -> Found:
    """Choose, calibrate and judge an ensemble.

    Args:
        members: to choose from.
        rng: of bags and resampled rows.
        metric: of validation rows to choose by: ``loss`` or one of the runs' metrics.
        size: the largest number of additions.
        bags: of members.
        level: of intervals.

    Raises:
        ConfigError: a metric that the runs don't have.
    """
    judge = Judge(members.specs[0], members)
    if metric not in judge.names:
        raise ConfigError(
            f"--metric: must be one of {', '.join(f'val/{name}' for name in judge.names)}, got val/{metric}"
        )
    sign = -1.0 if judge.higher(metric) else 1.0
    val, test = members.rows["val"], members.rows["test"]
    with torch.no_grad():
        scored = _in_parts(judge, metric, val)
        value_K = sign * scored(val.prediction_KN)
        best = int(value_K.argmin())
        weight_K = select(
            val.prediction_KN, lambda each: sign * scored(each), rng, size=size, bags=bags
        )
        mixed = {part: _mixed(rows.prediction_KN, weight_K) for part, rows in members.rows.items()}
        validation = float(sign * value_K[best]), float(judge(metric, mixed["val"][None], val))
        own, temperature = (
            _temperature(each, members) for each in (val.prediction_KN[best], mixed["val"])
        )
        single_N = tempered(test.prediction_KN[best], own)
        verdicts = _judged(judge, test, single_N, tempered(mixed["test"], temperature), rng, level)
    return Found(members, metric, weight_K, best, validation, temperature, own, verdicts, level)


def _in_parts(judge: Judge, metric: str, rows: Rows) -> Score:
    """The metric of many candidates, some at a time."""
    step = max(1, _NUMBERS // rows.prediction_KN[0].numel())
    return lambda each: torch.cat([judge(metric, part, rows) for part in torch.split(each, step)])


def _mixed(prediction_KN: Tensor, weight_K: NDArray[np.float64]) -> Tensor:
    return torch.einsum("k,kn...->n...", torch.from_numpy(weight_K), prediction_KN)


def _temperature(prediction_NC: Tensor, members: Members) -> float:
    """Of the least log loss; 1 where every row is right, since that loss then falls with it for ever."""
    val = members.rows["val"]
    if members.table.task != "classification" or val.importance_N is not None:
        return 1.0
    if bool((prediction_NC.argmax(1) == val.target_N).all()):
        return 1.0
    with torch.enable_grad():
        return Calibrator(bias=False).fit(prediction_NC, val.target_N).temperature


def _judged(
    judge: Judge,
    rows: Rows,
    best_N: Tensor,
    ensemble_N: Tensor,
    rng: np.random.Generator,
    level: float,
) -> dict[str, Verdict]:
    """Each metric of both on the test rows, and on the same resamples of them."""
    count = len(rows.target_N)
    index_RN = torch.from_numpy(rng.integers(0, count, (RESAMPLES, count)))
    both = (best_N, ensemble_N)
    found = {}
    for name in judge.names:
        one, two = (judge.resampled(name, each, rows, index_RN) for each in both)
        value_one, value_two = (float(judge(name, each[None], rows)) for each in both)
        found[name] = Verdict(
            _percentiles(value_one, one, level),
            _percentiles(value_two, two, level),
            _percentiles(value_two - value_one, two - one, level),
        )
    return found


def _percentiles(value: float, value_R: NDArray[np.float64], level: float) -> Interval:
    low, high = np.nanquantile(value_R, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def save(found: Found, folder: Path) -> tuple[Path, Path]:
    """Leave the ensemble in a folder: ensemble.pt2, which ``torch.export.load`` reads, and ensemble.json.

    Args:
        found: the ensemble.
        folder: made if it isn't there.

    Returns:
        The paths of both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = found.module()
    dtype = next(module.members.parameters()).dtype
    example = torch.from_numpy(found.members.table.x[:2]).to(dtype)
    rows = torch.export.Dim("rows", min=2)
    with torch.no_grad():
        program = torch.export.export(module, (example,), dynamic_shapes=({0: rows},))
    program_path, json_path = folder / "ensemble.pt2", folder / "ensemble.json"
    torch.export.save(program, program_path)
    text = json.dumps(_finite(found.as_dict()), indent=2, allow_nan=False)
    atomic_write(json_path, text.encode() + b"\n")
    return program_path, json_path


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
