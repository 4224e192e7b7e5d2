"""The finished runs of a sweep, and what each predicts of the rows that they share.

Shapes: K members, N rows of a part, C classes, T targets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from unitgain.data import Prepared
from unitgain.errors import CheckpointError, DataError
from unitgain.nn.losses import probabilities
from unitgain.pack.shape import signature
from unitgain.runs import RunDirectory, read_runs
from unitgain.spec import RunSpec, parse
from unitgain.train.checkpoint import check_belongs, read_checkpoint
from unitgain.train.module import PackedDataModule, PackedModule
from unitgain.train.settings import accelerator, process_settings

Part = Literal["val", "test"]
PARTS: tuple[Part, Part] = ("val", "test")
_TOGETHER = 64
"""Members that predict at a time."""


@final
@dataclass(frozen=True)
class Rows:
    """A part of the data, and what members make of it.

    Attributes:
        prediction_KN: (K, N, C) probabilities, or (K, N, T) predictions of scaled targets, float64.
        target_N: (N,) classes or (N, T) scaled targets.
        weight_N: what a row counts in the loss.
        importance_N: what it counts in metrics; None where rows have no importance.
    """

    prediction_KN: Tensor
    target_N: Tensor
    weight_N: Tensor
    importance_N: Tensor | None


@final
@dataclass(frozen=True, eq=False)
class Members:
    """Runs on the same data and split.

    Attributes:
        directories: of the K runs.
        specs: their configurations.
        table: that they share.
        rows: of validation and test.
        left_out: runs that aren't finished, and so are no members.
    """

    directories: Sequence[Path]
    specs: Sequence[RunSpec]
    table: Prepared
    rows: Mapping[Part, Rows]
    left_out: int

    def network(self, k: int) -> nn.Sequential:
        """Member k as torch's modules, on the CPU."""
        with process_settings(self.specs[k]):
            module = _restored([self.directories[k]], [self.specs[k]], [self.table])
            return module.mlp.unpack(0).cpu()


def read_members(folder: Path) -> Members:
    """Read a sweep's finished runs, and have each predict the rows of validation and test.

    Args:
        folder: with run directories in it.

    Raises:
        ConfigError: there is no such folder, or runs were on a GPU and none is there.
        DataError: fewer than two finished runs, or runs that don't share data and split.
        CheckpointError: a best.ckpt is missing, damaged or another configuration's.
    """
    frame = read_runs([folder]).frame
    finished = frame[frame["status"] == "finished"]
    directories = [Path(run) for run in finished["run"]]
    if len(directories) < 2:
        raise DataError(
            f"{folder}: must hold two finished runs or more, but holds {len(directories)}; train a sweep with -m"
        )
    specs = [parse(RunDirectory(path).read_config()) for path in directories]
    tables = PackedDataModule(specs).tables
    for path, table in zip(directories, tables, strict=True):
        _check_shared(directories[0], tables[0], path, table)
    _check_unchanged(directories[0], tables[0])
    predictions: dict[Part, list[Tensor | None]] = {part: [None] * len(specs) for part in PARTS}
    for group in _packs(specs):
        chosen = [specs[k] for k in group]
        with process_settings(chosen[0]), torch.no_grad():
            module = _restored([directories[k] for k in group], chosen, [tables[0]] * len(group))
            for part in PARTS:
                predicted = _predicted(module, part)
                for k, each in zip(group, predicted, strict=True):
                    predictions[part][k] = each
    rows = {
        part: _rows(tables[0], part, [each for each in found if each is not None])
        for part, found in predictions.items()
    }
    return Members(directories, specs, tables[0], rows, len(frame) - len(directories))


def _check_shared(first: Path, table: Prepared, path: Path, other: Prepared) -> None:
    """Refuse a run on other rows than the first one's.

    Raises:
        DataError: its data, split, shift, encoding or weights differ.
    """
    if other is table:
        return
    key = None
    if other.fingerprint != table.fingerprint or other.task != table.task:
        key = "data"
    elif any(
        not np.array_equal(mine, own)
        for mine, own in zip(table.split.parts(), other.split.parts(), strict=True)
    ):
        key = "split, split.seed and shift"
    elif not (np.array_equal(table.x, other.x) and np.array_equal(table.y, other.y)):
        key = "shift, data.scale and data.impute"
    elif not np.array_equal(table.eval_weight, other.eval_weight):
        key = "weighting"
    if key is not None:
        raise DataError(
            f"{key}: must be the same for all members of an ensemble, but {path.name} has another than {first.name}; "
            "sweep over other keys, or give a folder with the runs that share it"
        )


def _check_unchanged(path: Path, table: Prepared) -> None:
    """Refuse data that changed since it was trained on.

    Raises:
        DataError: so it did.
    """
    recorded = RunDirectory(path).read_environment().get("data_fingerprint")
    if recorded not in (None, table.fingerprint):
        raise DataError(
            f"data: must be what {path.name} was trained on, but has changed since; restore it, or train the runs again"
        )


def _packs(specs: Sequence[RunSpec]) -> Iterator[list[int]]:
    """Runs that predict together: of one shape, and not too many."""
    by_shape: dict[str, list[int]] = {}
    for k, spec in enumerate(specs):
        by_shape.setdefault(repr(signature(spec)), []).append(k)
    for group in by_shape.values():
        for start in range(0, len(group), _TOGETHER):
            yield group[start : start + _TOGETHER]


def _restored(
    directories: Sequence[Path], specs: Sequence[RunSpec], tables: Sequence[Prepared]
) -> PackedModule:
    """A pack of runs as of their best checkpoints."""
    module = PackedModule(specs, tables)
    module.resumed = True
    module.to("cuda" if accelerator(specs[0]) == "gpu" else "cpu")
    for k, (path, spec) in enumerate(zip(directories, specs, strict=True)):
        place = RunDirectory(path).best_checkpoint
        content = read_checkpoint(place)
        check_belongs(content, spec, place)
        module.pack.mlp.load_member_state(k, content["state_dict"])
    return module


def _predicted(module: PackedModule, part: Part) -> Tensor:
    """Probabilities or scaled predictions (K, N, ...) of a part, float64 on the CPU.

    Raises:
        CheckpointError: some aren't finite.
    """
    spec = module.specs[0]
    output = module.pack.predict(part, spec.trainer.eval_batch_size).output_KNT.double().cpu()
    if not bool(output.isfinite().all()):
        raise CheckpointError(
            f"best.ckpt: must give finite predictions of {part} rows, but one doesn't; "
            "train the run again"
        )
    return probabilities(output) if spec.data.task == "classification" else output


def _rows(table: Prepared, part: Part, predictions: Sequence[Tensor]) -> Rows:
    index = getattr(table.split, part)
    weight_N = torch.from_numpy(table.eval_weight[index]).double()
    return Rows(
        prediction_KN=torch.stack(list(predictions)),
        target_N=torch.from_numpy(np.asarray(table.y[index])),
        weight_N=weight_N,
        importance_N=None if table.importance is None else weight_N,
    )
