"""One recording, and those that are stored in `.mat` files.

`fmbench.simulator.LazyRecording` is another kind: its frames are rendered on demand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from fmbench.format import columns, mat
from fmbench.format.columns import Currents
from fmbench.format.memory_map import MappedArray, any_pixel, highest_class, map_dataset
from fmbench.format.plant import read_plant
from fmbench.format.rates import other_current_rate, other_frame_rate
from fmbench.types import BENCHMARK, Plant

Index = NDArray[np.integer[Any]]
Bytes = NDArray[np.uint8]
_T = TypeVar("_T")


class Recording(Protocol):
    """Frames, masks, labels, times and currents of one furnace batch.

    Attributes:
        name: the file's stem, its name in lists and tables.
        plant: rates and channels of the data set.
        source: its file, or its folder.
        num_frames: N.
        size: (H, W) of a frame in pixels.
        transposed: whether frames are stored (W, H), as in the benchmark's files.
        has_labels: whether frames are labelled at all.
        has_masks: whether the labels are masks of pixels.
        has_currents: whether there is a log.
        synthetic: whether a simulator made it.
        classes: names of the K classes of its labels; class 0 is normal.
        seconds: (N,) int64, wall-clock second of each frame, since 1970.
        currents: every sample of current.
    """

    name: str
    plant: Plant
    source: Path
    num_frames: int
    size: tuple[int, int]
    transposed: bool
    has_labels: bool
    has_masks: bool
    synthetic: bool

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def has_currents(self) -> bool: ...

    @property
    def seconds(self) -> NDArray[np.int64]: ...

    @property
    def currents(self) -> Currents: ...

    def prepare(self, *, video: bool, masks: bool) -> None:
        """Unpack what cannot be read in place, and without `masks` compute all labels: once, before
        worker processes start.
        """

    def read_frames(self, index: Index, out: Bytes) -> None:
        """Frames at `index` (n,) into `out` (n, 3, H, W), or (n, 3, W, H) where transposed."""

    def read_masks(self, index: Index, out: Bytes) -> None:
        """Masks of class indices below K into `out` (n, H, W), or (n, W, H) where transposed."""

    def labels(self, index: Index) -> NDArray[np.bool_]:
        """(n,), abnormal where any pixel is (eq. 13: the mask's sum exceeds 0.5)."""

    def class_of(self, index: Index) -> NDArray[np.uint8]:
        """(n,) class of each frame below K: the highest one in its mask."""


class MatRecording:
    """`videos/<name>.mat`, with its times and currents in CSV files beside it.

    Args:
        path: the file, as `fmbench.format.mat` describes it.
        part: the folder with `timestamps/` and `currents/`.

    Raises:
        ValueError: the file is missing, no HDF5 file, or truncated, has other axes, or grey levels
            from 0 to 1; or the data set's root.yaml is wrong. Times and currents: also if they
            have another rate or other channels than root.yaml says.
    """

    transposed = True

    def __init__(self, path: Path, part: Path) -> None:
        self.name = mat.stem(path.name)
        self.plant = read_plant(part)
        self.source = path
        self.part = part
        self.label_source = path
        with mat.open_mat(path) as file:
            data, label = mat.frames_and_labels(path, file)
            mat.check_grey_levels(path, data)
            self.num_frames = int(data.shape[0])
            self.size = mat.frame_size(data)
            self.has_labels = label is not None
            self.has_masks = mat.holds_masks(data, label)
            self.synthetic = bool(file.attrs.get("synthetic", False))

    @cached_property
    def seconds(self) -> NDArray[np.int64]:
        path = columns.timestamps_file(self.part, self.name)
        seconds = columns.read_timestamps(path, self.num_frames)
        _refuse(path, other_frame_rate(seconds, self.plant))
        return seconds

    @property
    def classes(self) -> tuple[str, ...]:
        return self.plant.classes

    @property
    def has_currents(self) -> bool:
        return columns.currents_file(self.part, self.name).is_file()

    @cached_property
    def currents(self) -> Currents:
        path = columns.currents_file(self.part, self.name)
        currents = columns.read_currents(path, self.plant.channels)
        _refuse(path, other_current_rate(currents.seconds, self.plant))
        return currents

    @cached_property
    def _frames(self) -> MappedArray:
        with mat.open_mat(self.source) as file:
            return map_dataset(self.source, mat.frames_and_labels(self.source, file)[0])

    @cached_property
    def _masks(self) -> MappedArray:
        return self._from_label(map_dataset)

    @cached_property
    def _class(self) -> NDArray[np.uint8]:
        """(N,); with two classes, any value above 0 is abnormal (official-format 4.1)."""
        if len(self.classes) == 2:
            return self._from_label(any_pixel).view(np.uint8)
        return self._from_label(partial(highest_class, num_classes=len(self.classes)))

    def _from_label(self, read: Callable[[Path, h5py.Dataset], _T]) -> _T:
        with mat.open_mat(self.label_source) as file:
            label = file.get("label")
            if label is None:
                raise ValueError(f"{self.label_source} has no 'label'")
            return read(self.label_source, label)

    def prepare(self, *, video: bool, masks: bool) -> None:
        if video:
            _ = self._frames
        if masks:
            _ = self._masks
        if self.has_labels and not (masks and len(self.classes) == 2):
            _ = self._class  # of more than two classes, this checks every value

    def read_frames(self, index: Index, out: Bytes) -> None:
        self._frames.take(index, out)

    def read_masks(self, index: Index, out: Bytes) -> None:
        self._masks.take(index, out)
        if len(self.classes) == 2:
            np.minimum(out, 1, out=out)

    def labels(self, index: Index) -> NDArray[np.bool_]:
        return self._class[index] > 0

    def class_of(self, index: Index) -> NDArray[np.uint8]:
        return self._class[index]


class SingleFileRecording(MatRecording):
    """The older layout (4.1): `video`, `current`, `label`, `train_test_index` in one file.

    The file holds no times. Frame i is assumed to be i / 25 s after the start, and column i of
    `current` (3, N) to belong to frame i; two columns a second are used, as in the newer layout.
    Another data set's rates take the place of 25 and two. Its labels are normal and abnormal.
    """

    has_currents = True
    classes = BENCHMARK.classes

    @cached_property
    def seconds(self) -> NDArray[np.int64]:
        return (np.arange(self.num_frames) // self.plant.frame_rate).astype(np.int64)

    @cached_property
    def currents(self) -> Currents:
        values = mat.read_column(self.source, "current")
        if len(values) != self.num_frames:
            raise ValueError(
                f"{self.source}: 'current' has {len(values)} columns for {self.num_frames} frames"
            )
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0, 0])
            raise ValueError(f"{self.source}: 'current' column {row} is not finite")
        step = self.plant.frame_rate / self.plant.current_rate
        if step < 1:
            raise ValueError(
                f"{self.source}: 'current' has a column for each frame, which are fewer than the "
                f"{self.plant.current_rate:g} samples a second that root.yaml says"
            )
        kept = (np.arange(0, np.ceil(len(values) / step)) * step).astype(np.int64)
        return Currents(self.seconds[kept], values[kept].astype(np.float32))

    @cached_property
    def split(self) -> NDArray[np.int64]:
        """(N,) 0 = train, 1 = test."""
        split = mat.read_column(self.source, "train_test_index")[:, 0].astype(np.int64)
        if len(split) != self.num_frames or not np.isin(split, (0, 1)).all():
            raise ValueError(
                f"{self.source}: 'train_test_index' must hold 0 (train) or 1 (test) for each of "
                f"{self.num_frames} frames"
            )
        return split


def _refuse(path: Path, wrong: str | None) -> None:
    if wrong:
        raise ValueError(f"{path} {wrong}; correct root.yaml, or ingest the recording again")


def upright_frames(recording: Recording, index: Index) -> Bytes:
    """(n, 3, H, W) frames at `index` (n,), whatever the axes on disk."""
    out = np.empty((len(index), 3, *stored_size(recording)), np.uint8)
    recording.read_frames(index, out)
    return mat.upright(out) if recording.transposed else out


def upright_masks(recording: Recording, index: Index) -> Bytes:
    """(n, H, W) class indices of pixels at `index` (n,), whatever the axes on disk."""
    out = np.empty((len(index), *stored_size(recording)), np.uint8)
    recording.read_masks(index, out)
    return mat.upright(out) if recording.transposed else out


def stored_size(recording: Recording) -> tuple[int, int]:
    """The last two axes of a recording's frames on disk: (W, H) if transposed, else (H, W)."""
    height, width = recording.size
    return (width, height) if recording.transposed else (height, width)
