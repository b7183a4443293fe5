"""How far a command's work is: a bar on a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(task: str) -> Iterator[Callable[[int, int, str], None]]:
    """A function of (done, total, what)."""
    if sys.stdout.isatty():
        from rich.progress import Progress

        with Progress() as bar:
            row = bar.add_task(task, total=None)
            yield lambda done, total, what: bar.update(
                row, completed=done, total=total, description=what
            )
        return
    shown = -1

    def line(done: int, total: int, what: str) -> None:
        nonlocal shown
        tenth = 10 * done // max(total, 1)
        if tenth > shown:
            shown = tenth
            print(f"{task}: {done} of {total} ({what})", flush=True)

    yield line
