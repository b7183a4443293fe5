"""What can be wrong with one file of a recording, with its row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from fmbench.data.windows import Ints
from fmbench.format.columns import (
    HEADER_LINES,
    format_seconds,
    parse_amperes,
    parse_seconds,
    read_columns,
)
from fmbench.format.mat import frames_and_labels, open_mat
from fmbench.types import CURRENT_RATE

T = TypeVar("T")

_BLOCK_BYTES = 2**25


class Fault(NamedTuple):
    """Something wrong.

    Attributes:
        file: where.
        row: line of a CSV file (its header is line 1), frame of a .mat file, or listed frame of a
            JSON file; None for the file as a whole.
        message: what, and where it is not plain, what to do.
        warning: the files can be used; the fault bears on what results mean.
    """

    file: str
    row: int | None
    message: str
    warning: bool = False

    def __str__(self) -> str:
        unit = {".csv": "line", ".mat": "frame", ".json": "frame"}.get(
            Path(self.file).suffix, "row"
        )
        place = f"{self.file}, {unit} {self.row}" if self.row is not None else self.file
        return f"{place}: {'warning: ' if self.warning else ''}{self.message}"


def attempt(path: Path, found: list[Fault], act: Callable[..., T], *args: Any) -> T | None:
    """What `act(*args)` gives; where it raises a ValueError, a fault of `path` instead."""
    try:
        return act(*args)
    except ValueError as error:
        message = str(error).removeprefix(str(path)).lstrip(":, ")
        found.append(Fault(str(path), None, message))
        return None


def check_mat(path: Path, found: list[Fault]) -> int:
    """Number of frames.

    Raises:
        ValueError: the file cannot be read, or its axes are wrong.
    """
    with open_mat(path) as file:
        data, label = frames_and_labels(path, file)
        if label is None and path.parent.parent.name != "unlabelled":
            found.append(Fault(str(path), None, "has no 'label'"))
        if data.chunks or data.dtype != np.uint8:  # a contiguous one has nothing that can be wrong
            _check_values(
                path,
                data,
                lambda block: ~((block >= 0) & (block <= 255)),
                found,
                "values outside 0-255",
            )
        if label is not None:
            _check_values(
                path,
                label,
                lambda block: ~((block == 0) | (block == 1)),
                found,
                "mask values other than 0 and 1; any value of 1 or more is read as 1",
            )
        return int(data.shape[0])


def _check_values(
    path: Path,
    dataset: h5py.Dataset,
    wrong: Callable[[NDArray[Any]], NDArray[np.bool_]],
    found: list[Fault],
    message: str,
) -> None:
    row_bytes = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    step = max(1, _BLOCK_BYTES // row_bytes)
    first, count = None, 0
    for start in range(0, dataset.shape[0], step):
        try:
            block = dataset[start : start + step]
        except OSError as error:
            found.append(Fault(str(path), start, f"{dataset.name!r} is damaged here: {error}"))
            return
        frames = np.flatnonzero(wrong(block).any(axis=tuple(range(1, block.ndim))))
        if frames.size and first is None:
            first = start + int(frames[0])
        count += frames.size
    if first is not None:
        found.append(Fault(str(path), first, f"{message} ({count} frames)"))


def check_timestamps(path: Path, frames: int | None, found: list[Fault]) -> Ints | None:
    """(N,) second of each frame, -1 where unreadable; None where rows do not match frames."""
    table = attempt(path, found, read_columns, path)
    if table is None:
        return None
    if frames is not None and len(table) != frames:
        found.append(Fault(str(path), None, f"{len(table)} rows for {frames} frames"))
    seconds = parse_seconds(table.iloc[:, 0])
    if _check_times(path, table.iloc[:, 0].tolist(), seconds, found):
        for row in np.flatnonzero(np.diff(seconds) < 0):
            found.append(_backwards(path, seconds, int(row) + 1))
    return seconds if len(seconds) == frames else None


def check_currents(path: Path, phases: dict[str, int], found: list[Fault]) -> Ints | None:
    """Seconds that have current; None where the file cannot be read."""
    table = attempt(path, found, read_columns, path)
    if table is None:
        return None
    if table.shape[1] < 2 or table.empty:
        found.append(Fault(str(path), None, "expected a time and at least one phase in each row"))
        return None
    phases[path.stem] = table.shape[1] - 1
    for row, column in np.argwhere(~np.isfinite(parse_amperes(table))):
        cell = table.iloc[row, column + 1]
        found.append(Fault(str(path), _line(row), f"current {cell!r} is no finite number"))
    seconds = parse_seconds(table.iloc[:, 0])
    if not _check_times(path, table.iloc[:, 0].tolist(), seconds, found):
        return seconds[seconds >= 0]
    if len(seconds) % CURRENT_RATE:
        message = f"odd number of current rows ({len(seconds)}); two a second are expected"
        found.append(Fault(str(path), _line(len(seconds) - 1), message))
    _check_pairs(path, seconds, found)
    return seconds


def _check_pairs(path: Path, seconds: Ints, found: list[Fault]) -> None:
    """Seconds with other than two rows, repeated, out of order, or missing."""
    starts = np.flatnonzero(np.diff(seconds, prepend=seconds[:1] - 1))
    counts = np.diff(np.append(starts, len(seconds)))
    runs = seconds[starts]
    seen: dict[int, int] = {}
    for k, (start, count, second) in enumerate(zip(starts, counts, runs, strict=True)):
        time = format_seconds(np.array([second]))[0]
        if count != CURRENT_RATE:
            message = f"second {time} has {count} rows of current, not {CURRENT_RATE}"
            found.append(Fault(str(path), _line(start), message))
        if int(second) in seen:
            message = f"second {time} is repeated; it stands in line {seen[int(second)]} already"
            found.append(Fault(str(path), _line(start), message))
        elif k and second < runs[k - 1]:
            found.append(_backwards(path, seconds, int(start)))
        seen.setdefault(int(second), _line(start))
    present = np.unique(seconds)
    for gap in np.flatnonzero(np.diff(present) > 1):
        absent = int(present[gap + 1] - present[gap]) - 1
        time = format_seconds(present[gap : gap + 1])[0]
        row = int(np.flatnonzero(seconds == present[gap])[-1])
        message = f"{absent} seconds of current are missing after {time}"
        found.append(Fault(str(path), _line(row), message))


def _check_times(path: Path, text: list[Any], seconds: Ints, found: list[Fault]) -> bool:
    bad = np.flatnonzero(seconds < 0)
    for row in bad:
        message = f"{text[row]!r} is no time; expected YYYY-MM-DD HH:MM:SS"
        found.append(Fault(str(path), _line(row), message))
    return not bad.size


def check_meeting(path: Path, seconds: Ints, known: Ints, found: list[Fault]) -> None:
    """Each frame's second must have current."""
    lost = np.flatnonzero((seconds >= 0) & ~np.isin(seconds, known))
    if lost.size:
        time = format_seconds(seconds[lost[:1]])[0]
        message = f"second {time} has no current ({lost.size} such frames in all)"
        found.append(Fault(str(path), _line(lost[0]), message))


def _backwards(path: Path, seconds: Ints, row: int) -> Fault:
    before, after = format_seconds(seconds[row - 1 : row + 1])
    return Fault(str(path), _line(row), f"out of order: {after} follows {before}")


def _line(row: int | np.integer[Any]) -> int:
    return int(row) + HEADER_LINES + 1
