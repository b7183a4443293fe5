"""What can be read of a root, whatever cannot: recordings, lists, frames, described signals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import Recording, SingleFileRecording, upright_frames
from fmbench.data.root import Part, recordings_of
from fmbench.data.windows import Ints
from fmbench.files.yaml_json import read_json
from fmbench.format.lists import SPLITS, frame_list, list_file
from fmbench.format.mat import stem
from fmbench.prepare.ingest.align import (
    Described,
    describe_currents,
    describe_frame,
    describe_video,
)
from fmbench.types import CURRENT_RATE, FRAME_RATE

UNREADABLE = (ValueError, OSError, RuntimeError, KeyError)
"""What a damaged file raises, here or in h5py."""
_BLOCK_BYTES = 2**25
_LONGEST = 7 * 86400
"""Seconds that the times of one recording may span: more is a wrong date."""


def part_folders(root: Path) -> list[Path]:
    """The parts in `root`, or `root` where it is one."""
    inside = [root / part for part in get_args(Part) if (root / part).is_dir()]
    return inside or [root]


def open_recordings(folder: Path) -> tuple[list[Recording], dict[str, str]]:
    """The recordings of a part that can be opened, by name; and why the others cannot."""
    opened: dict[str, Recording] = {}
    refused: dict[str, str] = {}
    try:
        found = list(recordings_of(folder))
    except UNREADABLE:
        found = []  # a manifest that is no JSON: the check tells it
    for name, make in found:
        try:
            opened[name] = make()
        except UNREADABLE as error:
            refused[name] = str(error)
    return [opened[name] for name in sorted(opened)], refused


def lists_of(folder: Path, recordings: list[Recording]) -> dict[str, dict[str, Ints]]:
    """Split to recording name to sorted frames; what is wrong in a list is left out."""
    if recordings and isinstance(recordings[0], SingleFileRecording):
        return _lists_of_single_files(recordings)
    lengths = {each.name: each.num_frames for each in recordings}
    lists: dict[str, dict[str, Ints]] = {}
    for split in SPLITS:
        path = list_file(folder, split)
        try:
            content = read_json(path)
        except UNREADABLE:
            continue
        if not isinstance(content, dict):
            continue
        lists[split] = {}
        for key, value in content.items():
            name = stem(key)
            try:
                frames = frame_list(path, key, value)
            except ValueError:
                continue
            if name in lengths:
                lists[split][name] = frames[(frames >= 0) & (frames < lengths[name])]
    return lists


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
        ValueError, OSError: they cannot be read.
    """
    height, width = recording.size
    step = max(1, _BLOCK_BYTES // (3 * height * width))
    for start in range(0, len(index), step):
        yield from upright_frames(recording, index[start : start + step]).transpose(0, 2, 3, 1)


def frame_times(seconds: Ints) -> NDArray[np.float64]:
    """(N,) instants of frames of which the second is known.

    Raises:
        ValueError: the clock goes back, or one of its dates must be wrong.
    """
    if (np.diff(seconds) < 0).any():
        raise ValueError("its times go back")
    if seconds[-1] - seconds[0] > _LONGEST:
        raise ValueError("its times span more than a week")
    within = np.arange(len(seconds)) - np.searchsorted(seconds, seconds)
    return np.asarray(seconds + np.minimum(within / FRAME_RATE, 0.999))


def described(recording: Recording) -> tuple[Described, Described]:
    """A frame each half second, and the currents, as `fmbench.prepare.ingest.align` compares them.

    Raises:
        ValueError, OSError: files that cannot be read, or times that cannot be.
    """
    times = frame_times(recording.seconds)
    index = np.searchsorted(times, np.arange(times[0], times[-1], 0.5))
    index = np.unique(index.clip(max=len(times) - 1))
    if len(index) < 2:
        raise ValueError("it is shorter than a second")
    video = describe_video(times[index], (describe_frame(f) for f in frames_at(recording, index)))
    known, values = recording.currents
    first, last = int(known[0]), int(known[-1])
    if last - first > _LONGEST:
        raise ValueError("its currents span more than a week")
    rows = np.full((last - first + 1, CURRENT_RATE, values.shape[1]), np.nan)
    place = np.arange(len(known)) - np.searchsorted(known, known)
    kept = place < CURRENT_RATE
    rows[known[kept] - first, place[kept]] = values[kept]
    return video, describe_currents(np.arange(first, last + 1), rows)
