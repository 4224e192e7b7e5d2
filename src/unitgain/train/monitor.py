"""Watching what a trained run is given: is the stream still what it was validated on?

Shapes: B rows of a batch, D features, S scores.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from unitgain.data import Prepared
from unitgain.data.streams import encode_batch
from unitgain.errors import DataError
from unitgain.nn.losses import probabilities
from unitgain.shift import SequentialTest, StreamScores, effects
from unitgain.train.evaluate import opened

if TYPE_CHECKING:
    import pandas as pd

WINDOW = 200
"""Latest rows whose effect sizes are reported."""
_POINTS = 1000


@final
class RunMonitor:
    """A sequential test of a stream against a run's validation rows.

    Scores are those of `StreamScores`, fitted on the training rows, and what the best checkpoint
    says: the largest class probability, or the predictions.

    Args:
        directory: of the run.
        alpha: the false-alarm rate over the whole stream.
        seed: of what breaks ties.

    Raises:
        ConfigError: alpha isn't in (0, 1), or the run was on a GPU and none is there.
        CheckpointError: best.ckpt is missing, damaged or another configuration's.
        DataError: the data can't be read again.
    """

    def __init__(self, directory: Path, *, alpha: float = 0.05, seed: int = 0) -> None:
        with opened(directory) as (spec, module):
            self._table: Prepared = module.tables[0]
            self._network = module.mlp.unpack(0).cpu()
            self._dtype = module.mlp.theta.dtype
        table = self._table
        self._alpha, self._seed, self._task = alpha, seed, spec.data.task
        self._scores = StreamScores.fit(table.x[table.split.train])
        self._reference_NS = self._scored(table.x[table.split.val])
        self.test = SequentialTest(self._reference_NS, np.random.default_rng(seed), alpha=alpha)
        self._window_MS = self._reference_NS[:0]
        self._evidence: list[NDArray[np.float64]] = []
        self.unknown = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The raw columns that a stream must have."""
        encoder = self._table.encoder
        return (*encoder.numeric, *(category.name for category in encoder.categories))

    def update(self, name: str, frame: "pd.DataFrame") -> None:
        """Take the next rows.

        Args:
            name: what messages call the stream.
            frame: with `columns`, in the units of the run's table.

        Raises:
            DataError: cells that can't be encoded.
        """
        x_BD, unknown = encode_batch(name, frame, self._table.encoder, self.test.rows + 1)
        scores_BS = self._scored(x_BD)
        self._evidence.append(self.test.update(scores_BS))
        self._window_MS = np.concatenate([self._window_MS, scores_BS])[-WINDOW:]
        self.unknown += unknown

    def report(self) -> dict[str, Any]:
        """What was found so far, for ``monitor.json``; logarithms are to base 10.

        Raises:
            DataError: no row has come.
        """
        test = self.test
        if not test.rows:
            raise DataError("stream: must have rows to monitor, it has none; wait for some")
        found = effects(self._names(), self._reference_NS, self._window_MS)
        moved_S = test.moved()
        order = sorted(range(len(found)), key=lambda i: (not moved_S[i], -found[i].distance))
        rows = list(zip(found, self._kinds(), test.log_largest_S, moved_S, strict=True))
        scores = [
            {
                "name": effect.name,
                "kind": kind,
                "moved": bool(moved),
                "log10_martingale": float(log) / math.log(10),
                "difference": effect.difference,
                "distance": effect.distance,
            }
            for effect, kind, log, moved in (rows[i] for i in order)
        ]
        evidence_N = np.concatenate(self._evidence) / math.log(10)
        # The largest of each stretch: a thinned curve that reaches what the evidence reached.
        starts = np.unique(np.linspace(0, test.rows, _POINTS + 1, dtype=np.int64)[:-1])
        return {
            "rows": test.rows,
            "reference_rows": len(self._reference_NS),
            "alpha": self._alpha,
            "seed": self._seed,
            "alarm_row": test.alarm_row,
            "log10_evidence": float(evidence_N[-1]),
            "log10_largest": float(evidence_N.max()),
            "log10_threshold": test.log_threshold / math.log(10),
            "unknown_categories": self.unknown,
            "window": len(self._window_MS),
            "scores": scores,
            "curve": {
                "row": (starts + 1).tolist(),
                "log10_evidence": np.maximum.reduceat(evidence_N, starts).tolist(),
            },
        }

    def _scored(self, x_BD: NDArray[np.float64]) -> NDArray[np.float64]:
        with torch.no_grad():
            output_BT = self._network(torch.from_numpy(x_BD).to(self._dtype)).double()
        if self._task == "classification":
            said = probabilities(output_BT[None])[0].amax(dim=1, keepdim=True).numpy()
        else:
            said = output_BT.numpy() * self._table.y_scale + self._table.y_mean
        return np.concatenate([self._scores(x_BD), said], axis=1)

    def _names(self) -> list[str]:
        features = self._table.feature_names
        targets: tuple[str, ...] = ("confidence",)
        if self._task == "regression":
            targets = tuple(f"prediction of {name}" for name in self._table.target_names)
        return [*features, *features, "all features", *targets]

    def _kinds(self) -> list[str]:
        width = len(self._table.feature_names)
        model = len(self._reference_NS[0]) - 2 * width - 1
        return ["value"] * width + ["distance"] * (width + 1) + ["model"] * model
