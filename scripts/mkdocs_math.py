"""MkDocs hook: draws formulas as SVG with matplotlib while the site is built, so that pages fetch no script.

Formulas are what stands between dollar signs in pages and docstrings, and the role ``math`` in docstrings.
"""

import html
import logging
import re
from collections.abc import Iterable
from functools import cache

LOG = logging.getLogger("mkdocs.hooks.math")
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<dollars>.*?)\\[)\]]</(?P=tag)>'
    r"|:math:<code>(?P<role>.*?)</code>",
    re.DOTALL,
)
EM = 90
"""Units of a drawing that are as high as the text around it."""


def on_page_content(content: str, **_: object) -> str:
    """Replace each formula of a page."""
    return FORMULA.sub(_replaced, content)


def _replaced(match: re.Match[str]) -> str:
    tex = " ".join(html.unescape(match["dollars"] or match["role"]).split())
    if match["tag"] == "div":
        tex = tex.replace(r"\frac", r"\dfrac")
    try:
        picture = _drawn(tex)
    except ValueError as error:
        LOG.warning("can't draw the formula %s: %s", tex, str(error).splitlines()[-1])
        return f"<code>{html.escape(tex)}</code>"
    if match["tag"] == "div":
        return f'<p style="text-align: center; overflow-x: auto">{picture}</p>'
    return picture


@cache
def _drawn(tex: str) -> str:
    """The formula as inline SVG in the colour of the text around it, resting on its baseline."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(math_fontfamily="stix")
    path = TextPath((0, 0), f"${tex}$", size=100, prop=font)
    box = path.get_extents()
    letters = {path.MOVETO: "M", path.LINETO: "L", path.CURVE3: "Q", path.CURVE4: "C"}
    outline = "".join(
        "Z" if code == path.CLOSEPOLY else letters[code] + _numbers(points)
        for points, code in path.iter_segments(simplify=False)
    )
    view = f"{box.x0:.1f} {-box.y1:.1f} {box.width:.1f} {box.height:.1f}"
    size = f"width: {box.width / EM:.3f}em; height: {box.height / EM:.3f}em"
    return (
        f'<svg role="img" aria-label="{html.escape(tex, quote=True)}" viewBox="{view}" '
        f'style="{size}; vertical-align: {box.y0 / EM:.3f}em; fill: currentColor">'
        f'<path d="{outline}"/></svg>'
    )


def _numbers(points: Iterable[float]) -> str:
    """Coordinates with the y axis pointing down, as SVG has it."""
    return " ".join(f"{-p if i % 2 else p:.1f}" for i, p in enumerate(points))
