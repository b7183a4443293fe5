"""Faults of the files of one recording, each with its kind, its row and its remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum, unique
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.data.video_recording import VideoRecording
from fmbench.data.windows import Ints
from fmbench.format.columns import (
    HEADER_LINES,
    format_seconds,
    parse_amperes,
    parse_seconds,
    read_columns,
)
from fmbench.format.mat import check_grey_levels, frames_and_labels, open_mat
from fmbench.format.memory_map import no_class
from fmbench.format.rates import other_channels, other_current_rate, other_frame_rate
from fmbench.format.video import frames_in_order, masks_file, probe
from fmbench.types import BENCHMARK, Plant

T = TypeVar("T")

_BLOCK_BYTES = 2**25


@unique
class Kind(Enum):
    """What is wrong. Two faults are of one kind if they have the same remedy.

    Attributes:
        remedy: what to do, in a sentence.
        warning: the files can be used, but the fault changes what results mean.
    """

    NO_RECORDINGS = "Ingest or annotate recordings first: fmbench data ingest --help."
    MISSING_FILE = "Add the file, or remove what belongs to it."
    SAME_NAME = "Rename one of the two."
    MANIFEST = "Repair the file, or simulate the data set again: fmbench data simulate."
    SIMULATED = "Simulate the data set again: fmbench data simulate."
    # videos/*.mat
    UNREADABLE_MAT = "Copy the file again; MATLAB must save it with -v7.3."
    DAMAGED = "Copy the file again; if it is damaged at its source, leave the recording out."
    DATASETS = "Write 'data' [T, 3, W, H] and 'label' [T, W, H] or [T, 1, 1], or copy it again."
    UNLABELLED = "Label it: fmbench data annotate; or move it to unlabelled/."
    PIXEL_VALUES = "Write the frames as whole numbers from 0 to 255."
    FRAME_SIZE = "Ingest the recording again, or correct frame_size in root.yaml."
    MASK_VALUES = "Write masks of 0 and 1."
    CLASS_VALUES = "Write class indices, from 0 for normal, or name all classes in root.yaml."
    PLANT = "Correct root.yaml."
    SINGLE_FILE_CURRENT = "Write 'current' [T, 3] with finite amperes for each frame."
    SINGLE_FILE_SPLIT = "Write 'train_test_index' [T, 1] with 0 (train) or 1 (test)."
    CAMERA = "Leave that time out of the lists, or the recording out; look at the camera."
    # timestamps/*.csv and currents/*.csv
    TABLE = "Write a header line, and in each row a time and, for currents, at least one phase."
    TIME = "Correct the time in this row."
    NOT_FINITE = "Repair the row, or delete its second and train with --data.gaps hold."
    PHASES = "Write the same phases for all recordings."
    RATE = "Correct root.yaml, or ingest the recording again."
    CHANNELS = "Write these columns in this order, or correct root.yaml."
    ROW_COUNT = "Write one row for each frame, or ingest the recording again."
    OUT_OF_ORDER = "Sort the rows by time, or ingest the recording again."
    ODD_ROWS = "Add or remove a row; every second needs as many: two, or as root.yaml says."
    REPEATED_SECOND = "Remove the repeated rows."
    INCOMPLETE_CURRENT = "Train with --data.gaps hold or drop, or repair the log."
    NO_CURRENT = "Train with --data.gaps hold or drop, or list no frame of that second."
    PHASE = "Leave that time out of the lists, or the recording out; look at the transducer."
    AMPERES = "Write the currents in amperes: check the unit, and the scale of each phase."
    FURNACE_OFF = "Nothing, if the furnace was off; else look at the transducers.", True
    # train.json, val.json, test.json
    MISSING_LIST = "Write it: fmbench data select ROOT."
    LIST_FORMAT = 'Write one object, {"NAME.mat": [frame, ...]}, or run fmbench data select ROOT.'
    UNKNOWN_RECORDING = "Correct the name, or take it out of the list."
    LISTED_TWICE = "List each frame once."
    OUTSIDE = "List only frames that the recording has."
    IN_TWO_LISTS = "Take them out of one list: fmbench data select ROOT --replace."
    IN_NO_LIST = "Nothing, if it is meant; otherwise fmbench data select ROOT --replace.", True
    REACHES_BACK = "Leave a longer gap between the lists: fmbench data select ROOT --replace.", True

    def __init__(self, remedy: str, warning: bool = False) -> None:
        self.remedy = remedy
        self.warning = warning

    def at(
        self,
        path: Path,
        message: str,
        row: int | np.integer[Any] | None = None,
        *,
        harmless: bool = False,
    ) -> Fault:
        """A fault of this kind in the file or folder `path`."""
        return Fault(str(path), None if row is None else int(row), message, self, harmless)


class Fault(NamedTuple):
    """One fault of a data set.

    Attributes:
        file: where.
        row: line of a CSV file (its header is line 1), frame of a .mat file, or listed frame of a
            JSON file; None for the file as a whole.
        message: what is wrong here.
        kind: carries the remedy.
        harmless: no window that is listed for training or evaluation holds it.
    """

    file: str
    row: int | None
    message: str
    kind: Kind
    harmless: bool = False

    @property
    def warning(self) -> bool:
        return self.kind.warning or self.harmless

    @property
    def position(self) -> str:
        """Line or frame with its unit; empty for the file as a whole."""
        if self.row is None:
            return ""
        unit = {".csv": "line", ".mat": "frame", ".json": "frame"}
        return f"{unit.get(Path(self.file).suffix, 'row')} {self.row}"

    def __str__(self) -> str:
        place = ", ".join(filter(None, (self.file, self.position)))
        warning = "warning: " if self.warning else ""
        return f"{place}: {warning}{sentence(self.message)} {self.kind.remedy}"


def sentence(text: str) -> str:
    """`text` with a full stop, unless it ends with one or with a question mark."""
    text = text.strip()
    return text if text.endswith((".", "?")) else f"{text}."


def attempt(
    kind: Kind, path: Path, found: list[Fault], act: Callable[..., T], *args: Any
) -> T | None:
    """Result of `act(*args)`; if it cannot read `path`, None, and a fault of `kind` is added."""
    try:
        return act(*args)
    except (ValueError, OSError) as error:
        found.append(kind.at(path, str(error).removeprefix(str(path)).lstrip(":, ")))
        return None


def row_blocks(length: int, row_bytes: int) -> Iterator[slice]:
    """Consecutive slices of `length` rows, each of at most 32 MB (or one row)."""
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, length, step):
        yield slice(start, start + step)


def check_mat(path: Path, found: list[Fault], num_classes: int = 2) -> int | None:
    """Number of frames; None if the file cannot be read or its axes are wrong.

    Args:
        path: the file.
        found: faults are added to it.
        num_classes: K, of the labels.

    Raises:
        ValueError: a dataset is damaged.
    """
    opened = attempt(Kind.UNREADABLE_MAT, path, found, open_mat, path)
    if opened is None:
        return None
    with opened as file:
        datasets = attempt(Kind.DATASETS, path, found, frames_and_labels, path, file)
        if datasets is None:
            return None
        data, label = datasets
        if label is None and path.parent.parent.name != "unlabelled":
            found.append(Kind.UNLABELLED.at(path, "has no 'label'"))
        attempt(Kind.PIXEL_VALUES, path, found, check_grey_levels, path, data)
        if data.chunks or data.dtype != np.uint8:  # contiguous bytes cannot be wrong
            message = "values outside 0-255"
            _check_values(Kind.PIXEL_VALUES, path, data, _no_grey_level, found, message)
        if label is not None:
            _check_labels(path, label, num_classes, found)
        return int(data.shape[0])


def check_video(path: Path, part: Path, found: list[Fault]) -> int:
    """Number of frames, all of which are decoded.

    Raises:
        ValueError: a frame or a label cannot be read.
    """
    recording = VideoRecording(path, part)
    for _ in frames_in_order(path, probe(path)):
        pass
    if recording.has_labels:
        with open_mat(recording.label_source) as file:
            count = len(recording.classes)
            _check_labels(recording.label_source, file["label"], count, found)
    elif part.name != "unlabelled":
        found.append(Kind.UNLABELLED.at(path, f"has no {masks_file(part, recording.name)}"))
    return recording.num_frames


def _no_grey_level(block: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(~((block >= 0) & (block <= 255)))


def _not_binary(block: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(~((block == 0) | (block == 1)))


def _check_labels(path: Path, label: h5py.Dataset, num_classes: int, found: list[Fault]) -> None:
    if num_classes == 2:
        message = "mask values other than 0 and 1; any value of 1 or more is read as 1"
        _check_values(Kind.MASK_VALUES, path, label, _not_binary, found, message)
        return
    message = f"labels that are no class; root.yaml has {num_classes}, 0 to {num_classes - 1}"
    wrong = partial(no_class, num_classes=num_classes)
    _check_values(Kind.CLASS_VALUES, path, label, wrong, found, message)


def _check_values(
    kind: Kind,
    path: Path,
    dataset: h5py.Dataset,
    wrong: Callable[[NDArray[Any]], NDArray[np.bool_]],
    found: list[Fault],
    message: str,
) -> None:
    first, count = None, 0
    row_bytes = int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize
    for place in row_blocks(dataset.shape[0], row_bytes):
        try:
            block = dataset[place]
        except OSError as error:
            message = f"{dataset.name!r} is damaged here: {error}"
            found.append(Kind.DAMAGED.at(path, message, place.start))
            return
        frames = np.flatnonzero(wrong(block).any(axis=tuple(range(1, block.ndim))))
        if frames.size and first is None:
            first = place.start + int(frames[0])
        count += frames.size
    if first is not None:
        found.append(kind.at(path, f"{message} ({count} frames)", first))


def check_timestamps(
    path: Path, frames: int | None, found: list[Fault], plant: Plant = BENCHMARK
) -> Ints | None:
    """(N,) second of each frame, -1 where unreadable; None where rows do not match frames."""
    table = _read_table(path, found)
    if table is None:
        return None
    if frames is not None and len(table) != frames:
        found.append(Kind.ROW_COUNT.at(path, f"{len(table)} rows for {frames} frames"))
    seconds = parse_seconds(table.iloc[:, 0])
    if _check_times(path, table.iloc[:, 0].tolist(), seconds, found):
        for row in np.flatnonzero(np.diff(seconds) < 0):
            found.append(_backwards(path, seconds, int(row) + 1))
        if wrong := other_frame_rate(seconds, plant):
            found.append(Kind.RATE.at(path, wrong))
    return seconds if len(seconds) == frames else None


def check_currents(
    path: Path, phases: dict[str, int], found: list[Fault], plant: Plant = BENCHMARK
) -> Ints | None:
    """Seconds that have current; None where the file cannot be read."""
    table = _read_table(path, found)
    if table is None:
        return None
    if table.shape[1] < 2 or table.empty:
        found.append(Kind.TABLE.at(path, f"{len(table)} rows of {table.shape[1]} columns"))
        return None
    phases[path.stem] = table.shape[1] - 1
    if wrong := other_channels([*table.columns[1:]], plant.channels):
        found.append(Kind.CHANNELS.at(path, wrong, 1))
    for row, column in np.argwhere(~np.isfinite(parse_amperes(table))):
        message = f"current {str(table.iloc[row, column + 1])!r} is no finite number"
        found.append(Kind.NOT_FINITE.at(path, message, line_of(row)))
    seconds = parse_seconds(table.iloc[:, 0])
    if not _check_times(path, table.iloc[:, 0].tolist(), seconds, found):
        return seconds[seconds >= 0]
    if wrong := other_current_rate(np.sort(seconds), plant):
        found.append(Kind.RATE.at(path, wrong))
        return seconds  # every second is wrong
    if len(seconds) % plant.samples:
        message = f"{len(seconds)} rows of current are no multiple of {plant.samples}"
        if plant.samples == 2:
            message = f"odd number of current rows ({len(seconds)})"
        found.append(Kind.ODD_ROWS.at(path, message, line_of(len(seconds) - 1)))
    _check_groups(path, seconds, plant, found)
    return seconds


def _read_table(path: Path, found: list[Fault]) -> pd.DataFrame | None:
    if not path.exists():
        found.append(Kind.MISSING_FILE.at(path, "is missing"))
        return None
    return attempt(Kind.TABLE, path, found, read_columns, path)


def _check_groups(path: Path, seconds: Ints, plant: Plant, found: list[Fault]) -> None:
    """Seconds with another number of rows than the plant's, repeated, out of order, or missing."""
    starts = np.flatnonzero(np.diff(seconds, prepend=seconds[:1] - 1))
    counts = np.diff(np.append(starts, len(seconds)))
    runs = seconds[starts]
    seen: dict[int, int] = {}
    for k, time in enumerate(format_seconds(runs)):
        second, line = int(runs[k]), line_of(starts[k])
        if counts[k] != plant.samples:
            message = f"second {time} has {counts[k]} rows of current, not {plant.samples}"
            found.append(Kind.INCOMPLETE_CURRENT.at(path, message, line))
        if second in seen:
            message = f"second {time} is repeated; line {seen[second]} has it already"
            found.append(Kind.REPEATED_SECOND.at(path, message, line))
        elif k and second < runs[k - 1]:
            found.append(_backwards(path, seconds, int(starts[k])))
        seen.setdefault(second, line)
    present = np.unique(seconds)
    gaps = np.flatnonzero(np.diff(present) != plant.period)
    for gap, time in zip(gaps, format_seconds(present[gaps]), strict=True):
        step = int(present[gap + 1] - present[gap])
        message = f"{step - plant.period} seconds of current are missing after {time}"
        if step < plant.period:
            message = f"the row after {time} follows after {step} s, not {plant.period}"
        row = np.flatnonzero(seconds == present[gap])[-1]
        found.append(Kind.INCOMPLETE_CURRENT.at(path, message, line_of(row)))


def _check_times(path: Path, text: list[Any], seconds: Ints, found: list[Fault]) -> bool:
    bad = np.flatnonzero(seconds < 0)
    for row in bad:
        message = f"{text[row]!r} is no time; expected YYYY-MM-DD HH:MM:SS"
        found.append(Kind.TIME.at(path, message, line_of(row)))
    return not bad.size


def check_meeting(
    path: Path, seconds: Ints, known: Ints, found: list[Fault], plant: Plant = BENCHMARK
) -> None:
    """Each frame's second, or one of the period that it ends, must have current."""
    present = np.append(-1, np.unique(known))  # a second before all
    latest = present[np.searchsorted(present, seconds, side="right") - 1]
    lost = np.flatnonzero((seconds >= 0) & ((latest < 0) | (seconds - latest >= plant.period)))
    if lost.size:
        [time] = format_seconds(seconds[lost[:1]])
        message = f"second {time} has no current ({lost.size} such frames in all)"
        found.append(Kind.NO_CURRENT.at(path, message, line_of(lost[0])))


def _backwards(path: Path, seconds: Ints, row: int) -> Fault:
    before, after = format_seconds(seconds[row - 1 : row + 1])
    return Kind.OUT_OF_ORDER.at(path, f"out of order: {after} follows {before}", line_of(row))


def line_of(row: int | np.integer[Any]) -> int:
    """Line of a CSV file that holds data row `row`."""
    return int(row) + HEADER_LINES + 1
