"""Clock times as people and PLCs write them -> seconds since 1970."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LATEST = 9.2e9
"""Seconds since 1970, in the year 2261: the limit of pandas' nanoseconds."""
FORMATS = "YYYY-MM-DD HH:MM:SS[.fff], or seconds since 1970"


def parse_times(column: pd.Series, path: Path, form: str | None = None) -> NDArray[np.float64]:
    """(N,) seconds since 1970 of a wall clock without a zone; with a zone, in UTC.

    Args:
        column: cells as text.
        path: the column's file, for messages; its header is line 1.
        form: of the times, for `strptime`; None for FORMATS.

    Raises:
        ValueError: a cell is no time (names the line), times are of several zones, or `form` is not
            valid.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    if form is None and numbers.notna().all():
        seconds = np.asarray(numbers, np.float64)
        odd = np.flatnonzero(~(np.abs(seconds) < LATEST))
        if odd.size:
            cell = column.iloc[odd[0]]
            raise ValueError(f"{path}, line {odd[0] + 2}: {cell!r} is no time; expected {FORMATS}")
        return seconds
    parsed = _parsed(column, path, form)
    bad = np.flatnonzero(parsed.isna())
    if bad.size:
        hint = f"expected {form}" if form else f"expected {FORMATS}; or give --time-format"
        raise ValueError(f"{path}, line {bad[0] + 2}: {column.iloc[bad[0]]!r} is no time; {hint}")
    return np.asarray(parsed.to_numpy("datetime64[ns]").astype(np.int64) / 1e9)


def _parsed(column: pd.Series, path: Path, form: str | None) -> pd.Series:
    """Times, or NaT where a cell is no time."""
    wanted = form or "ISO8601"
    try:
        return pd.to_datetime(column, format=wanted, errors="coerce")
    except ValueError as error:
        try:
            pd.to_datetime(column, format=wanted, errors="coerce", utc=True)
        except ValueError:
            raise ValueError(f"{path}: {wanted!r} is no format of a time: {error}") from None
        why = "some of its times have a zone and others have none, or another one"
        raise ValueError(f"{path}: {why}; write all of them in one zone") from None


def spread_within_seconds(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) times; rows of a clock with whole seconds only are spread evenly over their second."""
    whole = np.floor(times)
    if not np.array_equal(times, whole) or len(np.unique(whole)) == len(times):
        return times
    starts = np.flatnonzero(np.diff(whole, prepend=np.nan) != 0)
    counts = np.diff(np.append(starts, len(times)))
    within = np.arange(len(times)) - np.repeat(starts, counts)
    return np.asarray(whole + within / np.repeat(counts, counts))
