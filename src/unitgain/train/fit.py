"""Training runs of one shape as one pack, and what each of them leaves."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from unitgain.data import Table
from unitgain.errors import CheckpointError, ConfigError
from unitgain.runs import EndingSignals, RunDirectory, environment, newest_usable, previous_of
from unitgain.spec import RunSpec, instantiate
from unitgain.train.checkpoint import check_belongs, unpack_member
from unitgain.train.crew import crew_of
from unitgain.train.exponent import settle
from unitgain.train.follower import Start
from unitgain.train.member import Member
from unitgain.train.module import PackedDataModule, PackedModule
from unitgain.train.outlook import outlooks_of
from unitgain.train.progress import EpochProgress
from unitgain.train.recorder import Recorder
from unitgain.train.settings import accelerator, process_settings
from unitgain.train.trainer import Asked, Together, start_at, trainer_of
from unitgain.train.watch import RunResult, Watch


def fit(
    specs: Sequence[RunSpec],
    directories: Sequence[Path],
    *,
    overrides: Sequence[Sequence[str]] | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    loaded: dict[str, Table] | None = None,
) -> list[RunResult]:
    """Train runs of one shape as one pack.

    Args:
        specs: one a run; a single run is a pack of one.
        directories: one a run.
        overrides: what the user typed, a list a run.
        resume: go on from each directory's last checkpoint; where none has one, afresh.
        watch: follows the fit and may stop it.
        loaded: tables that need not be loaded again, see `unitgain.data.open_data`.

    Raises:
        ConfigError: runs that can't be one pack, a directory that holds a run already, or a component that can't be
            used.
        DataError: a table that can't be used.
        CheckpointError: nothing to resume from that is whole and belongs to the run.
    """
    spec = specs[0]
    place = accelerator(spec)
    if not resume:
        _check_unused(directories)
    with process_settings(spec), EndingSignals() as signals, crew_of(specs) as crew:
        asked = Asked(signals, crew, watch)
        datamodule = PackedDataModule(specs, loaded)
        runs = [RunDirectory(Path(d)) for d in directories]
        contents = _contents(specs, runs) if resume else None
        module = PackedModule(specs, datamodule.tables, asked.stop, crew.share)
        # Only now: a mistake elsewhere costs no cross-validation.
        module.tables = settle(specs, datamodule.tables, contents)
        overrides = overrides or [_typed_before(run) if resume else () for run in runs]
        trainer = trainer_of(spec, place, crew, runs[0].path)
        crew.all_ready()
        _open_directories(specs, runs, overrides, module, trainer, crew.size)
        outlooks = outlooks_of(specs, module.tables)
        members = [
            Member(
                k,
                specs[k],
                run,
                overrides[k],
                contents[k] if contents else None,
                outlooks[k],
                table.importance and table.importance.chosen,
            )
            for k, (run, table) in enumerate(zip(runs, module.tables, strict=True))
        ]
        recorder = Recorder(spec, members, contents, watch, lambda: asked.signal)
        module.resumed = contents is not None
        _attach(trainer, spec, [asked, recorder], Together(crew))
        start = _start_of(contents, module)
        start_at(trainer, start.epoch, start.step)
        crew.word(start)
        try:
            with warnings.catch_warnings():
                # Lightning asks whether Slurm is there, though it has been told that it isn't.
                warnings.filterwarnings("ignore", "The `srun` command is available")
                trainer.fit(module, datamodule=datamodule)
        finally:
            recorder.close()
        return [recorder.results[k] for k in range(len(specs))]


def _check_unused(directories: Sequence[Path]) -> None:
    """Refuse to train over a run: what it computed would be lost."""
    used = [run for run in map(RunDirectory, map(Path, directories)) if run.config.exists()]
    if used:
        raise ConfigError(
            *(
                f"hydra.run.dir: must be a directory without a run, but {run.path} holds one ({run.status}); "
                f"go on with it by unitgain resume {run.path}, or choose another directory"
                for run in used
            )
        )


def _typed_before(run: RunDirectory) -> Sequence[str]:
    """The overrides that a run was started with."""
    return run.read_overrides() if run.overrides.exists() else ()


def _attach(
    trainer: pl.Trainer, spec: RunSpec, first: Sequence[pl.Callback], last: pl.Callback
) -> None:
    callbacks = list(first)
    if spec.trainer.progress:
        callbacks.append(EpochProgress(spec.monitor))
    for name, node in spec.callbacks.extra.items():
        callback = instantiate(node, _key_=f"callbacks.extra.{name}")
        if not isinstance(callback, pl.Callback):
            raise ConfigError(
                f"callbacks.extra.{name}: must be a lightning.pytorch.Callback, got {node.target}"
            )
        callbacks.append(callback)
    trainer.callbacks.extend([*callbacks, last])  # type: ignore[attr-defined]


def _start_of(contents: Sequence[Mapping[str, Any]] | None, module: PackedModule) -> Start:
    """Where the runs begin, which is one epoch for all of a pack."""
    importance = module.tables[0].importance
    chosen = importance and importance.chosen
    starts = {content["epoch"] for content in contents or ()}
    if len(starts) > 1:
        raise CheckpointError(
            f"members of one pack must resume at one epoch, got {sorted(starts)}; resume them one by one"
        )
    step = contents[0]["step"] if contents else 0
    return Start(starts.pop() if starts else 0, step, chosen)


def _open_directories(
    specs: Sequence[RunSpec],
    runs: Sequence[RunDirectory],
    overrides: Sequence[Sequence[str]],
    module: PackedModule,
    trainer: pl.Trainer,
    processes: int,
) -> None:
    """Write what is known before the first step; the disk is asked to keep it with the first checkpoint."""
    device = trainer.strategy.root_device
    facts: dict[str, Any] = {"isa": torch.backends.cpu.get_cpu_capability()}
    if processes > 1:
        facts["processes"] = processes
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
    found = environment(device.type, specs[0].trainer.threads, "", facts)
    for k, (spec, run) in enumerate(zip(specs, runs, strict=True)):
        run.create()
        run.remove_summary()
        quick = replace(run, durable=False)
        quick.write_config(spec.resolved())
        quick.write_overrides(list(overrides[k]))
        fingerprint = module.tables[k].fingerprint
        quick.write_environment(found | {"data_fingerprint": fingerprint})


def _contents(
    specs: Sequence[RunSpec], runs: Sequence[RunDirectory]
) -> list[dict[str, Any]] | None:
    """The checkpoints to go on from; None where no run has one yet."""
    last = [run.last_checkpoint for run in runs]
    if not any(path.exists() or previous_of(path).exists() for path in last):
        warnings.warn(
            "no checkpoint was written before the run ended; it starts afresh", stacklevel=3
        )
        return None
    contents = []
    for spec, run in zip(specs, runs, strict=True):
        checkpoint = newest_usable(run)
        for line in checkpoint.warnings:
            warnings.warn(line, stacklevel=3)
        content = unpack_member(checkpoint.payload, checkpoint.path)
        check_belongs(content, spec, checkpoint.path)
        contents.append(content)
    return contents
