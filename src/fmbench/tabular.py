"""Tables as Markdown, LaTeX and CSV, and the sentence that marks results on simulated data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SIMULATED = (
    "Simulated recordings: not results on the fused magnesium benchmark or any real furnace."
)
NONE = "–"
"""The cell of a value that does not exist."""


def markdown(rows: Sequence[Sequence[str]], *, aligned: bool = False) -> str:
    """A Markdown table without a final newline.

    Args:
        rows: of equally many cells; the first one is the head. Line breaks become spaces, bars are
            escaped.
        aligned: pad all columns to equal widths, which a terminal needs, and align all but the
            first to the right.
    """
    cells = [[cell.replace("\n", " ").replace("|", r"\|") for cell in row] for row in rows]
    rule = ["---"] * len(cells[0])
    if aligned:
        first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
        cells = [
            [row[0].ljust(first), *(cell.rjust(w) for cell, w in zip(row[1:], others, strict=True))]
            for row in cells
        ]
        rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [cells[0], rule, *cells[1:]])


def latex(
    rows: Sequence[Sequence[str]], *, labels: int, caption: str, label: str, notes: Sequence[str]
) -> str:
    r"""A LaTeX `table` to paste into a paper; it needs the package booktabs.

    Args:
        rows: cells in LaTeX; the first row is the head. A last cell may span columns
            (`\multicolumn`).
        labels: the first columns, aligned to the left; the others are aligned to the right.
        caption: in plain text.
        label: for `\ref`.
        notes: sentences in plain text, comments above the table and small print below it.
    """
    width = len(rows[0])
    head, *body = (" & ".join(row) + r" \\" for row in rows)
    lines = [
        *(f"% {note}" for note in notes),
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{latex_text(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{'l' * labels}{'r' * (width - labels)}}}",
        *(r"\toprule", head, r"\midrule", *body, r"\bottomrule"),
        r"\end{tabular}",
        rf"\par\smallskip\footnotesize {latex_text(' '.join(notes))}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """Plain text for a LaTeX cell: special characters escaped."""
    for sign in "&%$#_{}":
        text = text.replace(sign, rf"\{sign}")
    return text.replace("†", r"$\dagger$").replace(NONE, "--")


def csv(table: pd.DataFrame) -> str:
    """Comma-separated values: six significant digits, Unix line ends, no index."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
