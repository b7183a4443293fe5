"""The time of each frame: of its arrival, or counted from the start of a file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

ROUNDED = 1.5
"""Seconds by which clocks in the names of files may differ, which are given to the second."""
WINDOW = 30.0
"""Seconds over which the shortest delay of a stream is found."""


class FrameClock(Protocol):
    """Seconds since 1970 of frames, by the log's clock."""

    def enter(self, named: float | None) -> None:
        """Another container begins; `named` is the time in its name, if any."""

    def of(self, ticks: int, unit: float, step: float) -> float:
        """The time of a frame with a time stamp of so many ticks of `unit` seconds; `step` seconds
        usually lie between two."""


class FileClock:
    """Frames of files, counted from the time of the first one.

    A file follows the one before it by the times in their names, else by its time stamps, else
    without a gap.

    Args:
        start: seconds since 1970 of the first frame.
        offset: seconds added.
    """

    def __init__(self, start: float, offset: float) -> None:
        self._start, self._offset = start, offset
        self._lead, self._end, self._stamp_end = 0.0, 0.0, math.nan
        self._names: list[float | None] = []
        self._origin: int | None = None

    def enter(self, named: float | None) -> None:
        """See FrameClock."""
        self._names = [*self._names[:1], *self._names[1:][-1:], named]
        self._origin = None

    def of(self, ticks: int, unit: float, step: float) -> float:
        """See FrameClock."""
        if self._origin is None:
            self._origin, self._lead = ticks, self._end + self._gap(ticks * unit, step)
        shown = (ticks - self._origin) * unit
        self._end, self._stamp_end = self._lead + shown + step, ticks * unit + step
        return self._start + (self._lead + shown) + self._offset

    def _gap(self, stamp: float, step: float) -> float:
        """Seconds between the end of the last file and a stamp in this one."""
        if math.isnan(self._stamp_end):
            return 0.0
        first, named = self._names[0], self._names[-1]
        by_stamps = stamp - self._stamp_end
        if first is not None and named is not None:
            by_names = named - first - self._end
            if by_names > ROUNDED:
                return by_names
            return by_stamps if 0 <= by_stamps <= ROUNDED else 0.0
        return max(by_stamps, 0.0) if by_stamps >= -2 * step else 0.0


class ArrivalClock:
    """Frames of a stream, by the time at which they come, without jitter.

    The stream's own stamps give the distances. They are placed by the shortest delay of the last 30
    to 60 s, so that a clock that drifts is followed.

    Args:
        offset: seconds added.
        now: seconds since 1970 by the log's clock.
    """

    def __init__(self, offset: float, now: Callable[[], float]) -> None:
        self._offset, self._now = offset, now
        self._newest = -math.inf
        self._least, self._block = [math.inf, math.inf], math.nan

    def enter(self, named: float | None) -> None:
        """See FrameClock."""
        self._least, self._block = [math.inf, math.inf], math.nan

    def of(self, ticks: int, unit: float, step: float) -> float:
        """See FrameClock."""
        stamp, now = ticks * unit, self._now()
        if not self._block <= stamp <= self._block + WINDOW:
            self._least, self._block = [self._least[1], math.inf], stamp
        self._least[1] = min(self._least[1], now - stamp)
        self._newest = max(stamp + min(self._least) + self._offset, self._newest + 1e-4)
        return self._newest


def utc_now() -> float:
    """Seconds since 1970."""
    return time.time()


def local_now() -> float:
    """Seconds since 1970 by this computer's wall clock, without a zone."""
    now = time.time()
    ahead = datetime.fromtimestamp(now).astimezone().utcoffset()
    return now + (ahead.total_seconds() if ahead else 0.0)
