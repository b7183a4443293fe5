"""Commit and syntax of the code that a result was computed with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fmbench.training import provenance
from fmbench.training.provenance import syntax


def commit_seen_by(source: Path, **environment: str) -> str:
    """What `git_commit` of the copy `source` returns, started in a folder of another repository."""
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('copy', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.git_commit())"
    )
    path = ":".join(str(Path(entry).resolve()) for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, "-c", code, str(source)],
        cwd=repository(source.parents[4] / "elsewhere"),
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"],
    ):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    return folder


def copied(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return Path(shutil.copy(str(provenance.__file__), folder))


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_is_that_of_the_codes_own_repository(tmp_path: Path) -> None:
    own = tmp_path / "own"
    source = copied(own / "src" / "fmbench" / "training")
    repository(own)
    head = ["git", "-C", str(own), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    assert commit_seen_by(source) == commit
    assert commit_seen_by(source, GIT_DIR=str(tmp_path / "elsewhere" / ".git")) == commit
    source.write_text(source.read_text() + "\n")
    assert commit_seen_by(source) == f"{commit}-dirty"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_code_installed_within_another_repository_has_no_commit(tmp_path: Path) -> None:
    project = repository(tmp_path / "project")
    source = copied(project / ".venv" / "lib" / "site-packages" / "fmbench" / "training")
    repository(project)  # even if the project keeps it
    assert commit_seen_by(source) == "None"


BODY = '''
"""A module."""
import math

class A:
    """A class."""

    size: int = 3

    def area(self, *, scale=1.0):
        """The area."""
        return math.pi * scale  # of a circle
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("  # of a circle", "", True),
        ('"""A module."""', '"""Another text."""', True),
        ('        """The area."""\n', "", True),
        ("math.pi * scale", "(math.pi  *  scale)", True),
        ("\nclass", "\n\n\nclass", True),
        ("scale=1.0", "scale=2.0", False),
        ("scale=1.0", "scale=1", False),
        ("size: int = 3", "size: int", False),
        ("pi * scale", "pi + scale", False),
        ("def area", "async def area", False),
    ],
)
def test_only_what_is_executed_counts(old: str, new: str, same: bool) -> None:
    assert old in BODY
    assert (syntax(BODY) == syntax(BODY.replace(old, new))) is same
