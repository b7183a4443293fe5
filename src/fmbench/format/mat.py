"""`videos/<name>.mat`: the frames and labels of one recording, in MATLAB's v7.3 (HDF5) layout.

On disk, as h5py shows it (official-format 4.1): `data` (T, 3, W, H) uint8, and `label` (T, W, H) of
0 and 1, or of class indices 0..K-1 where `root.yaml` names K > 2 classes; (T, 1, 1) where only the
class of a frame is labelled; or absent. MATLAB shows [H W 3 T] and [H W T]. In memory, frames are
upright: (n, 3, H, W), masks (n, H, W).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

Labels = Literal["masks", "classes"]
_CHUNK = 25  # frames in a chunk of written labels, at most


def video_file(part: Path, name: str) -> Path:
    return part / "videos" / f"{name}.mat"


def mat_files(folder: Path) -> list[Path]:
    """The `.mat` files of a folder, sorted by name (the official order is the OS's)."""
    return sorted(path for path in folder.glob("*.mat") if not path.name.startswith("."))


def stem(file: str) -> str:
    """A file name up to its first dot: the name of its recording (official-format 4)."""
    return file.split(".", 1)[0]


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
    except (OSError, RuntimeError, KeyError) as error:  # h5py's, for damage outside the pixels
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


def check_grey_levels(path: Path, data: h5py.Dataset) -> None:
    """Raises: ValueError: frames are floats of 0 to 1, which would all be read as black; a first, a
    middle and a last frame are looked at."""
    if data.dtype.kind != "f" or not len(data):
        return
    rows = sorted({0, len(data) // 2, len(data) - 1})
    highest = max(float(read_stored(path, data, row, row + 1).max()) for row in rows)
    if 0 < highest <= 1:
        raise ValueError(
            f"{path}: '{data.name[1:]}' holds numbers from 0 to {highest:.3g}, which would be read "
            "as black; write grey levels from 0 to 255 (MATLAB: im2uint8)"
        )


def label_shape(path: Path) -> tuple[int, ...]:
    """The shape of `label` in a file that holds labels alone.

    Raises:
        ValueError: the file has none, or cannot be opened.
    """
    with open_mat(path) as file:
        label = file.get("label")
        if not isinstance(label, h5py.Dataset):
            raise ValueError(f"{path} has no 'label'; it holds {', '.join(file) or 'nothing'}")
        return tuple(map(int, label.shape))


def write_labels(
    path: Path, count: int, labels: Iterable[NDArray[Any]], shape: tuple[int, int]
) -> None:
    """Write `label` alone, compressed: blocks of masks (n, H, W), or of classes (n, 1, 1).

    Args:
        path: the file.
        count: T, the number of frames.
        labels: consecutive blocks.
        shape: (H, W), or (1, 1) for classes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        dataset, at = _create_label(file, count, shape), 0
        for block in labels:
            write_rows(dataset, at, block)
            at += len(block)
        assert at == count, f"{at} of {count} labels were written"


def frame_size(data: h5py.Dataset) -> tuple[int, int]:
    """(H, W) in pixels."""
    return int(data.shape[3]), int(data.shape[2])


def holds_masks(data: h5py.Dataset, label: h5py.Dataset | None) -> bool:
    """Whether the labels are masks of pixels, not classes of frames."""
    return label is not None and label.shape[1:] == data.shape[2:]


def read_column(path: Path, key: str) -> NDArray[Any]:
    """(N, C) of `current` or `train_test_index` in the older single-file layout (4.1).

    Raises:
        ValueError: the file has no such dataset, or cannot be opened.
    """
    with open_mat(path) as file:
        if key not in file:
            raise ValueError(f"{path} has no {key!r}; it has {', '.join(file)}")
        return np.atleast_2d(file[key][()])


def read_stored(path: Path, dataset: h5py.Dataset, start: int, stop: int) -> NDArray[Any]:
    """Rows [start, stop) of a dataset in its own type and axes.

    Raises:
        ValueError: the file is damaged there.
    """
    try:
        rows: NDArray[Any] = dataset[start:stop]
    except OSError as error:
        raise ValueError(
            f"{path}: {dataset.name!r} is damaged at or after frame {start}: {error}"
        ) from None
    return rows


def read_rows(path: Path, dataset: h5py.Dataset, start: int, stop: int) -> NDArray[np.uint8]:
    """Frames or masks [start, stop) of a file, upright: (n, 3, H, W) or (n, H, W).

    Raises:
        ValueError: the file is damaged there.
    """
    return upright(read_stored(path, dataset, start, stop).astype(np.uint8, copy=False))


def upright(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(..., W, H) -> (..., H, W), a view; its own inverse."""
    return stored.swapaxes(-1, -2)


def block_starts(dataset: h5py.Dataset, values: int) -> range:
    """Starts of blocks of rows, each of about `values` values and of whole chunks; the range's step
    is a block's length."""
    count = int(dataset.shape[0])
    chunk = int(dataset.chunks[0]) if dataset.chunks else 1
    row = max(1, int(np.prod(dataset.shape[1:])))
    return range(0, count, chunk * max(1, values // (chunk * row)))


def write_mat(
    path: Path,
    count: int,
    size: tuple[int, int],
    blocks: Iterable[tuple[NDArray[np.uint8], NDArray[Any] | None]],
    *,
    labels: Labels | None,
    synthetic: bool = False,
) -> None:
    """Write T = `count` frames of `size` (H, W), contiguous so that they can be mapped.

    `blocks` gives consecutive frames (n, 3, H, W), with their masks (n, H, W), classes (n,) or None
    as `labels` tells.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        if synthetic:
            file.attrs["synthetic"] = 1
        data = file.create_dataset("data", (count, 3, *size[::-1]), np.uint8)
        label = None
        if labels is not None:
            label = _create_label(file, count, size if labels == "masks" else (1, 1))
        at = 0
        for frames, labelled in blocks:
            write_rows(data, at, frames)
            if label is not None and labelled is not None:
                write_rows(label, at, labelled.reshape(len(frames), *label.shape[:0:-1]))
            at += len(frames)
        assert at == count, f"{at} of {count} frames were written"


@contextmanager
def new_label(path: Path, count: int, size: tuple[int, int]) -> Iterator[h5py.Dataset]:
    """Replace the labels of a file by masks, all zero, to be filled by `write_rows`."""
    with h5py.File(path, "r+") as file:
        if "label" in file:
            del file["label"]  # HDF5 reuses its space
        yield _create_label(file, count, size)


def write_rows(dataset: h5py.Dataset, start: int, rows: NDArray[Any]) -> None:
    """Write upright frames or masks from row `start` on."""
    dataset[start : start + len(rows)] = upright(rows)


def _create_label(file: h5py.File, count: int, size: tuple[int, int]) -> h5py.Dataset:
    """Chunks have one fixed shape, so that the layout does not depend on the labels."""
    return file.create_dataset(
        "label",
        (count, *size[::-1]),
        np.uint8,
        chunks=(min(_CHUNK, count), *size[::-1]),
        compression="gzip",
        compression_opts=1,
    )
