"""Numbers as plants write them -> floats: decimal comma, thousands separators, exponents."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Decimal = Literal[".", ","]
_BLANKS = " \u00a0\u202f\u2009'’"
"""Between thousands; French exports have narrow blanks, Swiss ones an apostrophe."""
_AMBIGUOUS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
_MISSING = {"", "nan", "na", "n/a", "#n/a", "null", "none"}
NUMBER = re.compile(
    rf"[+-]?(?:\d{{1,3}}(?:[.,{_BLANKS}]\d{{3}})+|\d+)?(?:[.,]\d*)?(?:[eE][+-]?\d+)?"
)
"""A number in any of the ways that are read; also matches an empty text."""


class Numbers(NamedTuple):
    """Cells of a column as numbers."""

    values: NDArray[np.float64]
    """(R,) NaN where a cell is empty or no number."""
    wrong: NDArray[np.int64]
    """Rows whose cell is neither a number nor empty."""


def is_number(cell: str) -> bool:
    """Whether a cell is a number, in any of the ways that are read."""
    return any(c.isdigit() for c in cell) and NUMBER.fullmatch(cell) is not None


def find_decimal(cells: Iterable[str], *, plain: bool) -> Decimal | None:
    """The decimal separator of cells; None where they fit both, as 12,600 or 12.600 do.

    A cell decides if it has both separators (the last is the decimal one), one of them twice (it is
    between thousands), or one with other than three digits after it.

    Args:
        cells: some cells; those that are no numbers do not count.
        plain: whether a lone point is decimal where nothing contradicts it.

    Raises:
        ValueError: cells contradict each other.
    """
    sure: dict[Decimal, str] = {}
    doubtful: set[str] = set()
    for cell in cells:
        if not is_number(cell) or not set(cell) & {".", ","}:
            continue
        mantissa = re.split("[eE]", cell)[0]
        last = "." if mantissa.rfind(".") > mantissa.rfind(",") else ","
        other = "," if last == "." else "."
        if other in mantissa or mantissa.count(last) == 1:
            if other not in mantissa and _AMBIGUOUS.fullmatch(mantissa) and mantissa == cell:
                doubtful.add(last)
                continue
            decimal: Decimal = "." if last == "." else ","
        else:
            decimal = "," if last == "." else "."
        sure.setdefault(decimal, cell)
    if len(sure) == 2:
        raise ValueError(
            f"{sure['.']!r} has a decimal point and {sure[',']!r} a decimal comma; give --decimal ."
            " or --decimal ,"
        )
    if sure:
        return next(iter(sure))
    if not doubtful or (plain and doubtful == {"."}):
        return "."
    return None


def to_numbers(cells: pd.Series, decimal: Decimal) -> Numbers:
    """Floats of (R,) cells as text without blanks around it. The other separator, blanks and
    apostrophes stand between thousands, and only there."""
    wrong = np.zeros(len(cells), bool)
    if decimal == ".":
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, copy=True)
        rest = np.flatnonzero(~np.isfinite(values))
    else:
        values, rest = np.full(len(cells), np.nan), np.arange(len(cells))
    if len(rest):
        other = "," if decimal == "." else r"\."
        texts = cells.iloc[rest].str.replace("−", "-")
        point = re.escape(decimal)
        form = (
            rf"[+-]?(?:\d{{1,3}}(?:[{other}{_BLANKS}]\d{{3}})+|\d+(?={point}|[eE]|$)|(?={point}\d))"
            rf"(?:{point}\d*)?(?:[eE][+-]?\d+)?"
        )
        fits = texts.str.fullmatch(form).to_numpy(bool)
        clean = texts[fits].str.replace(rf"[{other}{_BLANKS}]", "", regex=True)
        values[rest] = np.nan
        values[rest[fits]] = clean.str.replace(decimal, ".").astype(np.float64)
        empty = texts.str.lower().isin(_MISSING).to_numpy(bool)
        wrong[rest] = ~empty & ~np.isfinite(values[rest])
        values[~np.isfinite(values)] = np.nan
    return Numbers(values, np.flatnonzero(wrong))
