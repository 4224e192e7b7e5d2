"""A comparison of groups of runs in words, and its table in Markdown, LaTeX or CSV."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unitgain.errors import ConfigError
from unitgain.report._pairs import Versus
from unitgain.report.comparison import Comparison, Group
from unitgain.report.tabular import latex, markdown

if TYPE_CHECKING:
    from unitgain.stats.intervals import Interval

KINDS = (".md", ".tex", ".csv")
_MOST_VERDICTS = 6
"""Groups with a sentence each."""
_LISTED = 5
_INTERVALS = {"student": "Student's t", "bca": "the BCa bootstrap", "percentile": "the bootstrap"}
_LOCATIONS = {"mean": "mean", "iqm": "interquartile mean", "median": "median"}


def heading(found: Comparison) -> list[str]:
    """The names of the table's columns."""
    level = f"{found.settings.level:.4g}"
    location = "IQM" if found.settings.location == "iqm" else found.settings.location
    columns = [
        ", ".join(found.keys),
        "seeds",
        "diverged",
        location,
        f"{100 * float(level):g} % interval",
    ]
    return [*columns, "P(better)", "p", "d"] if found.reference is not None else columns


def rows(found: Comparison) -> list[list[str]]:
    """The cells of the table as texts, a row a group."""
    return [_row(found, group) for group in found.groups]


def sentences(found: Comparison, *, each: bool = False) -> Iterator[str]:
    """What the runs support, what they don't, and how many seeds more would.

    Args:
        found: the comparison.
        each: a sentence on each group, however many there are; else many are summed up.
    """
    yield _what(found)
    for note in found.notes:
        yield f"{note[0].upper()}{note[1:]}."
    yield from _without_mean(found)
    if not found.ranked:
        yield (
            "No ranking: each group has one seed, and one seed can't tell a difference from luck. Train more seeds, "
            "such as seed=0,1,2,3,4."
        )
        return
    if found.reference is None:
        yield _nothing_to_compare(found)
        return
    yield _how(found)
    if each or len(found.versus) <= _MOST_VERDICTS:
        yield from (_verdict(found, versus) for versus in found.versus.values())
    else:
        yield from _summed_up(found)


def write_table(found: Comparison, path: Path, *, each: bool = False) -> None:
    """Write the table as .md or .tex, or all numbers as .csv.

    Args:
        found: the comparison.
        path: where to.
        each: a sentence on each group, however many there are.

    Raises:
        ConfigError: another ending.
    """
    from unitgain.runs import atomic_write

    check_kind(path)
    if path.suffix == ".csv":
        text = _csv(found)
    else:
        of, mark = (markdown, "- ") if path.suffix == ".md" else (latex, "% ")
        notes = "".join(f"{mark}{sentence}\n" for sentence in sentences(found, each=each))
        text = f"{of(heading(found), rows(found), _right(found))}\n{notes}"
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text.encode())


def check_kind(path: Path) -> None:
    """Refuse a file that isn't to be one of the tables.

    Raises:
        ConfigError: its ending is another.
    """
    if path.suffix not in KINDS:
        raise ConfigError(f"--out: must end in {', '.join(KINDS)}, got {path}")


def between(interval: "Interval") -> tuple[str, str]:
    """A value and its interval, to two digits of the interval's width.

    Example:
        >>> from unitgain.stats.intervals import Interval
        >>> between(Interval(0.91234, 0.90111, 0.92357))
        ('0.912', '0.901 to 0.924')
        >>> between(Interval(0.5, math.nan, math.nan))
        ('0.5', '')
    """
    width = interval.high - interval.low
    if math.isnan(width):
        return f"{interval.value:.4g}", ""
    digits = 1 - math.floor(math.log10(width)) if width > 0 else 4
    if not -3 <= digits <= 6:
        texts = [f"{x:.3g}" for x in (interval.value, interval.low, interval.high)]
    else:
        texts = [f"{x:.{max(digits, 0)}f}" for x in (interval.value, interval.low, interval.high)]
    return texts[0], f"{texts[1]} to {texts[2]}"


def p_text(p_value: float) -> str:
    """A p-value to two digits.

    Example:
        >>> p_text(0.0312), p_text(3e-7)
        ('0.031', '<1e-4')
    """
    return "<1e-4" if p_value < 1e-4 else f"{p_value:.2g}"


def _row(found: Comparison, group: Group) -> list[str]:
    value, ends = ("", "") if group.interval is None else between(group.interval)
    cells = [group.name, str(group.seeds), str(group.diverged), value, ends]
    if found.reference is None:
        return cells
    versus = found.versus.get(group.name)
    if versus is None:
        return [*cells, "", "", ""]
    return [
        *cells,
        f"{versus.improvement:.2f}",
        p_text(versus.p_value),
        f"{versus.difference.effect:+.2f}",
    ]


def _what(found: Comparison) -> str:
    better = "higher" if found.settings.higher else "lower"
    location = _LOCATIONS[found.settings.location]
    method = _INTERVALS[found.settings.method]
    text = f"{found.metric} ({better} is better): {location} over seeds"
    text += f", its interval by {method}." if found.ranked else "."
    if found.averaged:
        text += f" Each seed's value is its mean over {found.conditions} combinations of {', '.join(found.averaged)}."
    if found.tied:
        does = (
            "change with the group: what they do"
            if found.tied[1:]
            else "changes with the group: what it does"
        )
        text += f" {', '.join(found.tied)} {does} can't be told apart."
    return text


def _without_mean(found: Comparison) -> Iterator[str]:
    left_out = sum(group.unfinished for group in found.groups)
    if left_out:
        yield f"{left_out} runs that failed or didn't finish are left out."
    diverged = [group for group in found.groups if group.diverged]
    if not diverged:
        return
    counts = _listed([f"{g.name} ({g.diverged} of {g.runs})" for g in diverged])
    rule = {
        "refuse": "A mean of the others would flatter, so these groups have none; choose --diverged worst, or drop.",
        "drop": "Their seeds are left out, which flatters these groups.",
        "worst": "They count as the worst value of any run.",
    }
    yield f"Diverged: {counts}. {rule[found.settings.diverged]}"


def _nothing_to_compare(found: Comparison) -> str:
    baseline = found.settings.baseline
    if baseline is not None and any(g.name == baseline and g.seeds < 2 for g in found.groups):
        return f"No comparison: the baseline {baseline} has fewer than two seeds with a value."
    return "No comparison: fewer than two groups have two seeds or more with a value."


def _how(found: Comparison) -> str:
    reference = found.reference
    role = "the baseline" if found.settings.baseline is not None else "the best"
    paired = [v for v in found.versus.values() if v.difference.paired]
    names = {"t": ("Student's", "Welch's"), "rank": ("Wilcoxon's", "Mann and Whitney's")}
    own = names[found.settings.test]
    if len(paired) == len(found.versus):
        sizes = sorted({v.difference.size for v in paired})
        seeds = "-".join(map(str, dict.fromkeys((sizes[0], sizes[-1]))))
        how = f"paired on {seeds} shared seeds, {own[0]} test"
    elif not paired:
        how = f"not paired, as seeds differ, {own[1]} test"
    else:
        how = f"{len(paired)} paired on shared seeds by {own[0]} test, the others not, by {own[1]}"
    left_out = sum(v.left_out for v in paired)
    more = f" {left_out} seeds without a partner are left out of differences." if left_out else ""
    of = (
        ""
        if found.settings.baseline is not None
        else ", all pairs, as the best is picked from the same runs"
    )
    return f"P(better), p and d are against {role}, {reference}: {how}, p by Holm for {found.family}{of}.{more}"


def _verdict(found: Comparison, versus: Versus) -> str:
    value, ends = between(versus.difference.interval)
    p_value = p_text(versus.p_value)
    p_value = f"p {p_value}" if p_value[0] == "<" else f"p = {p_value}"
    apart = f"by {value} ({ends}), {p_value}"
    if versus.supported:
        word = "better" if versus.better else "worse"
        return f"Supported: {versus.group} is {word} than {found.reference} {apart}."
    text = f"Not supported: {versus.group} differs from {found.reference} {apart}."
    size = versus.difference.size
    if versus.visible > 0:
        text += f" With {size} seeds a true difference above {versus.visible:.2g} would show 80 times in 100."
    if versus.least is None:
        return f"{text} One as small as this takes more than 10000."
    if versus.least > size:
        return (
            f"{text} One as large as this takes {versus.least} of each, {versus.least - size} more."
        )
    least = 2.0 ** (1 - size) if versus.difference.paired else 2 / math.comb(2 * size, size)
    return f"{text} A rank test of {size} seeds never gives p below {least:.2g}: train more, or choose --test t."


def _summed_up(found: Comparison) -> Iterator[str]:
    """Many groups: which differ, of the others what it would take."""
    every = list(found.versus.values())
    for word, better in (("better", True), ("worse", False)):
        part = [v for v in every if v.supported and v.better == better]
        if part:
            names = _listed([f"{v.group} by {between(v.difference.interval)[0]}" for v in part])
            yield f"Supported for {len(part)} of {len(every)}: {word} than {found.reference}: {names}."
    rest = [v for v in every if not v.supported]
    if rest:
        sizes, seen = (
            sorted(v.difference.size for v in rest),
            sorted(v.visible for v in rest if v.visible > 0),
        )
        text = f"Not supported for {len(rest)} of {len(every)}."
        if seen:
            text += (
                f" With {_range(sizes, 'd')} seeds true differences above {_range(seen, '.2g')} would show 80 times "
                "in 100."
            )
        able = [v for v in rest if v.least is not None and v.least > v.difference.size]
        if able:
            first = min(able, key=lambda v: v.least or 0)
            value = between(first.difference.interval)[0]
            text += (
                f" The fewest seeds would show {first.group}, by {value}: {first.least} of each."
            )
        yield text
    yield "Each in full: unitgain compare --each."


def _range(ordered: Sequence[float], form: str) -> str:
    ends = dict.fromkeys(f"{value:{form}}" for value in (ordered[0], ordered[-1]))
    return " to ".join(ends)


def _listed(texts: Sequence[str]) -> str:
    """The first few; names of groups have commas."""
    more = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return "; ".join(texts[:_LISTED]) + more


def _right(found: Comparison) -> list[bool]:
    return [False] + [True] * (len(heading(found)) - 1)


def _csv(found: Comparison) -> str:
    """All numbers, in full."""
    names = ["runs", "seeds", "diverged", "unfinished", "value", "low", "high"]
    against = ["reference", "difference", "difference_low", "difference_high", "paired", "pairs"]
    against += ["p_holm", "effect", "probability_of_improvement", "seeds_needed"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*[", ".join(found.keys)], *names, *against])
    for group in found.groups:
        row: list[object] = [group.name, group.runs, group.seeds, group.diverged, group.unfinished]
        ends = group.interval
        row += ["", "", ""] if ends is None else [ends.value, ends.low, ends.high]
        versus = found.versus.get(group.name)
        if versus is not None:
            gap = versus.difference
            row += [found.reference, gap.interval.value, gap.interval.low, gap.interval.high]
            row += [
                gap.paired,
                gap.size,
                versus.p_value,
                gap.effect,
                versus.improvement,
                versus.least,
            ]
        else:
            row += [""] * len(against)
        writer.writerow(row)
    return text.getvalue()
