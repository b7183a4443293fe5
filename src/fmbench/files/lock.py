"""A lock between processes: held by a process while it lives, free once it ends or is killed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RETRY_SECONDS = 0.2


@contextmanager
def locked(path: Path, retry: Callable[[], bool] = lambda: False) -> Iterator[int | None]:
    """Lock an existing file or folder; yields its descriptor, or None where it stays locked.

    A child process that inherits the descriptor keeps the lock until the child ends, too.

    Args:
        path: the file or folder.
        retry: whether to try again while another process holds the lock.

    Raises:
        OSError: `path` cannot be opened.
    """
    # NFS locks only files that are open for writing; folders cannot be.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        while not _taken(handle):
            if not retry():
                yield None
                return
            time.sleep(RETRY_SECONDS)
        yield handle
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
