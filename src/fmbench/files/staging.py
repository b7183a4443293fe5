"""A folder that is complete or absent, also when the process that makes it is killed."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fmbench.files.lock import locked


@contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A hidden folder beside `root`; it becomes `root` if the block succeeds, else it is removed.

    Folders of killed processes are removed as well: their locks are free.

    Raises:
        ValueError: `root` is not an empty folder, or cannot be made.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(
            f"{root} already exists and is not empty; remove it, or give another folder"
        )
    with ExitStack() as held:
        folder = root.parent / f".{root.name}.{os.getpid()}.partial"
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            with locked(root.parent, retry=lambda: True):  # no sweep before the folder is locked
                _sweep(root)
                folder.mkdir()
                held.enter_context(locked(folder))
        except OSError as error:
            raise ValueError(f"cannot make {root}: {error}") from error
        try:
            yield folder
            try:
                folder.replace(root)
            except OSError as error:
                raise ValueError(
                    f"{root} appeared while its content was being written; it was not replaced"
                ) from error
        finally:
            if folder.exists():
                shutil.rmtree(folder)


def _sweep(root: Path) -> None:
    for left in root.parent.glob(f".{glob.escape(root.name)}.*.partial"):
        with locked(left) as handle:
            if handle is not None:
                shutil.rmtree(left)
