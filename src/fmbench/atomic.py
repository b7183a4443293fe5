"""Files that are there whole, or as they were before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_one_step(path: Path) -> Iterator[Path]:
    """Hand out a path beside `path` to write to; when the block ends, it takes the place of `path`.

    A block that fails, or a disk that is full, leaves what was there and nothing beside it.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # h5py's own text is long
        said = f"{why}; nothing of it was written"
        raise OSError(error.errno, said, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text`, as UTF-8, in one step."""
    with in_one_step(path) as beside:
        beside.write_text(text, encoding="utf-8")
