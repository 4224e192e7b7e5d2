"""``unitgain train -m``: many jobs, one by one or packed, and ``--cfg plan``."""

from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.hydra import Hydra
from hydra.errors import HydraException
from omegaconf import DictConfig

from unitgain.cli._command import Exit, exit_of_interrupt
from unitgain.cli._conf import Groups
from unitgain.cli._elsewhere import Records, gathered
from unitgain.cli._job import Task, worst
from unitgain.cli._patch import Composer
from unitgain.cli._refusals import explained, one_line
from unitgain.cli._show_sweep import show_how_to_go_on, show_sweep
from unitgain.cli._sweep import (
    check_jobs,
    job_overrides,
    multirun,
    planned_epochs,
    shared,
    typed,
)
from unitgain.errors import ConfigError
from unitgain.runs import write_plan

if TYPE_CHECKING:
    from unitgain.cli._batch import BatchSweep

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
PACKED = "hydra_plugins.unitgain.packed.PackedLauncher"
PACKED_SLURM = "hydra_plugins.unitgain.packed_slurm.PackedSlurmLauncher"
SEARCH = "hydra_plugins.unitgain.search.OptunaSweeper"


def run_many(hydra: Hydra, name: str, config: DictConfig, overrides: list[str]) -> int:
    """Check all jobs of a multirun, then run them; the exit status is that of the worst.

    Raises:
        ConfigError: some job can't be, or the multirun itself.
    """
    task, interrupted = trained(hydra, name, config, overrides)
    directory = task.sweep_dir or Path(config.hydra.sweep.dir)
    if task.search is not None:
        from unitgain.cli._show_search import show_search

        found = show_search(task.search, directory)
        if interrupted:
            show_how_to_go_on(directory)
            return task.interrupted_exit
        # That some trials diverge is what a search is for.
        return Exit.FINISHED if found else worst(task.outcomes)
    if task.outcomes:
        show_sweep(task.outcomes, directory, task.total)
    if interrupted:
        show_how_to_go_on(directory)
    return task.interrupted_exit if interrupted else worst(task.outcomes)


def trained(hydra: Hydra, name: str, config: DictConfig, overrides: list[str]) -> tuple[Task, bool]:
    """Check all jobs of a multirun, run them, and give what became of them.

    Returns:
        The task with the jobs' outcomes, and whether the user interrupted it.

    Raises:
        ConfigError: some job can't be, or the multirun itself.
    """
    composer, jobs, names = _checked(hydra, name, config, overrides)
    task = Task(
        total=None if jobs is None else len(jobs),
        shared=shared(jobs or []),
        packed=_packing(config, composer),
    )
    if config.hydra.sweeper["_target_"] == SEARCH:
        from unitgain.cli._search import SearchSweep

        with explained(hydra, name, overrides, multirun=True):
            task.search = SearchSweep.of(hydra, config, composer)
    planned = planned_epochs(composer, jobs, names, config) if jobs else None
    here = task.packed is not None or config.hydra.launcher["_target_"] == BASIC
    interrupted = False

    def begin(sweep: Path) -> None:
        if planned:
            write_plan(sweep, planned)
        if not here:
            task.sweep_dir, task.records = sweep, Records.of(sweep)

    try:
        with gathered(task, jobs or []):
            multirun(hydra, name, task, overrides, begin)
        task.finish()
    except HydraException as error:
        raise ConfigError(one_line(error)) from error
    except OSError as error:
        if error.filename is None:
            raise
        raise ConfigError(
            f"hydra.sweep.dir: must be a folder that can be written, but {error.filename}: "
            f"{error.strerror}; free the disk or choose another, and start the same command again"
        ) from error
    except KeyboardInterrupt as error:
        interrupted = True
        task.interrupted_exit = exit_of_interrupt(error)
    finally:
        if task.packed is not None:
            task.packed.close()
    return task, interrupted


def show_plan(hydra: Hydra, name: str, config: DictConfig, overrides: list[str]) -> int:
    """Print how a launcher of packs would put the jobs of a multirun together.

    Raises:
        ConfigError: some job can't be, or they aren't to be packed or not known beforehand.
    """
    composer, jobs, _ = _checked(hydra, name, config, overrides)
    sweep = _packing(config, composer)
    if sweep is None or jobs is None:
        need = "hydra/sweeper=basic" if jobs is None else "hydra/launcher=packed"
        raise ConfigError(f"--cfg plan: shows how the jobs of a multirun are packed; add {need}")
    from unitgain.cli._plan import print_plan

    batch = sweep.batch(config, jobs, 0)
    chosen, limits = sweep.plan(batch)
    print_plan(chosen, limits, sweep.tasks(chosen), batch.endings, batch.overrides)
    return Exit.FINISHED


def _packing(config: DictConfig, composer: Composer) -> "BatchSweep | None":
    """What trains the jobs in packs, where the launcher is one that does.

    Raises:
        ConfigError: its options can't be.
    """
    target = config.hydra.launcher["_target_"]
    if target == PACKED:
        from unitgain.cli._packed import Options, PackedSweep

        return PackedSweep(composer, Options.of(config))
    if target == PACKED_SLURM:
        from unitgain.cli._slurm import SlurmSweep
        from unitgain.cli._slurm_options import SlurmOptions

        options = SlurmOptions.of(config)
        if config.hydra.sweeper["_target_"] == SEARCH and not options.wait:
            raise ConfigError(
                "hydra.launcher.wait: must be true in a search, which learns from its trials, got false"
            )
        return SlurmSweep(composer, options)
    return None


def _checked(
    hydra: Hydra, name: str, config: DictConfig, overrides: list[str]
) -> tuple[Composer, list[list[str]] | None, list[str]]:
    """What composes the jobs of a multirun; if they are known before the first one runs, they and their hashes."""
    own = [*typed(config.hydra, "hydra"), "hydra.mode=MULTIRUN"]
    composer = Composer(hydra, name, own, Groups.of(hydra, name, overrides))
    with explained(hydra, name, overrides, multirun=True):
        jobs = job_overrides(hydra, config)
        names = [] if jobs is None else check_jobs(composer, jobs, config)
    return composer, jobs, names
