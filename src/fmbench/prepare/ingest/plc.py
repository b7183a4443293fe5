"""A PLC's log, as plants export it -> currents in amperes, or other channels, at the times of its
rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import format_second
from fmbench.prepare.ingest.amperes import (
    checked_units,
    describe_amperes,
    parse_marks,
    refuse_marks,
)
from fmbench.prepare.ingest.columns import Roles, find_roles
from fmbench.prepare.ingest.layout import Table, read_table
from fmbench.prepare.ingest.numbers import Decimal, find_decimal, is_number, to_numbers
from fmbench.prepare.ingest.order import Rows, in_order
from fmbench.prepare.ingest.remarks import Remarks, at_lines
from fmbench.prepare.ingest.sampling import Between, Slot
from fmbench.prepare.ingest.states import kinds_of, without_column
from fmbench.prepare.ingest.times import Clock, parse_times, spread_within_seconds
from fmbench.prepare.ingest.units import AMPERES, Unit, in_brackets
from fmbench.prepare.ingest.zones import find_zone, to_utc, zone_of_header
from fmbench.types import BENCHMARK, Plant

LONGEST = 120 * 86400
"""Seconds of a log at two samples a second; every sample takes memory, logged or not."""
FASTEST = 5000
"""Rows a second."""
_SEEN = 5000
"""Rows from which the decimal separator is found, before all of them are asked."""


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """How a log is written; what is None is detected and reported.

    Args:
        time: column of the log's time; or DATE,TIME.
        phases: columns of the currents, separated by commas; default: those that root.yaml names as
            channels, else those in A, kA or mA, else all others. Of a log with a row per tag and
            value: tags.
        time_format: format of the times in the log and in --timestamps, as for strptime.
        zone: zone of times without one, in the log, --start and --timestamps, as Europe/Berlin.
        separator: between the log's cells: comma, semicolon, tab, pipe, blanks, or a character.
        decimal: of the log's numbers: . or ,
        encoding: of the log, as utf-16, cp1252 or gbk.
        header_line: line of the log's header, from 1; 0: it has none.
        unit: of the log's currents: A, kA or mA.
        label_column: column of the log with the class of each row, by the names in root.yaml of
            --out; then the recording is labelled, and written into DIR/class-level.
        missing: what stands for a missing value in the log, as -9999 or Bad (several:
            --missing=-9999,65535); none: nothing does.
        slot: sample of a half second of log: the mean of its rows, or the last.
        between: where the log has no row: line, from row to row; hold, the last value.
    """

    time: str | None = None
    phases: str | None = None
    time_format: str | None = None
    zone: str | None = None
    separator: str | None = None
    decimal: Decimal | None = None
    encoding: str | None = None
    header_line: int | None = None
    unit: Unit | None = None
    label_column: str | None = None
    missing: str | None = None
    slot: Slot = "mean"
    between: Between = "line"


class PlcLog(NamedTuple):
    """Rows in the order of time."""

    seconds: NDArray[np.float64]
    """(R,) seconds, from what `clock` says."""
    values: NDArray[np.float64]
    """(R, C) amperes, or the channels' units; NaN where a row has none."""
    clock: Clock = "local"
    repeated: tuple[float, float] | None = None
    """Begin and end of the hour that a local clock has twice; later rows are an hour later."""
    kinds: NDArray[np.float64] | None = None
    """(R,) class index of each row, NaN where it names none; None without a column of labels."""


def read_plc(
    path: Path,
    options: LogOptions | None = None,
    remarks: Remarks | None = None,
    describe: Remarks | None = None,
    plant: Plant = BENCHMARK,
) -> PlcLog:
    """Currents, or other channels, of a text file with a time and their values in each row.

    Args:
        path: the log.
        options: how it is written.
        remarks: irregularities are added, and how they were handled.
        describe: a line about the file's layout and one about its times are added.
        plant: its channels are read, if it names any; its rate limits the length of the log.

    Raises:
        ValueError: the log, or a part of it, cannot be read, or can be read in two ways.
    """
    options = options or LogOptions()
    remarks = Remarks() if remarks is None else remarks
    describe = Remarks() if describe is None else describe
    marks = parse_marks(options.missing)
    zone = find_zone(options.zone) if options.zone is not None else None
    table = read_table(
        path,
        remarks,
        separator=options.separator,
        encoding=options.encoding,
        header_line=options.header_line,
    )
    cells = None
    if options.label_column is not None:
        table, cells = without_column(table, options.label_column)
    channels = plant.channels
    roles = find_roles(table, time=options.time, phases=options.phases, channels=channels)
    kinds = None if cells is None else kinds_of(cells, table, plant.classes)
    if kinds is not None and roles.sparse:
        raise ValueError(
            f"{path}: --label_column needs a log with a column for each signal, not a row per tag"
        )
    table = roles.table
    if len(roles.phases) > 3 and not options.phases and not any(roles.units) and not channels:
        remarks.append(
            f"{len(roles.phases)} columns are taken as currents: {', '.join(roles.phases)}; if some"
            " are not, --phases names those that are"
        )
    units = checked_units(roles.phases, roles.units, options.unit, channels, path)
    decimal = options.decimal or decimal_of(roles, units)
    describe.append(layout_words(roles, units, decimal, plant))
    clock = table.cells[roles.time[0]].str.cat(table.cells[roles.time[1:]], sep=" ")
    times = parse_times(clock, path, options.time_format, lines=table.lines, decimal=decimal)
    seconds, kind = times.seconds, times.clock
    ahead = zone_of_header(" ".join(roles.time))
    if kind == "elapsed":
        seconds = seconds * elapsed_unit(table, roles.time[0])
    elif kind == "local" and ahead is not None:
        seconds, kind = seconds - ahead, "utc"
    _refuse_coarse(seconds, times.clock, table)
    seconds = spread_within_seconds(seconds)
    local = kind == "local"
    if zone is not None and local:
        seconds, kind = to_utc(seconds, zone, path, table.lines), "utc"

    values = values_of(roles, decimal, marks, options.between, remarks)
    scales = np.array([AMPERES.get(unit, 1.0) for unit in units])
    scales[[each.unit != "A" for each in channels]] = 1.0
    if marks is None:
        refuse_marks(values, scales, roles.phases, path, table.lines, channels)
    values = values * scales
    if kinds is not None:  # moves with its row
        values = np.column_stack([values, kinds])
    rows = Rows(seconds, values, table.lines)
    rows, repeated = in_order(rows, path, local=kind == "local", remarks=remarks)
    seconds, values = rows.seconds, rows.values
    if kinds is not None:
        values, kinds = values[:, :-1], values[:, -1]
    longest = LONGEST * min(1.0, BENCHMARK.current_rate / plant.current_rate)
    if seconds[-1] - seconds[0] > longest:
        raise ValueError(
            f"{path}: its times run from {format_second(seconds[0])} to"
            f" {format_second(seconds[-1])}; one of them must be wrong, or cut the log to the days"
            f" of the video ({longest / 86400:.4g} at most)"
        )
    describe.append(_clock(seconds, kind, times.written, options.zone if local else None))
    describe_amperes(seconds, values, roles.phases, units, remarks, channels)
    return PlcLog(seconds, values, kind, repeated, kinds)


def _refuse_coarse(seconds: NDArray[np.float64], kind: Clock, table: Table) -> None:
    """Refuse times that were rounded so far that they do not say when a row was logged."""
    shared, rows = np.unique(np.floor(seconds), return_counts=True)
    most = int(rows.argmax())
    minutes = kind != "elapsed" and len(shared) > 1 and rows[most] > 1 and not np.any(seconds % 60)
    if minutes or rows[most] > FASTEST:
        line = table.lines[np.floor(seconds) == shared[most]][0]
        raise ValueError(
            f"{table.path}, line {line}: {rows[most]} rows have one time"
            f" ({'its times have no seconds' if minutes else 'they may be rounded'}); export times"
            " with seconds and decimals"
        )


def decimal_of(roles: Roles, units: list[str]) -> Decimal:
    """Of the currents.

    Raises:
        ValueError: it is ambiguous.
    """
    table = roles.table
    for count in (_SEEN, len(table.cells)):
        part = table.cells[roles.phases].head(count)
        cells = [cell for name in part for cell in part[name]]
        try:
            found = find_decimal(cells, plain=table.separator == "comma")
        except ValueError as error:
            raise ValueError(f"{table.path}: {error}") from None
        if found is not None:
            return found
    doubtful = next(cell for cell in cells if is_number(cell) and set(cell) & {".", ","})
    point: Decimal = "." if "." in doubtful else ","
    if all(unit == "kA" for unit in units):  # thousands of them are no current
        return point
    digits = doubtful.replace(point, "")
    raise ValueError(
        f"{table.path}: {doubtful!r} is {doubtful.replace(point, '.')} or {digits}: give"
        " --decimal . or --decimal , (the other one is between thousands)"
    )


def values_of(
    roles: Roles,
    decimal: Decimal,
    marks: tuple[list[float], list[str]] | None,
    between: Between,
    remarks: Remarks,
) -> NDArray[np.float64]:
    """(R, C) as the log has them; NaN where a cell is empty, marked, or no number."""
    table, columns = roles.table, []
    treated = "the value before holds" if between == "hold" else "they count as missing"
    for name in roles.phases:
        cells = table.cells[name]
        values, wrong = to_numbers(cells, decimal)
        if marks:
            numbers, texts = marks
            marked = np.isin(values, numbers) | cells.isin(texts).to_numpy(bool)
            if marked.any():
                remarks.append(f"phase {name}: {marked.sum()} values are marked as missing")
            values[marked] = np.nan
            wrong = wrong[~marked[wrong]]
        if wrong.size:
            kinds = list(dict.fromkeys(cells.iloc[wrong].head(1000)))[:3]
            remarks.append(
                f"phase {name}: {wrong.size} cells are no number"
                f" ({', '.join(repr(kind) for kind in kinds)}), {at_lines(table.lines[wrong])};"
                f" {treated}"
            )
        empty = np.flatnonzero((cells == "").to_numpy())
        if not np.isfinite(values).any():
            seen = (
                f" (line {table.lines[wrong[0]]}: {cells.iloc[wrong[0]]!r})" if wrong.size else ""
            )
            raise ValueError(
                f"{table.path}: phase {name!r} has no value at all{seen}; --phases names the"
                " columns of the currents"
            )
        if empty.size and not roles.sparse and between != "hold":
            remarks.append(
                f"phase {name}: {empty.size} cells are empty, {at_lines(table.lines[empty])}; they"
                " count as missing"
            )
        columns.append(values)
    return np.stack(columns, axis=1)


def layout_words(roles: Roles, units: list[str], decimal: Decimal, plant: Plant) -> str:
    """The line that says how the file was read."""
    table = roles.table
    phases = [
        f"{name} [{unit}]" if unit and in_brackets(name)[1] != unit else name
        for name, unit in zip(roles.phases, units, strict=True)
    ]
    if plant.channels:
        named = [f"{each.name} [{each.unit}]" for each in plant.channels]
        phases = [
            own if column in (each.name, own) else f"{own} = {column}"
            for each, own, column in zip(plant.channels, named, phases, strict=True)
        ]
    header = f"header on line {table.header_line}" if table.header_line else "no header"
    return (
        f"{table.separator}, decimal {'comma' if decimal == ',' else 'point'}, {table.encoding},"
        f" {header}, time column {' + '.join(roles.time)},"
        f" {'channels' if plant.channels else 'currents'} {', '.join(phases)}"
        + (", a row per tag" if roles.sparse else "")
    )


def _clock(seconds: NDArray[np.float64], kind: Clock, written: str, zone: str | None) -> str:
    """The line that says how the times were read."""
    steps = np.diff(seconds)
    steps = steps[steps > 0]
    rate = f", one every {np.median(steps):.4g} s" if steps.size else ""
    if kind == "elapsed":
        return f"{len(seconds)} rows, {seconds[0]:.6g} to {seconds[-1]:.6g} s{rate}; {written}"
    where = {"local": "no zone", "utc": "UTC"}[kind]
    if kind == "utc" and zone:
        where += f" from {zone}"
    return (
        f"{len(seconds)} rows, {format_second(seconds[0])} to {format_second(seconds[-1])}"
        f" ({where}){rate}; times {written}"
    )


def elapsed_unit(table: Table, name: str) -> float:
    """Seconds of one in a column of elapsed times, by its header: `t [ms]`, `elapsed_ms`."""
    units = {"ms": 1e-3, "min": 60.0, "h": 3600.0}
    unit = table.units[table.names.index(name)]
    return units.get(unit or re.split(r"[\W_]", name)[-1].lower(), 1.0)
