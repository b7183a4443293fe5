"""One recording: frames and masks of a `.mat` file, or of a simulation rendered on demand.

Layout: official-format 4.1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import Currents, read_currents, read_timestamps
from fmbench.format.memory_map import MappedArray, any_pixel, map_dataset
from fmbench.types import CURRENT_RATE, FRAME_RATE

Index = NDArray[np.integer[Any]]
Bytes = NDArray[np.uint8]
_T = TypeVar("_T")


class Recording(Protocol):
    """Frames, masks, labels, times and currents of one furnace batch.

    Attributes:
        name: file stem, what the lists and tables call it.
        source: the file or folder that it comes from.
        num_frames: N.
        size: (H, W) of a frame in pixels.
        transposed: whether frames are stored (W, H), as the benchmark's files are.
        has_labels: whether frames are labelled at all.
        has_masks: whether the labels are masks of pixels.
        synthetic: whether a simulator made it.
        seconds: (N,) int64, wall-clock second of each frame, since 1970.
        currents: every sample of current.
    """

    name: str
    source: Path
    num_frames: int
    size: tuple[int, int]
    transposed: bool
    has_labels: bool
    has_masks: bool
    synthetic: bool

    @property
    def seconds(self) -> NDArray[np.int64]: ...

    @property
    def currents(self) -> Currents: ...

    def prepare(self, *, video: bool, masks: bool) -> None:
        """Unpack what cannot be read in place, and without `masks` work out all labels: once,
        before worker processes start.
        """

    def read_frames(self, index: Index, out: Bytes) -> None:
        """Frames at `index` (n,) into `out` (n, 3, H, W), or (n, 3, W, H) where transposed."""

    def read_masks(self, index: Index, out: Bytes) -> None:
        """Masks, zero where normal, into `out` (n, H, W), or (n, W, H) where transposed."""

    def labels(self, index: Index) -> NDArray[np.bool_]:
        """(n,), abnormal where any pixel is (eq. 13: the mask's sum exceeds 0.5)."""


class MatRecording:
    """`videos/<name>.mat`, with its times and currents in CSV files beside it.

    Args:
        path: the file; `data` is [T, 3, W, H] and `label` [T, W, H], or [T, 1, 1] for class-level
            labels, or absent, as h5py shows them.
        part: the folder that holds `timestamps/` and `currents/`.

    Raises:
        ValueError: the file is missing, no HDF5 file, truncated, or its axes are others.
    """

    transposed = True

    def __init__(self, path: Path, part: Path) -> None:
        self.name = stem(path)
        self.source = path
        self.part = part
        with open_mat(path) as file:
            data, label = frames_and_labels(path, file)
            self.num_frames = int(data.shape[0])
            self.size = (int(data.shape[3]), int(data.shape[2]))
            self.has_labels = label is not None
            self.has_masks = label is not None and label.shape[1:] == data.shape[2:]
            self.synthetic = bool(file.attrs.get("synthetic", False))

    @cached_property
    def seconds(self) -> NDArray[np.int64]:
        return _frame_seconds(self)

    @cached_property
    def currents(self) -> Currents:
        return read_currents(currents_file(self))

    @cached_property
    def _frames(self) -> MappedArray:
        with open_mat(self.source) as file:
            return map_dataset(self.source, frames_and_labels(self.source, file)[0])

    @cached_property
    def _masks(self) -> MappedArray:
        return self._from_label(map_dataset)

    @cached_property
    def _abnormal(self) -> NDArray[np.bool_]:
        return self._from_label(any_pixel)

    def _from_label(self, read: Callable[[Path, h5py.Dataset], _T]) -> _T:
        with open_mat(self.source) as file:
            label = frames_and_labels(self.source, file)[1]
            if label is None:
                raise ValueError(f"{self.source} has no 'label'")
            return read(self.source, label)

    def prepare(self, *, video: bool, masks: bool) -> None:
        if video:
            _ = self._frames
        if masks:
            _ = self._masks
        elif self.has_labels:
            _ = self._abnormal

    def read_frames(self, index: Index, out: Bytes) -> None:
        self._frames.take(index, out)

    def read_masks(self, index: Index, out: Bytes) -> None:
        self._masks.take(index, out)

    def labels(self, index: Index) -> NDArray[np.bool_]:
        return self._abnormal[index]


class SingleFileRecording(MatRecording):
    """The older layout: `video`, `current`, `label`, `train_test_index` in one file (4.1).

    The file holds no times. Frame i is taken to be shot i / 25 s after the start, and column i of
    `current` (3, N) to belong to frame i; two columns a second are kept, as in the newer layout.
    """

    @cached_property
    def seconds(self) -> NDArray[np.int64]:
        return (np.arange(self.num_frames) // FRAME_RATE).astype(np.int64)

    @cached_property
    def currents(self) -> Currents:
        values = self._column("current")
        if len(values) != self.num_frames:
            raise ValueError(
                f"{self.source}: 'current' has {len(values)} columns for {self.num_frames} frames"
            )
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise ValueError(f"{self.source}: 'current' column {row} is not finite")
        step = FRAME_RATE / CURRENT_RATE
        kept = (np.arange(0, np.ceil(len(values) / step)) * step).astype(np.int64)
        return Currents(self.seconds[kept], values[kept].astype(np.float32))

    @cached_property
    def split(self) -> NDArray[np.int64]:
        """(N,) 0 = train, 1 = test."""
        split = self._column("train_test_index")[:, 0].astype(np.int64)
        if len(split) != self.num_frames or not np.isin(split, (0, 1)).all():
            raise ValueError(
                f"{self.source}: 'train_test_index' must hold 0 (train) or 1 (test) for each of "
                f"{self.num_frames} frames"
            )
        return split

    def _column(self, key: str) -> NDArray[Any]:
        with open_mat(self.source) as file:
            if key not in file:
                raise ValueError(f"{self.source} has no {key!r}; it has {', '.join(file)}")
            return np.atleast_2d(file[key][()])


class LazyRecording:
    """A simulated recording without frames on disk: they are rendered as they are read.

    Args:
        part: a folder that `fmbench.simulator.is_lazy` accepts.
        name: the recording's.
    """

    transposed = False
    has_labels = True
    has_masks = True
    synthetic = True

    def __init__(self, part: Path, name: str) -> None:
        self.name = name
        self.source = part
        self.part = part
        self.num_frames = len(self._camera)
        height, width = self._camera.size
        self.size = (int(height), int(width))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_camera"}

    @cached_property
    def seconds(self) -> NDArray[np.int64]:
        return _frame_seconds(self)

    @cached_property
    def currents(self) -> Currents:
        return read_currents(currents_file(self))

    @cached_property
    def _camera(self) -> Any:
        from fmbench.simulator import open_lazy

        return open_lazy(self.part, self.name)

    @cached_property
    def _labels(self) -> NDArray[np.bool_]:
        return np.asarray(self._camera.labels(), dtype=np.bool_)

    def prepare(self, *, video: bool, masks: bool) -> None:
        """Nothing to unpack."""

    def read_frames(self, index: Index, out: Bytes) -> None:
        out[...] = self._camera.frames(index)

    def read_masks(self, index: Index, out: Bytes) -> None:
        out[...] = self._camera.masks(index)

    def labels(self, index: Index) -> NDArray[np.bool_]:
        return self._labels[index]


def stem(path: Path) -> str:
    """A recording's name: everything before the first dot (official-format 4)."""
    return path.name.split(".", 1)[0]


def timestamps_file(recording: MatRecording | LazyRecording) -> Path:
    return recording.part / "timestamps" / f"{recording.name}.csv"


def currents_file(recording: MatRecording | LazyRecording) -> Path:
    return recording.part / "currents" / f"{recording.name}.csv"


def _frame_seconds(recording: MatRecording | LazyRecording) -> NDArray[np.int64]:
    path = timestamps_file(recording)
    seconds = read_timestamps(path)
    if len(seconds) != recording.num_frames:
        raise ValueError(
            f"{path} has {len(seconds)} rows for the {recording.num_frames} frames of "
            f"{recording.name}; one row per frame is needed"
        )
    return seconds


def open_mat(path: Path) -> h5py.File:
    """Open a MATLAB v7.3 file.

    Raises:
        ValueError: it is missing, truncated or no HDF5 file.
    """
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except OSError as error:
        reason = str(error)
        if "truncated" in reason:
            raise ValueError(f"{path} is truncated ({reason}); copy it again") from None
        if "signature" in reason:
            raise ValueError(f"{path} is no HDF5 file; MATLAB must save it with -v7.3") from None
        raise ValueError(f"{path} cannot be read: {reason}") from None


def frames_and_labels(path: Path, file: h5py.File) -> tuple[h5py.Dataset, h5py.Dataset | None]:
    """The datasets `data` (or `video`) and `label`, their axes checked.

    Raises:
        ValueError: no frames, or axes other than [T, 3, W, H] and [T, W, H].
    """
    try:
        keys = ", ".join(map(str, file)) or "nothing"
        data, label = file.get("data", file.get("video")), file.get("label")
    except (OSError, RuntimeError, KeyError) as error:  # h5py's, of damage in what is no pixel
        raise ValueError(f"{path} is damaged ({error}); copy it again") from None
    if not isinstance(data, h5py.Dataset):
        raise ValueError(f"{path} has no 'data' (or 'video'); it holds {keys}")
    if data.ndim != 4 or data.shape[1] != 3:
        raise ValueError(
            f"{path}: '{data.name[1:]}' is {list(data.shape)}; expected [T, 3, W, H] as h5py shows "
            "it, which is [H W 3 T] in MATLAB"
        )
    if label is None:
        return data, None
    frames, sides = data.shape[0], data.shape[2:]
    if not isinstance(label, h5py.Dataset) or label.ndim != 3:
        raise ValueError(f"{path}: 'label' must be a dataset [T, W, H] or [T, 1, 1]")
    if label.shape[1:] not in (sides, (1, 1)):
        raise ValueError(
            f"{path}: 'label' is {list(label.shape)}; with frames of {list(sides)} (W, H) it must "
            f"be {[frames, *sides]}, or {[frames, 1, 1]} for class-level labels"
        )
    if label.shape[0] != frames:
        raise ValueError(f"{path} has {frames} frames but {label.shape[0]} labels")
    return data, label
