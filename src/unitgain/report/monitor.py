"""The figure of a monitored stream: the evidence by row, and which scores moved how far."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitgain.report._style import INK, MUTED, save, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ALARM = "#c0392b"
_SHOWN = 12


def monitor_figure(content: Mapping[str, Any], folder: Path) -> Path:
    """Draw ``monitor.png`` into a folder.

    Args:
        content: of ``monitor.json``.
        folder: of the run.
    """
    [path] = save(draw_monitor(content), folder, "monitor", ("png",))
    return path


@style()
def draw_monitor(content: Mapping[str, Any]) -> "Figure":
    """The figure of `monitor_figure`, not yet on disk."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    curve, limit = content["curve"], content["log10_threshold"]
    left.plot(curve["row"], curve["log10_evidence"], color=INK, linewidth=1.2)
    left.axhline(limit, color=_ALARM, linewidth=1, linestyle="--")
    title = f"no alarm in {content['rows']} rows"
    if content["alarm_row"] is not None:
        left.axvline(content["alarm_row"], color=_ALARM, linewidth=1)
        title = f"alarm at row {content['alarm_row']} of {content['rows']}"
    left.set(title=title, xlabel="row of the stream", ylabel="log10 of the evidence")
    shown = content["scores"][:_SHOWN][::-1]
    labels = [f"{row['name']} ({row['kind']})" for row in shown]
    colours = [_ALARM if row["moved"] else MUTED for row in shown]
    right.barh(range(len(shown)), [row["distance"] for row in shown], color=colours)
    right.set_yticks(range(len(shown)), labels)
    for label, row in zip(right.get_yticklabels(), shown, strict=True):
        label.set_fontweight("bold" if row["moved"] else "normal")
    right.grid(visible=False, axis="y")
    right.set(
        xlim=(0, 1),
        title="moved: bold and red",
        xlabel=f"KS distance, last {content['window']} rows",
    )
    return figure
