"""Progress of a long command: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ShowProgress = Callable[[int, int, str], None]
"""Called with the units done, the units in total, and the name of the current item."""


def on_terminal() -> bool:
    """Whether standard output is a terminal, on which a bar can be drawn."""
    return sys.stdout.isatty()


@contextmanager
def progress_bar(task: str) -> Iterator[ShowProgress]:
    """Show the progress of `task`: a bar on a terminal, elsewhere one line per tenth."""
    if on_terminal():
        from rich.progress import Progress

        with Progress() as bar:
            row = bar.add_task(task, total=None)
            yield lambda done, total, item: bar.update(
                row, completed=done, total=total, description=item
            )
        return
    shown = -1

    def line(done: int, total: int, item: str) -> None:
        nonlocal shown
        tenth = 10 * done // max(total, 1)
        if tenth > shown:
            shown = tenth
            print(f"{task}: {done} of {total} ({item})", flush=True)

    yield line
