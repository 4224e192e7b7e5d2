"""Tables of texts in Markdown and in LaTeX, with what is special there escaped."""

import re
from collections.abc import Sequence

_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "\\|<*`"} | {"\n": " "})
_LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\n": " ",
        # At the beginning of a row it would be an option of the line break before.
        "[": "{[}",
    }
)
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    r"""A table in Markdown.

    Args:
        head: the names of the columns.
        rows: their cells.
        right: which columns are set to the right.

    Example:
        >>> print(markdown(["init", "loss"], [["a|b", "0.1"]], [False, True]), end="")
        | init | loss |
        | --- | ---: |
        | a\|b | 0.1 |
    """

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.translate(_MARKDOWN) for cell in cells)} |\n"

    rule = f"| {' | '.join('---:' if numeric else '---' for numeric in right)} |\n"
    return line(head) + rule + "".join(map(line, rows))


def latex(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    r"""A tabular for the package booktabs; numbers of columns that are set to the right get a minus sign.

    Args:
        head: the names of the columns.
        rows: their cells.
        right: which columns are set to the right.

    Example:
        >>> print(latex(["f1_macro", "d"], [["[1,2]", "-0.5 to 1e-05"]], [False, True]), end="")
        \begin{tabular}{lr}
        \toprule
        f1\_macro & d \\
        \midrule
        {[}1,2] & $-$0.5 to 1e-05 \\
        \bottomrule
        \end{tabular}
    """

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + " \\\\\n"

    def cell(text: str, numeric: bool) -> str:
        escaped = text.translate(_LATEX)
        return _MINUS.sub("$-$", escaped) if numeric else escaped

    body = "".join(line([cell(*each) for each in zip(row, right, strict=True)]) for row in rows)
    columns = "".join("r" if numeric else "l" for numeric in right)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{line([name.translate(_LATEX) for name in head])}\\midrule\n{body}"
        "\\bottomrule\n\\end{tabular}\n"
    )
