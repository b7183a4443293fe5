"""Frames stay on disk: rows of an HDF5 dataset through a memory map, within a budget of pages.

A contiguous dataset is mapped where it lies. Any other (MATLAB's -v7.3 default is chunked and
compressed) is unpacked once into a cache folder and mapped there. Which of many masks have a pixel
is kept there too.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import h5py
import numpy as np
from numpy.typing import NDArray

from fmbench.files.atomic import in_one_step

# Mapped pages count as resident memory. A fault maps the 64 KiB around it (Linux's
# fault_around_bytes), so a row counts as at least that much.
PAGE_BUDGET = 192 * 2**20
_FAULT = 64 * 2**10
DAY = 24 * 3600  # seconds; a half that nobody writes to for so long is of a process that was killed
UNUSED = 30 * DAY  # after which what is kept goes
AT_ONCE = 2**24  # masks of so many pixels are looked through in a moment: nothing is kept
_UNPACKED = re.compile(r".+-[0-9a-f]{16}-[0-9a-f]{16}\.raw")


class MappedArray:
    """(N, ...) uint8 in a file, read by rows. Opened on first use, in the process that uses it.

    Args:
        path: the file.
        offset: where row 0 begins, in bytes.
        shape: (N, ...).
    """

    _open: ClassVar[WeakSet[MappedArray]] = WeakSet()
    _touched: ClassVar[int] = 0

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...]) -> None:
        self.path = path
        self.offset = offset
        self.shape = shape
        self._map: mmap.mmap | None = None
        self._rows: NDArray[np.uint8] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "_rows": None}

    def take(self, index: NDArray[np.integer[Any]], out: NDArray[np.uint8]) -> None:
        """Copy the rows at `index` (n,), each in [0, N), into the contiguous `out` (n, ...)."""
        rows = self._rows if self._rows is not None else self._open_rows()
        np.take(rows, index, axis=0, out=out, mode="clip")  # "raise" would go through a buffer
        MappedArray._touched += len(index) * max(out[0].nbytes, _FAULT) if len(index) else 0
        if MappedArray._touched > PAGE_BUDGET:
            MappedArray._drop_pages()

    def _open_rows(self) -> NDArray[np.uint8]:
        try:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.path} cannot be read: {error}") from None
        count = int(np.prod(self.shape))
        if len(self._map) < self.offset + count:
            raise ValueError(f"{self.path} is truncated: it ends before its last frame")
        flat = np.frombuffer(self._map, np.uint8, count, self.offset)
        self._rows = flat.reshape(self.shape)
        MappedArray._open.add(self)
        return self._rows

    @classmethod
    def _drop_pages(cls) -> None:
        for array in cls._open:
            if array._map is not None:
                array._map.madvise(mmap.MADV_DONTNEED)
        cls._touched = 0


def map_dataset(path: Path, dataset: h5py.Dataset) -> MappedArray:
    """Map an (N, ...) HDF5 dataset of 8-bit numbers, unpacking it first where it must be.

    Raises:
        ValueError: it must be unpacked, and is damaged or the cache folder cannot be written.
    """
    offset = dataset.id.get_offset()
    shape = tuple(dataset.shape)
    if offset is not None and dataset.dtype in (np.uint8, np.bool_) and not dataset.external:
        return MappedArray(path, int(offset), shape)
    return MappedArray(_kept(path, dataset, "unpacking", shape, _as_bytes), 0, shape)


def any_pixel(path: Path, dataset: h5py.Dataset) -> NDArray[np.bool_]:
    """(N,) whether any pixel of an (N, H, W) dataset's rows is above 0 (eq. 13); what a large one
    gave is kept in the cache folder.

    Raises:
        ValueError: the dataset is damaged, or the cache folder cannot be written.
    """
    if dataset.size <= AT_ONCE:
        found = [_any(block) for block in _blocks(path, dataset)]
        return np.concatenate([np.zeros(0, np.bool_), *found])
    return np.fromfile(_kept(path, dataset, "looking through", dataset.shape[:1], _any), np.bool_)


def _cache_folder() -> Path:
    return Path(os.environ.get("FMBENCH_CACHE") or "~/.cache/fmbench").expanduser()


def _kept(
    path: Path,
    dataset: h5py.Dataset,
    doing: str,
    shape: tuple[int, ...],
    turn: Callable[[NDArray[Any]], NDArray[Any]],
) -> Path:
    """What `turn` makes of the rows of `dataset`, bytes of that shape in the cache folder, whole or
    not at all.

    Raises:
        ValueError: the folder cannot be written or is too small, or the dataset is damaged.
    """
    key = dataset.name.strip("/")
    stat, size = path.stat(), math.prod(shape)
    source, state = _digest(path.resolve(), key, shape), _digest(stat.st_size, stat.st_mtime_ns)
    target = _cache_folder() / f"{path.stem}-{key}-{source}-{state}.raw"
    if target.exists():
        with suppress(OSError):  # another user's, in a cache that is shared
            os.utime(target)  # it is in use: _sweep counts from here
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        if shutil.disk_usage(target.parent).free < size:
            raise OSError(f"{size / 1e9:.2f} GB are needed there")
        what = f"{path.name}: {key} ({dataset.size / 1e9:.2f} GB)"
        print(f"{doing} {what} once into {target.parent}", file=sys.stderr)
        with in_one_step(target, size=size) as half, half.open("wb") as file:
            for block in _blocks(path, dataset):
                file.write(np.ascontiguousarray(turn(block)).data)
    except OSError as error:
        raise ValueError(
            f"{path}: {doing} {key!r} into {target.parent} failed: {error}; "
            "let FMBENCH_CACHE name a folder with room"
        ) from None
    return target


def _digest(*of: object) -> str:
    return hashlib.sha256("\0".join(map(str, of)).encode()).hexdigest()[:16]


def _sweep(target: Path) -> None:
    """Remove what `target`'s source held before it was rewritten, what nobody has used for a month,
    and halves that processes left which were killed.
    """
    source = target.name.rpartition("-")[0]
    for file in target.parent.iterdir():
        if file == target or not _UNPACKED.fullmatch(file.name):
            continue  # another process may just have made it; the rest in the folder is not ours
        with suppress(OSError):  # another process sweeps too, or it is another user's
            limit = DAY if file.name.startswith(".") else UNUSED
            old = time.time() - file.stat().st_mtime > limit
            if old or file.name.rpartition("-")[0] == source:
                file.unlink()


def _blocks(path: Path, dataset: h5py.Dataset) -> Iterator[NDArray[Any]]:
    """All rows, some 32 MB at a time, in whole chunks, with a progress line on a terminal."""
    rows = int(dataset.shape[0])
    chunk = dataset.chunks[0] if dataset.chunks else 1
    row_bytes = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    step = chunk * max(1, 2**25 // (chunk * row_bytes))
    terminal = sys.stderr.isatty()
    shown = time.monotonic()
    for start in range(0, rows, step):
        try:
            block = dataset[start : start + step]
        except OSError as error:
            raise ValueError(
                f"{path}: {dataset.name!r} is damaged at or after frame {start}: {error}"
            ) from None
        yield block
        if terminal and time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            print(f"\r  {100 * start // rows} %", end="\r", file=sys.stderr)


def _as_bytes(block: NDArray[Any]) -> NDArray[np.uint8]:
    if block.dtype == np.bool_:
        return block.view(np.uint8)
    return block.astype(np.uint8, copy=False)  # the official loaders cast likewise (4.1)


def _any(block: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.any(_as_bytes(block), axis=(1, 2))
    return found
