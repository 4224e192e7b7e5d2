"""From the runs to the numbers and the figure: how gradients differ from one random network to the next.

Shapes: A architectures, S seeds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import polygamma, psi
from scipy.stats import binom

from unitgain.report import style
from unitgain.report.study import Result
from unitgain.runs import RunDirectory, read_gradients
from unitgain.theory.finite_width import LogNorm, dead_at_birth, log_norm

Array = NDArray[np.float64]
Widths = tuple[int, ...]

NARROW = 8
"""Below this width so many networks are dead at birth that they are counted instead."""
DEPTH = 10
FIRST_ORDER = 50
"""From this width on the variance is within a tenth of its first order."""
EQUAL, ALTERNATING, INK = "#2f6f9f", "#c8553d", "#262626"


def numbers(results: Sequence[Result]) -> Mapping[str, float]:
    """Variances and means in units of theory's, and the share of narrow networks that are dead."""
    wide, narrow = _ratios(results)
    variances = {widths: float(ratio_S.var(ddof=1)) for widths, ratio_S in wide.items()}
    means = {widths: float(ratio_S.mean()) for widths, ratio_S in wide.items()}
    found = {
        "variance_over_exact": _share({w: variances[w] / exact(w).variance for w in wide}),
        "mean_over_exact": _share({w: means[w] / exact(w).mean for w in wide}),
        "variance_slope": _share(
            {w: variances[w] / reciprocal_sum(w) for w in wide if min(w) >= FIRST_ORDER}
        ),
        "alternating_over_equal": _alternating_over_equal(variances),
    }
    for widths, ratio_S in narrow.items():
        found[f"dead_width_{widths[0]}"] = float(np.isneginf(ratio_S).mean())
    return found


@style()
def draw(results: Sequence[Result]) -> Figure:
    """Left: variance against the sum of 1 / n. Middle: each distribution. Right: what is dead."""
    wide, narrow = _ratios(results)
    figure = Figure(figsize=(10.2, 4.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1.25, 0.7))
    _draw_variances(left, wide)
    _draw_distributions(middle, wide)
    _draw_dead(right, narrow)
    figure.suptitle(
        "The sum of reciprocal widths decides how much gradients differ between random networks",
        x=0.01,
        horizontalalignment="left",
        fontsize=12,
        fontweight="bold",
    )
    return figure


def reciprocal_sum(widths: Widths) -> float:
    """Over the layers that the gradient passes on its way from the last hidden layer to the first."""
    return float(sum(1.0 / n for n in widths[:-1]))


def exact(widths: Widths) -> LogNorm:
    """What the first order leaves out, where a layer's squared norm is 2/n times a chi-squared of Binomial(n, 1/2).

    Half of a layer's n units pass the gradient on, each with a normal weight of variance 2/n; layers are independent.
    """
    mean = variance = 0.0
    for n in widths[:-1]:
        k = np.arange(1, n + 1)
        share = binom.pmf(k, n, 0.5)
        share /= share.sum()
        log = psi(k / 2) + np.log(4 / n)
        mean += float(share @ log)
        variance += float(share @ polygamma(1, k / 2) + share @ (log - share @ log) ** 2)
    return LogNorm(mean, variance)


def _ratios(results: Sequence[Result]) -> tuple[dict[Widths, Array], dict[Widths, Array]]:
    """(S,) log of the squared gradient at layer 1 over layer L's: of wide networks that live, and of narrow ones."""
    rows: dict[Widths, list[float]] = defaultdict(list)
    for result in results:
        widths = tuple(result.key("model.width"))
        gradients = read_gradients(RunDirectory(result.directory).gradients)
        _, value_SL = gradients.grid("grad_preactivation")
        first, last = value_SL[0, 0], value_SL[0, len(widths) - 1]
        alive = first > 0 and last > 0
        rows[widths].append(2 * np.log(first / last) if alive else -np.inf)
    ratios = {widths: np.array(values) for widths, values in rows.items()}
    return (
        {w: ratio_S[np.isfinite(ratio_S)] for w, ratio_S in ratios.items() if min(w) >= NARROW},
        {w: ratio_S for w, ratio_S in ratios.items() if min(w) < NARROW},
    )


def _alternating_over_equal(variances: Mapping[Widths, float]) -> float:
    """The variance of networks with two widths in turn, over that of one width with the same sum: the mean."""
    equal = {round(reciprocal_sum(w), 9): v for w, v in variances.items() if len(set(w)) == 1}
    other = {round(reciprocal_sum(w), 9): v for w, v in variances.items() if len(set(w)) > 1}
    return _share({total: other[total] / equal[total] for total in other})


def _share(ratios: Mapping[Any, float]) -> float:
    return float(np.mean(list(ratios.values()))) if ratios else float("nan")


def _draw_variances(axes: Axes, wide: Mapping[Widths, Array]) -> None:
    line = np.array([0.0, 1.15 * max(reciprocal_sum(widths) for widths in wide)])
    slope = log_norm([1]).variance
    axes.plot(line, slope * line, color=INK, linewidth=1.2, label=r"first order: $5 \sum 1/n_l$")
    equal = sorted(exact((n,) * DEPTH).variance for n in range(18, 400))
    sums = sorted(reciprocal_sum((n,) * DEPTH) for n in range(18, 400))
    axes.plot(
        sums, equal, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label="equal widths: exact"
    )
    for widths, ratio_S in wide.items():
        variance = ratio_S.var(ddof=1)
        spread = 1.96 * variance * np.sqrt(2 / (ratio_S.size - 1))
        place, colour = reciprocal_sum(widths), _colour(widths)
        axes.errorbar(place, variance, spread, fmt="o", color=colour, markersize=5, capsize=2)
    axes.plot([], [], "o", color=EQUAL, label="equal widths")
    axes.plot([], [], "o", color=ALTERNATING, label="two widths in turn")
    axes.legend(loc="upper left")
    axes.set_xlabel(r"$\sum 1/n_l$ over hidden layers 1 to L - 1")
    axes.set_ylabel("variance over seeds")
    axes.set_title(r"Variance of $\log\,|\delta_1|^2 / |\delta_L|^2$")


def _draw_distributions(axes: Axes, wide: Mapping[Widths, Array]) -> None:
    for widths, ratio_S in wide.items():
        share_S = (np.arange(ratio_S.size) + 0.5) / ratio_S.size
        line = "-" if len(set(widths)) == 1 else (0, (2, 1.5))
        name = "width " + "/".join(map(str, dict.fromkeys(widths)))
        colour = _colour(widths)
        axes.plot(
            np.sort(ratio_S), share_S, color=colour, linestyle=line, linewidth=1.3, label=name
        )
    axes.legend(loc="upper left")
    axes.set_xlabel(r"$\log\,|\delta_1|^2 / |\delta_L|^2$")
    axes.set_ylabel("share of networks below")
    axes.set_title("Its distribution")


def _draw_dead(axes: Axes, narrow: Mapping[Widths, Array]) -> None:
    for place, (widths, ratio_S) in enumerate(narrow.items()):
        share = np.isneginf(ratio_S).mean()
        spread = 1.96 * np.sqrt(share * (1 - share) / ratio_S.size)
        axes.errorbar(place, share, spread, fmt="o", color=EQUAL, capsize=2)
        axes.hlines(dead_at_birth(widths), place - 0.3, place + 0.3, color=INK)
    axes.set_xlim(-0.6, len(narrow) - 0.4)
    axes.set_xticks(range(len(narrow)), [str(widths[0]) for widths in narrow])
    axes.set_ylim(0, 1)
    axes.set_xlabel("width")
    axes.set_title("Dead at birth; line: theory")


def _colour(widths: Widths) -> str:
    return EQUAL if len(set(widths)) == 1 else ALTERNATING
