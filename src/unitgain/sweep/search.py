"""The core of a search: Optuna proposes trials in batches, and is told how each of them ended.

Importing this module imports Optuna.
"""

import os
import socket
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, final

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from unitgain.errors import ConfigError

Told = Literal["finished", "diverged", "interrupted", "failed", "pruned"]
Params = Mapping[str, Any]

STATUS, CAUSE, RUN, OWNER = "status", "cause", "run", "owner"
"""What a trial's attributes are called."""
_SURPLUS = "surplus"


@final
@dataclass(frozen=True)
class Result:
    """How a trial ended.

    Args:
        status: of its run.
        values: of the objectives; nothing unless it finished.
        cause: in a line, why it didn't.
        run: the name of its directory.
    """

    status: Told
    values: tuple[float, ...] = ()
    cause: str | None = None
    run: str | None = None


@final
@dataclass
class Search:
    """Trials until a study has as many as are wanted.

    A trial counts once it has finished, was pruned, failed or diverged, in this process or another one. One that was
    interrupted doesn't: the study proposes it again, before anything new. Several processes may share a study.

    Args:
        study: where trials are kept.
        space: the parameters of each trial.
        n_trials: of the whole study.
        batch: so many are proposed at a time.
        max_failure_rate: the share of a batch that may fail or diverge.
        extend: suggests further parameters for a trial.
        trials: those that are at work.
        owner: the process that is at them.
    """

    study: optuna.Study
    space: Mapping[str, BaseDistribution]
    n_trials: int
    batch: int
    max_failure_rate: float = 1.0
    extend: Callable[[Trial], None] | None = None
    trials: list[Trial] = field(default_factory=list)
    owner: str = field(default_factory=lambda: _owner(os.getpid()))

    def left(self) -> int:
        """How many trials the study still lacks."""
        return max(0, self.n_trials - sum(map(_counts, self.study.get_trials(deepcopy=False))))

    def run(self, train: Callable[[Sequence[Params]], Sequence[Result]]) -> None:
        """Propose trials until none is missing.

        Args:
            train: trains a batch; one result for each of the parameters.

        Raises:
            ConfigError: more of a batch failed than may, or the study's earlier trials had another space.
            KeyboardInterrupt: a trial was interrupted.
        """
        self._take_back()
        while count := min(self.batch, self.left()):
            self.trials = self._ask(count)
            try:
                results = train([trial.params for trial in self.trials])
            except BaseException:
                for trial in self.trials:
                    self._tell(trial, Result("interrupted"))
                raise
            for trial, result in zip(self.trials, results, strict=True):
                self._tell(trial, result)
            if any(result.status == "interrupted" for result in results):
                raise KeyboardInterrupt
            self._check_failures(results)

    def prunes(self, index: int, epochs: int, value: float) -> bool:
        """Whether a trial at work should end, as the study's pruner thinks.

        Args:
            index: of the trial in its batch.
            epochs: behind it.
            value: of the objective after them.
        """
        trial = self.trials[index]
        with warnings.catch_warnings():
            # A run that goes on from a checkpoint comes by the same epochs again.
            warnings.simplefilter("ignore")
            trial.report(value, epochs)
        return trial.should_prune()

    def _ask(self, count: int) -> list[Trial]:
        """A batch; what two processes asked for at once beyond the last trial is given up."""
        trials = []
        for _ in range(count):
            trial = self.study.ask()
            trial.set_user_attr(OWNER, self.owner)
            trials.append(trial)
            try:
                for name, distribution in self.space.items():
                    trial._suggest(name, distribution)
                if self.extend is not None:
                    self.extend(trial)
            except BaseException as error:
                for asked in trials:
                    self._end(asked, _SURPLUS)
                if isinstance(error, ValueError):
                    raise ConfigError(_other_space(self.study.study_name, error)) from error
                raise
        everyone = [t.number for t in self.study.get_trials(deepcopy=False) if _counts(t)]
        wanted = set(sorted(everyone)[: self.n_trials])
        for trial in trials:
            if trial.number not in wanted:
                self._end(trial, _SURPLUS)
        return [trial for trial in trials if trial.number in wanted]

    def _tell(self, trial: Trial, result: Result) -> None:
        for name, value in ((CAUSE, result.cause), (RUN, result.run)):
            if value is not None:
                trial.set_user_attr(name, value)
        if result.status == "finished":
            trial.set_user_attr(STATUS, result.status)
            self.study.tell(trial, list(result.values))
            return
        if result.status == "pruned":
            trial.set_user_attr(STATUS, result.status)
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        self._end(trial, result.status)
        if result.status == "interrupted":
            self._propose_again(trial.params)

    def _end(self, trial: Trial, status: str) -> None:
        trial.set_user_attr(STATUS, status)
        self.study.tell(trial, state=TrialState.FAIL)

    def _propose_again(self, params: Params) -> None:
        if params:
            self.study.enqueue_trial(dict(params), skip_if_exists=False)

    def _take_back(self) -> None:
        """Have trials proposed again whose process is gone."""
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not _is_gone(frozen.user_attrs.get(OWNER, "")):
                continue
            # Another process may be at the same.
            with suppress(RuntimeError, ValueError):
                storage, number = self.study._storage, frozen._trial_id
                storage.set_trial_user_attr(number, STATUS, "interrupted")
                self.study.tell(frozen.number, state=TrialState.FAIL)
                self._propose_again(frozen.params)

    def _check_failures(self, results: Sequence[Result]) -> None:
        failed = [each for each in results if each.status not in ("finished", "pruned")]
        if results and len(failed) / len(results) > self.max_failure_rate:
            raise ConfigError(
                f"hydra.sweeper.max_failure_rate: at most {self.max_failure_rate:g} of a batch may fail or "
                f"diverge, but {len(failed)} of {len(results)} did ({failed[0].cause or failed[0].status}); "
                "narrow the search space, or raise the rate"
            )


@final
class Grid(optuna.samplers.GridSampler):
    """Optuna's grid, whose end is that of the trials and not a call to stop."""

    def after_trial(self, *_arguments: Any, **_keywords: Any) -> None:
        """Leave the study as it is."""


def _other_space(name: str, error: Exception) -> str:
    return (
        f"hydra.sweeper.params: must be the space that the study {name} began with, but {error}; go back to it, "
        "or choose another hydra.sweeper.study_name"
    )


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that a study was asked for."""
    if trial.state is TrialState.FAIL:
        return trial.user_attrs.get(STATUS) not in ("interrupted", _SURPLUS)
    return trial.state is not TrialState.WAITING


def _owner(process: int) -> str:
    """Who is at a trial: machine, process, and when that began, for numbers of processes come again."""
    return f"{socket.gethostname()}/{process}/{_began(process)}"


def _is_gone(owner: str) -> bool:
    """Whether a process of this machine is no more; of another machine nobody knows."""
    host, _, rest = owner.partition("/")
    process, _, began = rest.partition("/")
    if host != socket.gethostname() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _began(int(process)) != began


def _began(process: int) -> str:
    """When a process began, in ticks since the start of the system; nothing where that isn't told."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[19]
