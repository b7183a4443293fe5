"""Help texts and the list of models, stored when they are first printed.

They are made from signatures and docstrings, which imports torch and Lightning (seconds); reading
a stored text imports neither. A text belongs to one state of the installation: the files of fmbench
and of every plug-in, the installed distributions, and the width of the terminal.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from fmbench.files.atomic import write_text

UNUSED_SECONDS = 30 * 24 * 3600
"""A stored text that was not read for so long is deleted."""
CHOOSES = ("--model", "--modality")
"""Options that choose what a text describes; with any other option nothing is stored."""


def is_stored(words: Sequence[str]) -> bool:
    """Whether a command line, after the command's name, only asks for a text that can be stored."""
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if word in ("-h", "--help"):
            continue
        if name not in CHOOSES or (not equals and next(rest, "-").startswith("-")):
            return False
    return True


def stored(words: Sequence[str], run: Callable[[], int]) -> int:
    """Print the text of a command line; `run` prints it if it is not stored.

    Args:
        words: the command line.
        run: prints the text and returns the exit status, or raises SystemExit.
    """
    try:
        file = _folder() / f"{_digest(words)}.txt"
    except (RuntimeError, OSError):  # a user without a home; a source that is being replaced
        return run()
    with suppress(OSError, UnicodeDecodeError):
        text = file.read_text(encoding="utf-8")
        os.utime(file)
        print(text, end="")
        return 0
    printed = _Copy()
    with redirect_stdout(printed):
        try:
            status = run()
        except SystemExit as stop:
            if stop.code:
                raise
            status = 0
    if status == 0:
        with suppress(OSError):  # a read-only home: the text is made again
            write_text(file, printed.getvalue())
            _delete_unused(file.parent)
    return status


class _Copy(io.StringIO):
    """Standard output that also stores what it prints."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = sys.stdout

    def write(self, text: str) -> int:
        self.shown.write(text)
        self.shown.flush()
        return super().write(text)

    def isatty(self) -> bool:
        return self.shown.isatty()


def _folder() -> Path:
    return Path(os.environ.get("FMBENCH_CACHE") or "~/.cache/fmbench").expanduser() / "help"


def _digest(words: Sequence[str]) -> str:
    """A hash of everything that the text depends on."""
    state = [*words, sys.version, str(shutil.get_terminal_size().columns), str(sys.stdout.isatty())]
    for entry in sorted(set(sys.path)):
        state += sorted(found.name for found in Path(entry or ".").glob("*.dist-info"))
    for file in sorted(_sources()):
        facts = file.stat()
        state.append(f"{file} {facts.st_mtime_ns} {facts.st_size}")
    return hashlib.sha256("\n".join(state).encode()).hexdigest()[:32]


def _sources() -> Iterator[Path]:
    """fmbench's files, its profiles and experiments, and the files of every plug-in."""
    here = Path(__file__).parents[1]
    roots = {here, here.parents[1] / "configs", here.parents[1] / "experiments"}
    for each in entry_points(group="fmbench.models"):
        top = each.module.partition(".")[0]
        spec = find_spec(top)
        if spec is not None and spec.submodule_search_locations:
            roots.update(map(Path, spec.submodule_search_locations))
        elif spec is not None and spec.origin:
            yield Path(spec.origin)
    for root in roots:
        for pattern in ("*.py", "*.yaml"):
            yield from root.rglob(pattern)


def _delete_unused(folder: Path) -> None:
    for file in folder.glob("*.txt"):
        with suppress(OSError):  # another process was first
            if file.stat().st_mtime < time.time() - UNUSED_SECONDS:
                file.unlink()
