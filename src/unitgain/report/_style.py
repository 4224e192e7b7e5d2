"""How figures look and how they reach the disk."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unitgain.runs import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200
INK = "#262626"
MUTED = "#6b6b6b"
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f7f7f",
    "#b8a800",
    "#000000",
)
"""Okabe and Ito (2008), their yellow darkened for lines on white, and a grey."""
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": True,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    # With a salt of its own the identifiers inside an SVG are the same every time.
    "svg.hashsalt": "unitgain",
}
_SMALL: Any = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    # Letters as outlines that any printer has, and that stay text in an editor.
    "pdf.fonttype": 42,
}
"""What differs in a figure that a column of a paper takes at its own size."""
_METADATA: dict[str, Any] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "Producer": None},
}
"""What would differ from one drawing of the same figure to the next, left out."""


@contextmanager
def style(*, small: bool = False) -> Iterator[None]:
    """The project's look, while drawing and while saving, whatever the user's settings are.

    Args:
        small: letters for a figure that is as wide as a column of a paper.
    """
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS | (_SMALL if small else {}))
        yield


@style()
def save(
    figure: "Figure", folder: Path, name: str, kinds: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Write a figure as PNG, SVG or PDF, each in one step; the same figure gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in kinds:
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=DPI, metadata=_METADATA[kind])
        path = folder / f"{name}.{kind}"
        atomic_write(path, content.getvalue(), durable=False)
        paths.append(path)
    return paths


def plain(text: str) -> str:
    r"""A text of a run's, none of which matplotlib reads as mathematics.

    Example:
        >>> print(plain("a$b$"))
        a\$b\$
    """
    return text.replace("$", r"\$")
