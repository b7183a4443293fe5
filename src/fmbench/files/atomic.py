"""Atomic writes: a file is replaced whole, or not changed."""

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
    """Yield a path beside `path` to write to; it replaces `path` when the block ends.

    If the block fails or the disk is full, `path` is unchanged and nothing is left beside it.

    Args:
        path: the file.
        size: bytes to be written, if known, for the message of a full disk.
        keep: new path of the previous file, moved once the new one is on the disk.

    Raises:
        OSError: `path` cannot be written; the error names it.
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
        reason = f"{_why(error, path.parent, size)}; nothing of it was written"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def on_the_disk_of(folder: Path) -> Iterator[None]:
    """Add folder and free space to a library's bare error about a full disk.

    Raises:
        OSError: the library's, with `folder` as its file name.
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
    """Flush a folder's entries to the disk, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    content = text.encode()
    with in_one_step(path, size=len(content)) as beside:
        beside.write_bytes(content)


def remove_halves(folder: Path) -> None:
    """Remove partial files that killed processes left below `folder`."""
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\.\d+\..+", path.name):
            path.unlink(missing_ok=True)
