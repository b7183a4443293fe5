"""A folder that is there whole or not at all, whoever is killed while it is being made."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A hidden sibling of `root` that becomes `root` when all went well and vanishes otherwise.

    What a killed process left behind is removed: its lock is free, so nobody is writing there.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(
            f"{root} already exists and is not empty; remove it, or give another folder"
        )
    with ExitStack() as held:
        folder = root.parent / f".{root.name}.{os.getpid()}.partial"
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            with _lock(root.parent, wait=True):  # nobody sweeps between making and locking
                _sweep(root)
                folder.mkdir()
                held.enter_context(_lock(folder))
        except OSError as error:
            raise ValueError(f"cannot make {root}: {error}") from error
        try:
            yield folder
            try:
                folder.replace(root)
            except OSError as error:
                raise ValueError(
                    f"{root} appeared while the data were being simulated; it was left as it is"
                ) from error
        finally:
            if folder.exists():
                shutil.rmtree(folder)


def _sweep(root: Path) -> None:
    for left in root.parent.glob(f".{glob.escape(root.name)}.*.partial"):
        with _lock(left) as free:
            if free:
                shutil.rmtree(left)


@contextmanager
def _lock(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Hold the folder for as long as this process lives; False where another one holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)
