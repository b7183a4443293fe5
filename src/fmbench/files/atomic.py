"""Files that are there whole, or as they were before."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def in_one_step(path: Path, *, size: int | None = None, keep: Path | None = None) -> Iterator[Path]:
    """Hand out a path beside `path` to write to; when the block ends, it takes the place of `path`.

    A block that fails, or a disk that is full, leaves what was there and nothing beside it.

    Args:
        path: the file.
        size: bytes that will be written, if they are known, for the message of a full disk.
        keep: where what was there goes, once the new file is on the disk.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            path.replace(keep)
        beside.replace(path)
        _settle(path.parent)
    except OSError as error:
        beside.unlink(missing_ok=True)
        said = f"{_why(error, path.parent, size)}; nothing of it was written"
        raise OSError(error.errno, said, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def on_the_disk_of(folder: Path) -> Iterator[None]:
    """Name the place, and what is free there, where a library tells of a full disk and no more.

    Raises:
        OSError: the library's, with `folder` as its file.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(error.errno, _why(error, folder, None), str(folder)) from error


def _why(error: OSError, folder: Path, size: int | None) -> str:
    why = os.strerror(error.errno) if error.errno else str(error)  # h5py's own text is long
    if error.errno not in FULL:
        return why
    needed = f"{size:,} bytes needed, " if size is not None else ""
    return f"{why} ({needed}{shutil.disk_usage(folder).free:,} free)"


def _settle(folder: Path) -> None:
    """Put a folder's names on the disk, so that a rename outlives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text`, as UTF-8, in one step."""
    content = text.encode()
    with in_one_step(path, size=len(content)) as beside:
        beside.write_bytes(content)


def remove_halves(folder: Path) -> None:
    """Remove what processes that were killed while they wrote have left below `folder`."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\.\d+\..+", path.name):
            path.unlink(missing_ok=True)
