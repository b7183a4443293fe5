"""A data set's frames -> one compressed video for each recording."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import Recording, SingleFileRecording, upright_frames, upright_masks
from fmbench.data.root import recordings_of
from fmbench.files.staging import staged
from fmbench.format.mat import write_labels
from fmbench.format.video import (
    SUFFIX,
    Codec,
    frames_in_order,
    masks_file,
    probe,
    write_video,
)

_BLOCK = 256  # frames


class Packed(NamedTuple):
    """Sizes and loss of a packed data set."""

    recordings: int
    frames: int
    raw: int
    """Bytes of all frames, uncompressed."""
    videos: int
    """Bytes of all videos."""
    masks: int
    """Bytes of all files of masks."""
    error: float
    """Root mean square difference of a pixel's channel, in grey levels; 0 without loss."""


def pack(
    root: Path,
    parts: list[Path],
    out: Path,
    codec: Codec,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> Packed:
    """Copy a data set with videos in place of raw frames, each read back and compared.

    Lists, times, currents and a simulator's manifest are copied as they are.

    Args:
        root: the data set's folder.
        parts: its parts, folders in `root` or `root` itself.
        out: the folder to make; complete, or absent after an error.
        codec: ffv1 without loss, h264 with some.
        progress: receives frames done, frames in all, and the recording's name.

    Raises:
        ValueError: no recordings, one that cannot be read or is of the older single-file layout;
            `out` is not empty or lies in `root`; H.264 and an odd size; or FFV1 did not give back
            the same frames.
    """
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{out} lies in {root}, which is copied; give a folder outside")
    every = [(part, opened()) for part in parts for _, opened in recordings_of(part)]
    if not every:
        raise ValueError(f"{root} holds no recordings")
    for _, recording in every:
        if isinstance(recording, SingleFileRecording):
            raise ValueError(
                f"{recording.source} is of the older layout, without files of times and currents, "
                "and cannot be packed"
            )
    total, done = sum(recording.num_frames for _, recording in every), 0
    raw = videos = masks = 0
    squares = 0.0
    with staged(out) as folder:
        shutil.copytree(
            root, folder, ignore=shutil.ignore_patterns("videos", "masks"), dirs_exist_ok=True
        )
        for part, recording in every:
            target = folder / part.relative_to(root)
            video = target / "videos" / f"{recording.name}{SUFFIX[codec]}"
            size, synthetic = recording.size, recording.synthetic
            rate = recording.plant.frame_rate
            write_video(
                video, size, _frames(recording), codec, synthetic=synthetic, frame_rate=rate
            )
            squares += _squared_difference(video, recording)
            if codec == "ffv1" and squares:
                raise ValueError(f"{recording.name}: FFV1 did not give back the same frames")
            raw += recording.num_frames * 3 * size[0] * size[1]
            videos += video.stat().st_size
            if recording.has_labels:
                labels = masks_file(target, recording.name)
                shape = size if recording.has_masks else (1, 1)
                write_labels(labels, recording.num_frames, _labels(recording), shape)
                masks += labels.stat().st_size
            done += recording.num_frames
            progress(done, total, recording.name)
    error = float(np.sqrt(squares / raw))
    return Packed(len(every), total, raw, videos, masks, error)


def _blocks(recording: Recording) -> Iterator[NDArray[np.int64]]:
    for start in range(0, recording.num_frames, _BLOCK):
        yield np.arange(start, min(start + _BLOCK, recording.num_frames))


def _frames(recording: Recording) -> Iterator[NDArray[np.uint8]]:
    for index in _blocks(recording):
        yield upright_frames(recording, index)


def _labels(recording: Recording) -> Iterator[NDArray[np.uint8]]:
    for index in _blocks(recording):
        if recording.has_masks:
            yield upright_masks(recording, index)
        else:
            yield recording.class_of(index)[:, None, None]


def _squared_difference(video: Path, recording: Recording) -> float:
    """The sum over all pixels' channels."""
    found = 0.0
    for ours, theirs in zip(
        _frames(recording), frames_in_order(video, probe(video)), strict=True
    ):  # both in blocks of the same length
        found += float(np.square(ours.astype(np.int32) - theirs).sum())
    return found
