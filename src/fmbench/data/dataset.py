"""Windows, gathered a whole batch at a time.

Gathering uses numpy only: on small arrays and a busy machine, torch's threads take milliseconds to
synchronise a flip.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from fmbench.data.fit import Fit, memory_size
from fmbench.data.recording import Recording, stored_size
from fmbench.data.windows import Ints, Track, WindowSpec, align_currents, clip_index, current_index
from fmbench.format.columns import format_seconds
from fmbench.types import Batch, Modality


class WindowDataset(Dataset[Batch]):
    """Windows of some recordings; index i gives a window, ~i the same with its picture flipped.

    Args:
        recordings: of one frame size and one number of phases.
        frames: for each recording, (n,) label frames, in the windows' order.
        spec: a window's frames and samples.
        modality: which inputs a batch carries.
        upright: give frames (H, W); otherwise (W, H), as the released network was trained.
        fit: gives frames and masks another size; None: as stored.

    Raises:
        ValueError: a frame's second has no current and `spec.gaps` is positional, or recordings
            differ in the number of phases.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        frames: Sequence[Ints],
        spec: WindowSpec,
        modality: Modality,
        *,
        upright: bool = True,
        fit: Fit | None = None,
    ) -> None:
        self.recordings = recordings
        self.fit = fit
        self.size = memory_size(recordings[0], fit)  # the last two axes, in the order on disk
        self.spec = spec
        self.modality = modality
        self.masked = modality.has_video and all(r.has_masks for r in recordings)
        # Whether to swap the last two axes on disk, which are (W, H) in the benchmark's files.
        self.swapped = recordings[0].transposed == upright
        tracks = [
            align_currents(r.currents, r.seconds, spec) for r in recordings if modality.has_current
        ]
        kept = []
        for k, recording in enumerate(recordings):
            track = tracks[k] if tracks else None
            kept.append(_usable(recording, frames[k], spec, track, modality.has_video))
            recording.prepare(video=modality.has_video, masks=self.masked)
        self.which = np.repeat(np.arange(len(kept), dtype=np.int32), [len(part) for part in kept])
        self.frame = np.concatenate(kept).astype(np.int32)
        pairs = list(zip(recordings, kept, strict=True))
        self.second = np.concatenate([recording.seconds[part] for recording, part in pairs])
        self.label = None
        if not self.masked:
            self.label = np.concatenate([_labels(recording, part) for recording, part in pairs])
        if tracks:
            _check_phases(recordings, tracks)
            lengths = [len(track.values) for track in tracks]
            self.base = np.cumsum([0, *lengths[:-1]], dtype=np.int64)
            self.amperes = np.concatenate([track.values for track in tracks])
            self.end = np.concatenate(
                [
                    track.end[part] + base
                    for track, part, base in zip(tracks, kept, self.base, strict=True)
                ]
            )

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, index: int) -> Batch:
        """A batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Row k is window `indices[k]`."""
        given = np.asarray(indices, dtype=np.int64)
        flipped = given < 0
        index = np.where(flipped, ~given, given)
        which, frame = self.which[index], self.frame[index]
        video = self._clips(which, frame, flipped) if self.modality.has_video else None
        current = self._currents(index, which) if self.modality.has_current else None
        if self.label is not None:
            label, mask = torch.from_numpy(self.label[index]), None
        else:
            label, mask = self._masks(which, frame, flipped)
        recording = torch.from_numpy(which.astype(np.int64))
        return Batch(video, current, label, mask, recording, torch.from_numpy(self.second[index]))

    def evenly(self, count: int | None) -> Self:
        """The same windows, or `count` evenly spaced ones."""
        if count is None or count >= len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, count).astype(np.int64)
        fewer = copy.copy(self)
        fewer.which, fewer.frame = self.which[chosen], self.frame[chosen]
        fewer.second = self.second[chosen]
        if self.label is not None:
            fewer.label = self.label[chosen]
        if self.modality.has_current:
            fewer.end = self.end[chosen]
        return fewer

    def table(self) -> pd.DataFrame:
        """Recording, frame and time of each window."""
        names = np.array([recording.name for recording in self.recordings])
        return pd.DataFrame(
            {
                "recording": names[self.which],
                "frame": self.frame.astype(np.int64),
                "time": format_seconds(self.second),
            }
        )

    def _clips(self, which: Any, frame: Any, flipped: NDArray[np.bool_]) -> Tensor:
        """(B, 3, T, H, W) uint8, a view of memory in the file's order."""
        clip = clip_index(frame, self.spec.frames, self.spec.stride)
        shape = stored_size(self.recordings[0])
        memory = np.empty((*clip.shape, 3, *shape), np.uint8)
        for recording, rows in self.runs(which):
            recording.read_frames(clip[rows].ravel(), memory[rows].reshape(-1, 3, *shape))
        if self.fit:
            memory = self.fit.frames(torch.from_numpy(memory), self.size).numpy()
        return self._turned(memory, flipped).transpose(1, 2)

    def _masks(self, which: Any, frame: Any, flipped: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """(B,) int64 labels and (B, H, W) uint8 masks, class indices below K."""
        memory = np.empty((len(frame), *stored_size(self.recordings[0])), np.uint8)
        for recording, rows in self.runs(which):
            recording.read_masks(frame[rows], memory[rows])
        label = memory.max(axis=(1, 2)).astype(np.int64)  # K = 2, eq. (13): the sum exceeds 0.5
        if self.fit:
            memory = self.fit.masks(torch.from_numpy(memory), self.size).numpy()
        return torch.from_numpy(label), self._turned(memory, flipped)

    def _currents(self, index: Ints, which: Any) -> Tensor:
        """(B, L, C) float32."""
        samples, history = self.spec.current_samples, self.spec.history
        rows = current_index(self.end[index], self.base[which], samples, history)
        return torch.from_numpy(self.amperes[rows])

    @cached_property
    def backwards(self) -> NDArray[np.int64]:
        """Positions on the flipped axis in reverse; zeros of a `Fit` stay at the end."""
        axis = 0 if self.swapped else 1
        index = np.arange(self.size[axis])
        stop = stored_size(self.recordings[0])[axis] if self.padded else len(index)
        index[:stop] = index[:stop][::-1].copy()
        return index

    @property
    def padded(self) -> bool:
        return self.fit is not None and self.fit.way == "pad"

    def runs(self, which: NDArray[np.int32]) -> Iterator[tuple[Recording, slice]]:
        """Runs of `which`, (B,) positions in `recordings`, each of one recording."""
        starts = np.flatnonzero(np.diff(which, prepend=-1)).tolist()
        for start, stop in zip(starts, [*starts[1:], len(which)], strict=True):
            yield self.recordings[which[start]], slice(start, stop)

    def _turned(self, memory: NDArray[np.uint8], flipped: NDArray[np.bool_]) -> Tensor:
        """Flip the last axis of the output where `flipped`, then put the axes in order.

        Upright, this is a horizontal flip; otherwise it is the flip of the released loader, which
        reverses H (official-format, row 28).
        """
        upright = np.empty_like(memory[0])  # a window fits the CPU cache; the batch does not
        axis = -2 if self.swapped else -1
        for row in np.flatnonzero(flipped).tolist():
            np.copyto(upright, memory[row])
            if self.swapped:  # copies whole rows of pixels, in half the time of a flipped view
                np.take(upright, self.backwards, axis=axis, out=memory[row], mode="clip")
            else:
                memory[row] = upright[..., self.backwards]
        turned = torch.from_numpy(memory)
        return turned.transpose(-1, -2) if self.swapped else turned


def _check_phases(recordings: Sequence[Recording], tracks: Sequence[Track]) -> None:
    phases = [track.values.shape[1] for track in tracks]
    for recording, count in zip(recordings, phases, strict=True):
        if count != phases[0]:
            raise ValueError(
                f"{recording.name} has {count} phases of current, {recordings[0].name} has "
                f"{phases[0]}; recordings of one root must agree"
            )


def _usable(
    recording: Recording, frames: Ints, spec: WindowSpec, track: Track | None, video: bool
) -> Ints:
    """The label frames that have a window."""
    keep = np.ones(len(frames), np.bool_)
    if video and spec.early == "drop":
        keep &= frames >= (spec.frames - 1) * spec.stride
    if track is not None:
        lost = frames[~track.whole[frames]]
        if lost.size and spec.gaps == "positional":
            raise ValueError(
                f"{recording.name}: frame {lost[0]} and {lost.size - 1} more have a second without "
                "current; set gaps to hold or drop, or repair the files (`fmbench data check`)"
            )
        keep &= track.whole[frames]
        if spec.history == "drop":
            keep &= track.end[frames] >= spec.current_samples
    return frames[keep]


def _labels(recording: Recording, frames: Ints) -> Ints:
    """(n,) class indices; -1 throughout where the recording has no labels."""
    if not recording.has_labels:
        return np.full(len(frames), -1, np.int64)
    return recording.class_of(frames).astype(np.int64)


def already_collated(batch: Any) -> Any:
    """The collate function: `__getitems__` returns a whole batch."""
    return batch
