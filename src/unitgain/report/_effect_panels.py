"""What each key explains of a metric's variance, and the tree of splits, as panels of a figure."""

from typing import TYPE_CHECKING

from unitgain.report._style import COLOURS, INK, MUTED, plain
from unitgain.report.run_groups import named
from unitgain.report.views import Effects

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from unitgain.stats.effects import EffectNode


def draw_shares(axes: "Axes", shown: Effects) -> None:
    """A bar for each key and interaction, as long as what it explains of the variance."""
    pairs = [(name, share) for name, share in shown.pairs if share >= 0.01][:3]
    bars = [(e.factor, e.eta_squared) for e in shown.main[:6]] + pairs
    bars.sort(key=lambda bar: bar[1])
    rest = 1 - sum(share for _, share in bars)
    if rest >= 0:
        # Keys that change together explain the same twice: what they leave isn't known then.
        bars.insert(0, ("seed and rest", rest))
    names, shares = [name for name, _ in bars], [share for _, share in bars]
    colours = [COLOURS[1] if " x " in name else COLOURS[0] for name in names]
    if rest >= 0:
        colours[0] = MUTED
    axes.barh(range(len(shares)), shares, color=colours, height=0.62)
    for at, share in enumerate(shares):
        axes.text(share, at, f" {share:.0%}", va="center", fontsize=7.5)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_xlim(0, max(shares) * 1.25)
    axes.set_xticks([])
    axes.grid(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title("variance explained")


def draw_tree(axes: "Axes", shown: Effects) -> None:
    """Leaves from top to bottom; each with its runs along the metric, and its splits as brackets on its left."""
    leaves = shown.tree.leaves()
    value_N = shown.value_N
    low, high = float(value_N.min()), float(value_N.max())
    spread = high - low or 1.0
    places = {id(leaf): len(leaves) - 1 - i for i, leaf in enumerate(leaves)}
    for leaf in leaves:
        y = places[id(leaf)]
        axes.plot(value_N[leaf.rows], [y] * len(leaf.rows), "o", color=COLOURS[0], ms=3, alpha=0.5)
        axes.plot([leaf.mean] * 2, [y - 0.32, y + 0.32], color=INK, lw=1.3)
    depth = _depth(shown.tree)
    pitch = 0.42 * spread
    _bracket(axes, shown.tree, places, low - (depth + 0.15) * pitch, pitch)
    axes.set_xlim(low - (depth + 0.2) * pitch, high + 0.05 * spread)
    ticks = [t for t in axes.get_xticks() if low - 0.05 * spread <= t <= high + 0.05 * spread]
    axes.set_xticks(ticks)
    axes.set_yticks([])
    axes.set_ylim(-0.7, len(leaves) - 0.3)
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(plain(shown.metric), loc="right")
    axes.set_title("tree of effects: each dot a run, each bar a mean")


def _bracket(
    axes: "Axes", node: "EffectNode", places: dict[int, int], x: float, pitch: float
) -> float:
    """Draw a node's splits and give the height that it stands at."""
    if not node.children:
        return places[id(node)]
    heights = [_bracket(axes, child, places, x + pitch, pitch) for child in node.children]
    axes.plot([x, x], [min(heights), max(heights)], color=MUTED, lw=0.8)
    for child, y in zip(node.children, heights, strict=True):
        axes.plot([x, x + pitch * 0.94], [y, y], color=MUTED, lw=0.8)
        axes.annotate(
            plain(_short(named([node.factor or ""], [child.condition]), 14)),
            (x, y),
            xytext=(2, 1.5),
            textcoords="offset points",
            fontsize=7.5,
        )
    return (min(heights) + max(heights)) / 2


def _depth(node: "EffectNode") -> int:
    return 1 + max(map(_depth, node.children)) if node.children else 0


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
