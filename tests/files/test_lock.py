"""One lock between processes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fmbench.files.lock import locked


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_lock_is_held_once_and_free_afterwards(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    path.mkdir() if kind == "folder" else path.touch()
    with locked(path) as first, locked(path) as second:
        assert first is not None
        assert second is None
    with locked(path) as again:
        assert again is not None


def test_who_retries_gets_the_lock_once_it_is_free(tmp_path: Path) -> None:
    held, tries = locked(tmp_path), []

    def retry() -> bool:
        tries.append(held.__exit__(None, None, None))
        return True

    held.__enter__()
    with locked(tmp_path, retry) as handle:
        assert handle is not None
    assert len(tries) == 1


def test_a_child_that_inherits_the_lock_keeps_it_until_it_ends(tmp_path: Path) -> None:
    with locked(tmp_path) as handle:
        assert handle is not None
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[handle])
    with locked(tmp_path) as taken:
        assert taken is None
    child.communicate()
    with locked(tmp_path) as taken:
        assert taken is not None
