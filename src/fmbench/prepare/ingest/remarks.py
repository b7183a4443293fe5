"""Irregularities of the sources, reported as soon as they are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import format_second

SHOWN = 3
"""Number of gaps, lines or times that a message lists."""


class Remarks:
    """Sentences in the order in which they were found.

    Args:
        tell: called with each one at once, so that none is lost where a later step fails.
    """

    def __init__(self, tell: Callable[[str], object] | None = None) -> None:
        self._tell = tell
        self._found: list[str] = []

    def append(self, remark: str) -> None:
        """Add one, unless it was said before."""
        if remark in self._found:
            return
        self._found.append(remark)
        if self._tell:
            self._tell(remark)

    def extend(self, remarks: Iterable[str]) -> None:
        """Add several."""
        for remark in remarks:
            self.append(remark)

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)


def at_times(seconds: NDArray[np.float64]) -> str:
    """`first at …` with the first of some times."""
    first = ", ".join(format_second(each) for each in seconds[:SHOWN])
    return f"first at {first}" + (", …" if len(seconds) > SHOWN else "")


def at_lines(lines: Sequence[int] | NDArray[np.int64]) -> str:
    """`line 7`, or `lines 7, 9, …`."""
    first = ", ".join(str(line) for line in lines[:SHOWN])
    return f"line{'s' * (len(lines) > 1)} {first}" + (", …" if len(lines) > SHOWN else "")
