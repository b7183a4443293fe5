"""The newest samples of current, from the rows of a log."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import Currents, format_second
from fmbench.prepare.ingest.follow import Follower
from fmbench.prepare.ingest.plc import LogOptions
from fmbench.prepare.ingest.sampling import to_samples
from fmbench.types import Plant
from fmbench.watch.lines import LineSource, Pipe

CLOCK = 5e-7
"""Seconds: above the error of seconds since 1970 in float64."""
ENOUGH = 20
"""Lines from which a log's layout must be clear."""
REPEAT = 300.0
"""Seconds that a log may go back, as a rotated file that repeats rows; beyond, its clock was set
back."""
SPARE = 5
"""Seconds of rows kept before the longest window."""


class LiveCurrents:
    """Rows of a log as they arrive, and the samples of the newest seconds.

    Args:
        source: the log's lines.
        options: how the log is written.
        plant: rates and channels of the training.
        phases: number of columns that the checkpoint reads.
        samples: of the longest window.
        tell: called with a line about the log.
        start: what an elapsed second 0 is; None: elapsed seconds are refused.

    Attributes:
        newest: seconds since 1970 of the newest row; minus infinity before the first.
        ended: whether no more rows come.
        fault: why the log cannot be read at present; empty if it can.
        clock: local or utc; None until the first row.
    """

    def __init__(
        self,
        source: LineSource,
        options: LogOptions,
        plant: Plant,
        *,
        phases: int,
        samples: int,
        tell: Callable[[str], object],
        start: float | None = None,
    ) -> None:
        self._source, self._options, self._plant = source, options, plant
        self._phases, self._tell, self._start = phases, tell, start
        self._reach = math.ceil(samples / plant.current_rate) + SPARE + 2 * plant.period
        self._follower: Follower | None = None
        self._lines: list[str] = []
        self._seconds = np.empty(0)
        self._values = np.empty((0, phases))
        self._origin: int | None = None
        self.newest, self.ended, self.fault = -math.inf, False, ""
        self.clock: str | None = None

    def close(self) -> None:
        """Read no more."""
        self._source.close()

    def poll(self) -> bool:
        """Read what is there; whether there were new lines.

        Raises:
            ValueError: the log's first lines are no log that can be read.
        """
        new = self._source.poll()
        if new.restarted:
            self._follower, self._lines = None, []
        ended = new.ended and not self.ended
        self.ended |= new.ended
        if not new.lines and not ended:
            return False
        lines = new.lines
        if self._follower is None:
            self._lines += lines
            lines = self._begin()
        if self._follower is not None:
            self._read(self._follower, lines)
        return True

    def until(self, second: float) -> None:
        """Read on until a row is not before `second`, or nothing more is there."""
        while self.newest < second - CLOCK and self.poll():
            pass

    def first(self) -> int | None:
        """The first whole second that is logged; None if none is."""
        if self._origin is None or self.newest < self._origin + self._plant.period:
            return None
        found = to_samples(
            *self._rows(), self._plant, slot=self._options.slot, between=self._options.between,
            begin=self._begin_of_rows(),
        )  # fmt: skip
        whole = np.flatnonzero(np.isfinite(found.values).all(axis=(1, 2)))
        return int(found.seconds[whole[0]]) if whole.size else None

    def since(self, first: int, until: float) -> Currents | None:
        """Samples from the second `first` on, as `fmbench data ingest` writes them; None if there
        is none.

        The newest second may be incomplete; what is not logged yet is NaN.

        Args:
            first: the first second, at the least.
            until: the newest second.
        """
        if not len(self._seconds):
            return None
        found = to_samples(
            *self._rows(), self._plant, slot=self._options.slot, between=self._options.between,
            begin=self._begin_of_rows(),
        )  # fmt: skip
        inside = (found.seconds > first - self._plant.period) & (found.seconds <= until)
        seconds, values = found.seconds[inside], found.values[inside]
        if not len(seconds):
            return None
        known = np.asarray(np.isfinite(values).all(axis=2))
        whole = np.asarray(known.all(axis=1))
        whole[-1] = known[-1, 0]
        seconds, values = seconds[whole], values[whole]
        flat = values.reshape(-1, values.shape[2])
        text = "%.6g," * flat.size % tuple(flat.ravel().tolist())  # what a CSV file would hold
        written = np.array(text.split(",")[:-1], np.float64).astype(np.float32)
        return Currents(np.repeat(seconds, values.shape[1]), written.reshape(flat.shape))

    def _rows(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self._seconds, self._values

    def _begin_of_rows(self) -> int:
        """The second of the first sample that the rows suffice for."""
        assert self._origin is not None
        period = self._plant.period
        behind = math.floor(self._seconds[0] + CLOCK) - self._origin
        return self._origin + (-(-(behind + period - 1) // period) * period if behind else 0)

    def _begin(self) -> list[str]:
        """Find the log's layout; the lines that are left to read."""
        options = self._options
        if isinstance(self._source, Pipe) and self._source.is_json:
            options = replace(options, separator="comma", decimal=".", header_line=1)
        name, encoding = self._source.name, self._source.encoding
        try:
            found = Follower(name, self._lines, encoding, options, self._plant)
        except (ValueError, IndexError) as error:
            if len(self._lines) >= ENOUGH or self.ended:
                raise ValueError(str(error)) from None
            return []
        if len(found.phases) != self._phases:
            raise ValueError(
                f"{name} has {len(found.phases)} phases of current"
                f" ({', '.join(found.phases)}), the checkpoint reads {self._phases}; --phases names"
                " the columns"
            )
        if found.clock == "elapsed" and self._start is None:
            raise ValueError(
                f"{name} has elapsed seconds, not times: a live log needs a date and time in each"
                " row; a recording needs --start"
            )
        self._tell(f"log: {found.layout}")
        self._follower, self.clock = found, found.clock
        lines, self._lines = self._lines[found.head :], []
        return lines

    def _read(self, follower: Follower, lines: list[str]) -> None:
        try:
            seconds, values = follower.read(lines, last=self.ended)
        except ValueError as error:
            if len(lines) > 1:  # one of them is wrong
                for line in lines:
                    self._read(follower, [line])
                return
            if not self.fault:
                self._tell(f"{error}; the row is left out")
            self.fault = str(error)
            return
        if not len(seconds):
            return
        self.fault = ""
        if follower.clock == "elapsed":
            seconds = seconds + (self._start or 0.0)
        if seconds[0] < self.newest - REPEAT:
            self._tell(
                f"the log's clock goes back from {format_second(self.newest)} to"
                f" {format_second(seconds[0])}; it is taken to have been set"
            )
            self._seconds, self._values = self._seconds[:0], self._values[:0]
            self.newest, self._origin = -math.inf, None
        ahead = np.maximum.accumulate(np.append(self.newest, seconds))[:-1]
        kept = seconds >= ahead
        kept[0] &= bool(seconds[0] > self.newest or not self._repeats(values[0]))
        seconds, values = seconds[kept], values[kept]
        if not len(seconds):
            return
        if self._origin is None:
            self._origin = math.floor(seconds[0] + CLOCK)
        self._seconds = np.concatenate([self._seconds, seconds])
        self._values = np.concatenate([self._values, values])
        self.newest = float(seconds[-1])

    def forget(self, before: float) -> None:
        """Drop rows that no window from `before` on reaches."""
        period = self._plant.period
        if self._origin is None:
            return
        cut = self._origin + (math.floor(before) - self._reach - self._origin) // period * period
        place = int(np.searchsorted(self._seconds, cut - CLOCK))
        if place > 4096 or place > len(self._seconds) // 2:
            self._seconds, self._values = self._seconds[place:], self._values[place:]

    def _repeats(self, row: NDArray[np.float64]) -> bool:
        return bool(len(self._values)) and np.array_equal(self._values[-1], row, equal_nan=True)
