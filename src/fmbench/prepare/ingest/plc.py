"""A PLC's log: phase currents at any rate -> two samples a second."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.format.columns import format_second
from fmbench.prepare.ingest.times import parse_times, spread_within_seconds

HALF = 0.5
LONGEST = 120 * 86400
"""Seconds of a log; every half second takes memory, logged or not."""
SHOWN = 3
"""Number of gaps or times that a message lists."""


class PlcLog(NamedTuple):
    """Rows in order of time."""

    seconds: NDArray[np.float64]
    """(R,) seconds since 1970."""
    values: NDArray[np.float64]
    """(R, C) amperes."""
    remarks: tuple[str, ...]
    """Irregularities, and how they were handled."""


class HalfSeconds(NamedTuple):
    """Two samples a second."""

    seconds: NDArray[np.int64]
    """(S,) whole seconds, consecutive."""
    values: NDArray[np.float64]
    """(S, 2, C) amperes; NaN where nothing was logged."""


def read_plc(
    path: Path, *, time: str | None, phases: Sequence[str], form: str | None = None
) -> PlcLog:
    """Currents of a CSV with a header.

    Args:
        path: the file; comma, semicolon or tab between cells.
        time: column of the time; None for the first.
        phases: columns of the currents in amperes; empty for all columns but the time.
        form: of the time, for `strptime`.

    Raises:
        ValueError: no such file or column, a cell that is no time, or a phase without a value.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=str, skipinitialspace=True)
    except (
        pd.errors.EmptyDataError,
        pd.errors.ParserError,
        UnicodeDecodeError,
        csv.Error,
    ) as error:
        raise ValueError(f"{path}: no CSV with a header line: {str(error).strip()}") from None
    known = [str(name) for name in table.columns]
    if not known:
        raise ValueError(f"{path}: no CSV with a header line: its first line is blank")
    time = time or known[0]
    phases = list(phases) or [name for name in known if name != time]
    for name in (time, *phases):
        if name not in known:
            raise ValueError(
                f"{path}: no column {name!r}{nearest(name, known)}. Columns: {', '.join(known)}"
            )
    if not phases or table.empty:
        raise ValueError(f"{path}: {len(table)} rows, {len(phases)} phases; nothing to read")
    seconds = spread_within_seconds(parse_times(table[time], path, form))
    columns = [pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in phases]
    values = np.stack(columns, axis=1)
    remarks = []
    for k, name in enumerate(phases):
        missing = np.flatnonzero(~np.isfinite(values[:, k]))
        if len(missing) == len(values):
            raise ValueError(f"{path}: phase {name!r} has no value at all")
        if missing.size:
            remarks.append(
                f"phase {name}: {missing.size} rows without a number, {_times(seconds[missing])};"
                " they count as missing"
            )
    order = np.argsort(seconds, kind="stable")
    back = np.flatnonzero(np.diff(seconds) < 0)
    if back.size:
        remarks.append(
            f"the clock goes back {back.size} times, {_times(seconds[back + 1])}; rows were sorted"
        )
    kept = np.isfinite(values[order]).all(axis=1)
    seconds, values = seconds[order][kept], values[order][kept]
    if not len(seconds):
        raise ValueError(f"{path}: no row has a number in each of {', '.join(phases)}")
    if seconds[-1] - seconds[0] > LONGEST:
        raise ValueError(
            f"{path}: its times run from {format_second(seconds[0])} to"
            f" {format_second(seconds[-1])}; one of them must be wrong, or cut the log to the days"
            f" of the video ({LONGEST // 86400} at most)"
        )
    repeated = np.flatnonzero(np.diff(seconds) == 0)
    if repeated.size:
        remarks.append(f"{repeated.size} times come twice, {_times(seconds[repeated])}; averaged")
    return PlcLog(seconds, values, tuple(remarks))


def to_half_seconds(log: PlcLog) -> HalfSeconds:
    """The mean of the rows in each half second; a slower log is interpolated linearly between rows
    at most 1.5 of its median steps apart."""
    first, last = np.floor(log.seconds[0]), np.floor(log.seconds[-1])
    seconds = np.arange(first, last + 1, dtype=np.int64)
    halves = 2 * len(seconds)
    at = np.floor((log.seconds - first) / HALF + 1e-6).astype(np.int64)
    at = at.clip(max=halves - 1)  # of a time just below a whole second that was rounded up
    step = float(np.median(np.diff(log.seconds))) if len(log.seconds) > 1 else 1.0
    count = np.bincount(at, minlength=halves)
    values = np.full((halves, log.values.shape[1]), np.nan)
    for k in range(values.shape[1]):
        total = np.bincount(at, log.values[:, k], minlength=halves)
        values[count > 0, k] = total[count > 0] / count[count > 0]
        if step > HALF:
            middle = first + HALF * (np.arange(halves) + 0.5)
            after = np.searchsorted(log.seconds, middle).clip(1, len(log.seconds) - 1)
            near = log.seconds[after] - log.seconds[after - 1] <= 1.5 * step
            inside = (middle >= log.seconds[0]) & (middle <= log.seconds[-1])
            drawn = np.interp(middle, log.seconds, log.values[:, k])
            fill = (count == 0) & near & inside
            values[fill, k] = drawn[fill]
    return HalfSeconds(seconds, values.reshape(len(seconds), 2, -1))


def _times(seconds: NDArray[np.float64]) -> str:
    first = ", ".join(format_second(each) for each in seconds[:SHOWN])
    return f"first at {first}" + (", …" if len(seconds) > SHOWN else "")
