"""The two CSV files of a recording: a wall-clock second per frame, and the samples of current.

Layout: official-format 4.2 and 4.3: two samples a second, three phases in amperes. A data set with
a `root.yaml` may have another rate, and other channels in their own units, named in the header. In
memory, times are int64 seconds since 1970.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.files.atomic import write_text
from fmbench.format.rates import other_channels
from fmbench.types import Channel

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
HEADER_LINES = 1
"""Data row i is line i + HEADER_LINES + 1 of its file."""


class Currents(NamedTuple):
    """Phase currents, sorted by second; rows of one second keep the order of the file."""

    seconds: NDArray[np.int64]
    """(R,) seconds since 1970."""
    values: NDArray[np.float32]
    """(R, C) amperes, or the units of the channels."""


NO_CURRENTS = Currents(np.empty(0, np.int64), np.empty((0, 0), np.float32))
"""Of a recording without a log."""


def timestamps_file(part: Path, name: str) -> Path:
    return part / "timestamps" / f"{name}.csv"


def currents_file(part: Path, name: str) -> Path:
    return part / "currents" / f"{name}.csv"


def read_columns(path: Path) -> pd.DataFrame:
    """The cells of a CSV with a header; the first column as text, an empty cell as NaN.

    Raises:
        ValueError: the file is missing, empty or no CSV.
    """
    try:
        table = pd.read_csv(
            path, dtype={0: str}, skipinitialspace=True, skip_blank_lines=False, low_memory=False
        )
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no CSV with a header line: {str(error).strip()}") from None
    if not table.shape[1]:
        raise ValueError(f"{path}: no CSV with a header line: its first line is blank")
    return table


def parse_seconds(text: pd.Series[str]) -> NDArray[np.int64]:
    """Seconds since 1970 of `YYYY-MM-DD HH:MM:SS` strings; -1 where a string is no such time."""
    codes, unique = pd.factorize(text)  # the frames of a second share a string
    parsed = pd.to_datetime(pd.Series(unique, dtype=str), format=TIME_FORMAT, errors="coerce")
    values = parsed.to_numpy(dtype="datetime64[s]").astype(np.int64)
    values = np.append(np.where(parsed.isna(), -1, values), -1)  # code -1: an empty cell
    return values[codes]


def read_timestamps(path: Path, frames: int | None = None) -> NDArray[np.int64]:
    """(N,) seconds since 1970, one per video frame; N must be `frames` unless that is None.

    Raises:
        ValueError: the file is missing, a time cannot be read (names file and line), or rows and
            frames differ in number.
    """
    seconds = _checked_seconds(path, read_columns(path).iloc[:, 0])
    if frames is not None and len(seconds) != frames:
        raise ValueError(
            f"{path} has {len(seconds)} rows for the {frames} frames of {path.stem}; one row per "
            "frame is needed"
        )
    return seconds


def read_currents(path: Path, channels: Sequence[Channel] = ()) -> Currents:
    """Seconds and amperes; column 0 is the time, all further columns are phases, or channels.

    Rows are grouped by their own time string (a stable sort), so that a missing or an extra row
    does not shift the pairs after it (official-format 4.3).

    Args:
        path: the file.
        channels: the columns that it must have; none for any.

    Raises:
        ValueError: the file is missing, has no phase column or no row, or other columns than
            `channels`; or a cell is no finite number (a gap must be filled in the file: a reader
            would only guess); names file and line.
    """
    table = read_columns(path)
    if table.shape[1] < 2 or table.empty:
        raise ValueError(
            f"{path}: {table.shape[1]} columns, {len(table)} rows; expected a time and at least "
            "one phase current in each row"
        )
    if wrong := other_channels([*table.columns[1:]], channels):
        raise ValueError(f"{path} {wrong}; write these columns in this order, or correct root.yaml")
    seconds = _checked_seconds(path, table.iloc[:, 0])
    values = parse_amperes(table)
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(place[0]) for place in np.nonzero(bad))
        raise ValueError(
            f"{path}, line {row + HEADER_LINES + 1}: current {table.iloc[row, column + 1]!r} is no "
            f"finite number{'' if channels else ' of amperes'}; repair the row or delete its second"
        )
    order = np.argsort(seconds, kind="stable")
    return Currents(seconds[order], values[order])


def parse_amperes(table: pd.DataFrame) -> NDArray[np.float32]:
    """(R, C) of every column but the first; NaN where a cell is no number."""
    phases = [pd.to_numeric(table.iloc[:, k], errors="coerce") for k in range(1, table.shape[1])]
    with np.errstate(over="ignore"):  # beyond float32: infinite, so rejected
        return np.stack([phase.to_numpy(dtype=np.float32) for phase in phases], axis=1)


def format_seconds(seconds: NDArray[np.int64]) -> list[str]:
    """Seconds since 1970 as the files' `YYYY-MM-DD HH:MM:SS`."""
    text = np.datetime_as_string(seconds.astype("datetime64[s]"))
    return [str(time).replace("T", " ") for time in text]


def format_second(seconds: float) -> str:
    """The same of one instant, rounded down to its second."""
    return format_seconds(np.array([np.floor(seconds)], np.int64))[0]


def moment(second: float | np.integer[Any]) -> str:
    """Date and time of seconds since 1970; duration of seconds since the start of a recording."""
    value = int(second)
    if value < 86400 * 365:  # the file has no clock: seconds since the start
        return f"{value // 3600}:{value // 60 % 60:02d}:{value % 60:02d}"
    return format_second(value)


def write_timestamps(path: Path, seconds: NDArray[np.int64]) -> None:
    """Write (N,) seconds since 1970, one per frame."""
    write_text(path, "".join(f"{line}\n" for line in ["time", *format_seconds(seconds)]))


def write_currents(
    path: Path,
    seconds: NDArray[np.int64],
    values: NDArray[np.floating],
    channels: Sequence[Channel] = (),
) -> None:
    """Write the samples of each second, or of each period of a rate below one a second.

    Args:
        path: the file.
        seconds: (S,) seconds since 1970.
        values: (S, N, C): N samples each, 2 in the benchmark; amperes, or the channels' units.
        channels: names of the columns. Without them, up to three phases are named A, B, C, more of
            them I1, I2, ...
    """
    samples, phases = values.shape[1:]
    names = [*"ABC"[:phases]] if phases <= 3 else [f"I{k + 1}" for k in range(phases)]
    names = [each.name for each in channels] or names
    row = ",%.6g" * phases + "\n"
    rows = "".join(f"{second}{row}" * samples for second in format_seconds(seconds))
    header = StringIO()
    csv.writer(header, lineterminator="\n").writerow(["time", *names])
    write_text(path, header.getvalue() + rows % tuple(values.ravel().tolist()))


def stretches(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, stop) of every run of true among (N,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.astype(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _checked_seconds(path: Path, text: pd.Series[str]) -> NDArray[np.int64]:
    seconds = parse_seconds(text)
    bad = np.flatnonzero(seconds < 0)
    if bad.size:
        raise ValueError(
            f"{path}, line {bad[0] + HEADER_LINES + 1}: {text.iloc[bad[0]]!r} is no time; "
            "expected YYYY-MM-DD HH:MM:SS"
        )
    return seconds
