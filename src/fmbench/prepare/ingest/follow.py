"""Rows of a log that is still being written, as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.prepare.ingest.amperes import checked_units, parse_marks
from fmbench.prepare.ingest.columns import find_roles
from fmbench.prepare.ingest.layout import Table, table_of
from fmbench.prepare.ingest.plc import (
    LogOptions,
    decimal_of,
    elapsed_unit,
    layout_words,
    values_of,
)
from fmbench.prepare.ingest.remarks import Remarks
from fmbench.prepare.ingest.times import Clock, Times, parse_times, spread_within_seconds
from fmbench.prepare.ingest.units import AMPERES
from fmbench.prepare.ingest.zones import find_zone, zone_of_header
from fmbench.types import Plant

_SURE = 3
"""Whole seconds with one row each after which a log is taken to have one row per time."""
_SMALL = 2.0
"""Seconds by which rows of an hour that comes twice may be out of order."""


class NewRows(NamedTuple):
    """Rows in the order of the file."""

    seconds: NDArray[np.float64]
    """(R,) seconds since 1970; since the log's begin if its clock is elapsed."""
    values: NDArray[np.float64]
    """(R, C) amperes, or the channels' units; NaN where a row has none."""


class Follower:
    """Reads new lines of a log as `read_plc` reads a whole one.

    The layout is found once, from the lines that are there at first.

    Args:
        path: the log, for messages.
        lines: at least its header and one row.
        encoding: its name, for the description.
        options: how it is written.
        plant: its channels are read, if it names any.

    Attributes:
        phases: names of the columns that are read.
        clock: what the seconds count from.
        layout: a line about how the log is read.
        head: lines before the first row.

    Raises:
        ValueError: the lines hold no log that can be read, or one with a row per tag.
    """

    def __init__(
        self, path: Path, lines: Sequence[str], encoding: str, options: LogOptions, plant: Plant
    ) -> None:
        self._path, self._encoding, self._options = path, encoding, options
        self._marks = parse_marks(options.missing)
        self._zone = find_zone(options.zone) if options.zone is not None else None
        self._separator, self._header_line = options.separator, options.header_line
        table = self._table(lines)
        roles = find_roles(table, time=options.time, phases=options.phases, channels=plant.channels)
        if roles.sparse:
            raise ValueError(
                f"{path} has a row for each tag and value; watch reads logs with a column for each"
                " phase"
            )
        self._roles = roles
        self.phases = roles.phases
        units = checked_units(roles.phases, roles.units, options.unit, plant.channels, path)
        self._decimal = options.decimal or decimal_of(roles, units)
        self._scales = np.array([AMPERES.get(unit, 1.0) for unit in units])
        self._scales[[each.unit != "A" for each in plant.channels]] = 1.0
        self.layout = layout_words(roles, units, self._decimal, plant)
        self._separator, self._header_line = table.separator, table.header_line
        first = int(table.lines[0]) - 1
        self.head, self._head = first, list(lines[:first])
        self._example = self._clear(lines, table)
        self._elapsed = 1.0
        times = self._times(table)
        self.clock: Clock = times.clock
        self._ahead = zone_of_header(" ".join(roles.time))
        if times.clock == "elapsed":
            self._elapsed = elapsed_unit(table, roles.time[0])
        elif times.clock == "local" and (self._ahead is not None or self._zone is not None):
            self.clock = "utc"
        self._spread: bool | None = None  # whether several rows share a whole second; None: unknown
        self._seen: list[float] = []
        self._held = NewRows(np.empty(0), np.empty((0, len(roles.phases))))
        self._newest = -np.inf

    def read(self, lines: Sequence[str], *, last: bool = False) -> NewRows:
        """The rows of new lines that are complete.

        Where several rows have one time in whole seconds, they are spread over this second, and
        wait for the first row of the next.

        Args:
            lines: without their ends.
            last: whether the log ends here.

        Raises:
            ValueError: a line is no row of the log.
        """
        if lines := [line for line in lines if line.strip()]:
            count = len(self._head) + len(self._example)
            table = self._table([*self._head, *self._example, *lines])
            times, values = self._times(table), self._values(table)
            new = table.lines > count
            seconds, values = times.seconds[new], values[new]
            if self.clock == "elapsed":
                seconds = seconds * self._elapsed
            elif times.clock == "local":
                seconds = self._in_utc(seconds)
            self._learn(seconds)
        else:
            seconds, values = self._held.seconds[:0], self._held.values[:0]
        seconds = np.concatenate([self._held.seconds, seconds])
        values = np.concatenate([self._held.values, values])
        ready = len(seconds)
        if self._spread is not False and not last and ready:
            ready = int(np.searchsorted(np.floor(seconds), np.floor(seconds[-1])))
        self._held = NewRows(seconds[ready:], values[ready:])
        seconds, values = seconds[:ready], values[:ready]
        if self._spread:
            seconds = spread_within_seconds(seconds)
        return NewRows(seconds, values)

    def _table(self, lines: Sequence[str]) -> Table:
        return table_of(
            "\n".join(lines) + "\n",
            self._path,
            Remarks(),
            separator=self._separator,
            encoding=self._encoding,
            header_line=self._header_line,
        )

    def _times(self, table: Table) -> Times:
        clock = table.cells[self._roles.time[0]].str.cat(table.cells[self._roles.time[1:]], sep=" ")
        form = self._options.time_format
        return parse_times(clock, self._path, form, lines=table.lines, decimal=self._decimal)

    def _values(self, table: Table) -> NDArray[np.float64]:
        roles = self._roles._replace(table=table)
        try:
            values = values_of(roles, self._decimal, self._marks, "line", Remarks())
        except ValueError:  # no value at all
            values = np.full((len(table.cells), len(roles.phases)), np.nan)
        return np.asarray(values * self._scales)

    def _clear(self, lines: Sequence[str], table: Table) -> list[str]:
        """A row that tells the day from the month, so that few new rows can be read beside it."""
        for line in dict.fromkeys(table.lines.tolist()):
            try:
                self._times(_row(table, line))
            except ValueError:
                continue
            return [lines[line - 1]]
        return [lines[int(table.lines[0]) - 1]]

    def _in_utc(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of an hour that comes twice, the second if the first was there already."""
        if self._ahead is not None:
            return seconds - self._ahead
        if self._zone is None:
            return seconds
        local = pd.DatetimeIndex((seconds * 1e9).round().astype(np.int64).view("datetime64[ns]"))
        either = []
        for summer in (True, False):
            utc = local.tz_localize(
                self._zone, ambiguous=np.full(len(local), summer), nonexistent="shift_forward"
            )
            ahead = local.to_numpy().astype(np.int64) - utc.tz_convert("UTC").tz_localize(
                None
            ).to_numpy("datetime64[ns]").astype(np.int64)
            either.append(seconds - ahead / 1e9)
        found = either[0].copy()
        for k in range(len(found)):
            if either[0][k] < self._newest - _SMALL <= either[1][k]:
                found[k] = either[1][k]
            self._newest = max(self._newest, float(found[k]))
        return found

    def _learn(self, seconds: NDArray[np.float64]) -> None:
        """Find out whether rows share whole seconds."""
        if self._spread is not None:
            return
        self._seen += seconds.tolist()
        seen = np.array(self._seen)
        if (seen % 1 != 0).any():
            self._spread = False
        elif len(np.unique(seen)) < len(seen):
            self._spread = True
        elif len(seen) > _SURE:
            self._spread = False
        self._seen = self._seen[:100]


def _row(table: Table, line: int) -> Table:
    """The one row of a line."""
    chosen = table.lines == line
    return table._replace(
        cells=table.cells.loc[chosen].reset_index(drop=True), lines=table.lines[chosen]
    )
