"""Reads whatever a damaged data set still holds: recordings, lists, frames, described signals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import Recording, SingleFileRecording, upright_frames
from fmbench.data.root import recordings_of
from fmbench.data.windows import Ints
from fmbench.format.lists import SPLITS, list_file
from fmbench.format.rates import in_amperes
from fmbench.page.traces import place_in_second
from fmbench.prepare.check import checked_list
from fmbench.prepare.faults import row_blocks
from fmbench.prepare.ingest.align import (
    Described,
    describe_currents,
    describe_frame,
    describe_video,
)
from fmbench.types import BENCHMARK

UNREADABLE = (ValueError, OSError, RuntimeError, KeyError)
"""Errors that reading a damaged file raises, here or in h5py."""
_LONGEST = 7 * 86400
"""Longest span of the times of one recording, in seconds: beyond it a date is wrong."""


def open_readable(folder: Path) -> tuple[list[Recording], dict[str, str]]:
    """Sorted recordings of a part that can be opened, and the error of each that cannot."""
    opened: dict[str, Recording] = {}
    refused: dict[str, str] = {}
    try:
        found = list(recordings_of(folder))
    except UNREADABLE:
        found = []  # the manifest is no JSON file: the check reports it
    for name, make in found:
        try:
            opened[name] = make()
        except UNREADABLE as error:
            refused[name] = str(error)
    return [opened[name] for name in sorted(opened)], refused


def lists_of(folder: Path, recordings: list[Recording]) -> dict[str, dict[str, Ints]]:
    """Split to recording name to (n,) sorted frames; wrong entries are left out."""
    if recordings and isinstance(recordings[0], SingleFileRecording):
        return _lists_of_single_files(recordings)
    lengths = {each.name: each.num_frames for each in recordings}
    paths = {split: list_file(folder, split) for split in SPLITS}
    return {
        split: checked_list(path, lengths, []) for split, path in paths.items() if path.is_file()
    }


def _lists_of_single_files(recordings: list[Recording]) -> dict[str, dict[str, Ints]]:
    lists: dict[str, dict[str, Ints]] = {"train": {}, "test": {}}
    for recording in recordings:
        try:
            split = recording.split if isinstance(recording, SingleFileRecording) else None
        except UNREADABLE:
            continue
        if split is not None:
            lists["train"][recording.name] = np.flatnonzero(split == 0)
            lists["test"][recording.name] = np.flatnonzero(split == 1)
    return lists


def frames_at(recording: Recording, index: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """Upright (H, W, 3) frames, read in blocks.

    Raises:
        ValueError, OSError: the file cannot be read.
    """
    height, width = recording.size
    for block in row_blocks(len(index), 3 * height * width):
        yield from upright_frames(recording, index[block]).transpose(0, 2, 3, 1)


def frame_times(seconds: Ints, frame_rate: float = BENCHMARK.frame_rate) -> NDArray[np.float64]:
    """(N,) time of each frame in seconds since 1970, from its whole second.

    Raises:
        ValueError: the clock goes back, or a date is wrong.
    """
    if (np.diff(seconds) < 0).any():
        raise ValueError("its times go back")
    if seconds[-1] - seconds[0] > _LONGEST:
        raise ValueError("its times span more than a week")
    return np.asarray(seconds + np.minimum(place_in_second(seconds) / frame_rate, 0.999))


def described(recording: Recording) -> tuple[Described, Described]:
    """A frame each half second, and the currents, as `fmbench.prepare.ingest.align` compares them.

    Raises:
        ValueError, OSError: a file cannot be read, its times cannot be used, or it has no current
            in A.
    """
    plant = recording.plant
    chosen = in_amperes(plant.channels)
    if chosen == []:
        raise ValueError("it has no currents in A")
    times = frame_times(recording.seconds, plant.frame_rate)
    index = np.searchsorted(times, np.arange(times[0], times[-1], 0.5))
    index = np.unique(index.clip(max=len(times) - 1))
    if len(index) < 2:
        raise ValueError("it is shorter than a second")
    video = describe_video(times[index], (describe_frame(f) for f in frames_at(recording, index)))
    known, values = recording.currents
    first, last = int(known[0]), int(known[-1])
    if last - first > _LONGEST:
        raise ValueError("its currents span more than a week")
    values, place = values[:, chosen], place_in_second(known)
    kept = place < plant.samples
    half = 2 * (known[kept] - first) + 2 * place[kept] // plant.samples
    rows = np.zeros((2 * (last - first + 1), values.shape[1]))
    np.add.at(rows, half, values[kept])
    count = np.bincount(half, minlength=len(rows))[:, None]
    means = np.where(count > 0, rows / count.clip(1), np.nan).reshape(-1, 2, values.shape[1])
    return video, describe_currents(np.arange(first, last + 1), means)
