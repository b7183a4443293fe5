"""Rows of an HDF5 dataset, read through a memory map within a budget of resident pages.

A contiguous dataset is mapped in place. Any other (MATLAB's -v7.3 default is chunked and
compressed) is unpacked once into a cache folder and mapped there. The cache also stores which
frames of large files are labelled. Entries of rewritten files, and entries unused for 30 days, are
deleted.
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
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakSet

import h5py
import numpy as np
from numpy.typing import NDArray

from fmbench.files.atomic import in_one_step
from fmbench.format.mat import block_starts, read_stored

# Mapped pages count as resident memory. A fault maps the 64 KiB around it (Linux's
# fault_around_bytes), so a row counts as at least that much.
PAGE_BUDGET = 192 * 2**20
_FAULT = 64 * 2**10
DAY = 24 * 3600  # seconds; a partial file that old belongs to a killed process
UNUSED = 30 * DAY  # entries of the cache unused for so long are deleted
AT_ONCE = 2**24  # masks with fewer pixels are scanned again each time, not cached
_UNPACKED = re.compile(r".+-[0-9a-f]{16}-[0-9a-f]{16}\.raw")


class MappedArray:
    """(N, ...) uint8 in a file, read by rows. Each process opens it on first use.

    Args:
        path: the file.
        offset: of row 0, in bytes.
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
    """Map an (N, ...) HDF5 dataset of 8-bit numbers, unpacked first unless it is contiguous.

    Raises:
        ValueError: it needs unpacking, and is damaged or the cache folder cannot be written.
    """
    offset = dataset.id.get_offset()
    shape = tuple(dataset.shape)
    if offset is not None and dataset.dtype in (np.uint8, np.bool_) and not dataset.external:
        return MappedArray(path, int(offset), shape)
    unpacked = (_as_bytes(block) for block in _blocks(path, dataset))
    return map_blocks(path, dataset.name.strip("/"), shape, unpacked)


def map_blocks(
    path: Path, key: str, shape: tuple[int, ...], blocks: Iterable[NDArray[np.uint8]]
) -> MappedArray:
    """Map (N, ...) bytes that `blocks` unpack from a file, consecutive rows, into the cache.

    Args:
        path: the file; a changed file is unpacked again.
        key: which of the file's contents.
        shape: (N, ...).
        blocks: they are consumed only if the cache lacks them.

    Raises:
        ValueError: the cache folder cannot be written.
    """
    return MappedArray(_cached(path, key, "unpacking", shape, blocks), 0, shape)


def any_pixel(path: Path, dataset: h5py.Dataset) -> NDArray[np.bool_]:
    """(N,) whether any pixel of each row of an (N, W, H) dataset is above 0 (eq. 13); cached for a
    large dataset.

    Raises:
        ValueError: the dataset is damaged, or the cache folder cannot be written.
    """
    if dataset.size <= AT_ONCE:
        found = [_any(block) for block in _blocks(path, dataset)]
        return np.concatenate([np.zeros(0, np.bool_), *found])
    found_in = (_any(block) for block in _blocks(path, dataset))
    key = dataset.name.strip("/")
    cached = _cached(path, key, "looking through", dataset.shape[:1], found_in)
    return np.fromfile(cached, np.bool_)


def highest_class(path: Path, dataset: h5py.Dataset, num_classes: int) -> NDArray[np.uint8]:
    """(N,) highest class in each row of an (N, W, H) dataset of class indices; cached for a large
    dataset.

    Raises:
        ValueError: a value is no class index below `num_classes`, the dataset is damaged, or the
            cache folder cannot be written.
    """
    found = _highest(path, dataset, num_classes)
    if dataset.size <= AT_ONCE:
        return np.concatenate([np.zeros(0, np.uint8), *found])
    key = f"{dataset.name.strip('/')}-of-{num_classes}"  # the check, too, is done once
    cached = _cached(path, key, "looking through", dataset.shape[:1], found)
    return np.fromfile(cached, np.uint8)


def _highest(path: Path, dataset: h5py.Dataset, num_classes: int) -> Iterator[NDArray[np.uint8]]:
    first = 0
    for block in _blocks(path, dataset):
        wrong = no_class(block, num_classes)
        if wrong.any():
            frame, *pixel = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"{path}: the label of frame {first + frame} is {block[frame, *pixel]:g}; root.yaml"
                f" has {num_classes} classes, so it must be a whole number from 0 to"
                f" {num_classes - 1} (`fmbench data check` counts such frames)"
            )
        yield block.max(axis=(1, 2)).astype(np.uint8)
        first += len(block)


def no_class(labels: NDArray[Any], num_classes: int) -> NDArray[np.bool_]:
    """Which values of any type are no class index from 0 to `num_classes` - 1."""
    return ~np.isin(labels, np.arange(num_classes))


def _cache_folder() -> Path:
    return Path(os.environ.get("FMBENCH_CACHE") or "~/.cache/fmbench").expanduser()


def cache_file(path: Path, key: str, shape: tuple[int, ...] = ()) -> Path:
    """Where the cache has what was found in a file, if it has it; elsewhere once the file changed.

    Raises:
        OSError: no such file.
    """
    stat = path.stat()
    source, state = _digest(path.resolve(), key, shape), _digest(stat.st_size, stat.st_mtime_ns)
    return _cache_folder() / f"{path.stem}-{key}-{source}-{state}.raw"


def _cached(
    path: Path,
    key: str,
    doing: str,
    shape: tuple[int, ...],
    blocks: Iterable[NDArray[Any]],
) -> Path:
    """The cached file with the bytes of all `blocks`, together of that shape; made if absent.

    Raises:
        ValueError: the folder cannot be written or is too small, or the dataset is damaged.
    """
    target, size = cache_file(path, key, shape), math.prod(shape)
    if target.exists():
        with suppress(OSError):  # in a shared cache, it may be another user's
            os.utime(target)  # _sweep counts from the last use
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        if shutil.disk_usage(target.parent).free < size:
            raise OSError(f"{size / 1e9:.2f} GB are needed there")
        what = f"{path.name}: {key} ({size / 1e6:.3g} MB)"
        print(f"{doing} {what} once into {target.parent}", file=sys.stderr)
        with in_one_step(target, size=size) as half, half.open("wb") as file:
            for block in blocks:
                file.write(np.ascontiguousarray(block).data)
    except OSError as error:
        raise ValueError(
            f"{path}: {doing} {key!r} into {target.parent} failed: {error}; "
            "let FMBENCH_CACHE name a folder with room"
        ) from None
    return target


def _digest(*of: object) -> str:
    return hashlib.sha256("\0".join(map(str, of)).encode()).hexdigest()[:16]


def _sweep(target: Path) -> None:
    """Delete entries of `target`'s source before it was rewritten, entries unused for 30 days, and
    partial files of killed processes.
    """
    source = target.name.rpartition("-")[0]
    for file in target.parent.iterdir():
        if file == target or not _UNPACKED.fullmatch(file.name):
            continue  # another process may just have made it; other files are not the cache's
        with suppress(OSError):  # another process deletes it too, or it is another user's
            limit = DAY if file.name.startswith(".") else UNUSED
            old = time.time() - file.stat().st_mtime > limit
            if old or file.name.rpartition("-")[0] == source:
                file.unlink()


def _blocks(path: Path, dataset: h5py.Dataset) -> Iterator[NDArray[Any]]:
    """All rows, about 32 MB at a time, with a progress line on a terminal."""
    starts = block_starts(dataset, 2**25 // dataset.dtype.itemsize)
    terminal = sys.stderr.isatty()
    shown = time.monotonic()
    for start in starts:
        yield read_stored(path, dataset, start, start + starts.step)
        if terminal and time.monotonic() - shown > 0.2:
            shown = time.monotonic()
            print(f"\r  {100 * start // starts.stop} %", end="\r", file=sys.stderr)


def _as_bytes(block: NDArray[Any]) -> NDArray[np.uint8]:
    if block.dtype == np.bool_:
        return block.view(np.uint8)
    return block.astype(np.uint8, copy=False)  # the official loaders cast likewise (4.1)


def _any(block: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.any(_as_bytes(block), axis=(1, 2))
    return found
