"""What the terminal shows at the end of a search."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from unitgain.cli._search import best_trials
from unitgain.cli._show import near, number

if TYPE_CHECKING:
    import optuna

    from unitgain.cli._search import SearchSweep

BEST, FAULTS = 5, 3
"""So many of the best trials are shown, and so many causes of those that aren't finished."""


def show_search(search: "SearchSweep", directory: Path) -> bool:
    """The best trials of a study, why others failed, and where everything is; whether any finished."""
    if search.study is None:
        return False
    console = Console(highlight=False)
    console.print()
    best = best_trials(search.study)
    if best:
        console.print(_table(best[:BEST], search.objectives))
        if len(best) > BEST and len(search.objectives) > 1:
            _line(console, f"{len(best) - BEST} more that no other trial beats")
    trials = search.study.get_trials(deepcopy=False)
    ended = [
        t.user_attrs["status"]
        for t in trials
        if t.user_attrs.get("status") != "surplus" and "status" in t.user_attrs
    ]
    counts = Counter(ended)
    others = "".join(f", {n} {status}" for status, n in counts.items() if status != "finished")
    causes = Counter(t.user_attrs["cause"] for t in trials if "cause" in t.user_attrs)
    for cause, times in causes.most_common(FAULTS):
        _line(console, f"{times} of them: {cause}" if times > 1 else f"one: {cause}")
    _line(console, f"{counts['finished']} of {search.n_trials} trials finished{others}")
    places = {
        "runs": str(near(directory)),
        "best": str(near(directory / "optimization_results.yaml")),
    }
    if search.options.study_name is not None:
        places["study"] = f"{search.options.study_name} in {search.place}"
    for name, place in places.items():
        console.print(Text(f"{name:8}", "bold") + Text(place), soft_wrap=True)
    return bool(counts["finished"])


def _table(trials: Sequence["optuna.trial.FrozenTrial"], objectives: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("trial", justify="right")
    for name in objectives:
        table.add_column(name, justify="right")
    table.add_column("overrides", overflow="fold")
    table.add_column("run", overflow="fold")
    for trial in trials:
        values = [_short(value) for value in trial.values]
        params = " ".join(f"{key}={_short(value)}" for key, value in trial.params.items())
        table.add_row(str(trial.number + 1), *values, params, trial.user_attrs.get("run", ""))
    return table


def _short(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return str(int(value)) if value.is_integer() and abs(value) >= 10 else number(value)


def _line(console: Console, text: str) -> None:
    """Print without a break inside: lines with paths are for copying."""
    console.print(Text(text), soft_wrap=True)
