"""Which columns of a log are its time and its currents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from fmbench.errors import nearest
from fmbench.prepare.ingest.layout import Table
from fmbench.prepare.ingest.numbers import is_number
from fmbench.prepare.ingest.times import has_clock, has_date
from fmbench.prepare.ingest.units import AMPERES, in_brackets, units_of
from fmbench.types import Channel

_TIME_NAMES = re.compile(
    r"time|zeit|date|datum|stamp|heure|hora|fecha|when|clock|elapsed|sec|时间|日期|^t$|^s$|^ts$",
    re.I,
)
_TAG_NAMES = re.compile(r"tag|name|signal|variable|channel|item|point|id|变量|标签", re.I)
_VALUE_NAMES = re.compile(r"value|wert|reading|数值|^值$|^v(al)?$", re.I)
_COUNTER = re.compile(r"(no|nr|num|nummer|number|index|idx|id|row|zeile|lfd.*|序号|#)\.?", re.I)
_SEEN = 200
"""Rows from which a column's kind is found."""


class Roles(NamedTuple):
    """A wide table: columns of the time and of the currents, or channels."""

    time: list[str]
    """One column, or those of the date and of the time of day."""
    phases: list[str]
    units: list[str]
    """Of each phase by the header; "" where it has none."""
    table: Table
    sparse: bool
    """Whether the log had a row per tag and value: most rows lack most phases."""


def find_roles(
    table: Table, *, time: str | None, phases: str | None, channels: Sequence[Channel] = ()
) -> Roles:
    """Time and currents of a log; one with a row per tag and value is widened.

    Args:
        table: the log.
        time: column of the time, or `DATE,TIME`; None to find it.
        phases: columns, or tags, of the currents, separated by commas; None: those in A, kA or mA
            if the header has units, else all others.
        channels: of the data set; `phases` are their columns in this order, by default those of
            their names.

    Raises:
        ValueError: no such column, none that can be the time, or not one for each channel.
    """
    wanted = _listed(phases) if phases else [each.name for each in channels]
    clock, sparse = _given(time, table) if time else _find_time(table), False
    if not wanted or not all(name in table.names for name in wanted):
        long = _tag_and_value(table, clock)
        tags = [str(tag) for tag in table.cells[long[0]].unique()] if long else []
        if long and (not wanted or {*wanted} & {*tags, *units_of(tags)[0]}):
            table, sparse = _widened(table, clock, *long), True
    if phases:
        chosen = [name for each in wanted for name in _given(each, table, exact=True)]
    elif channels:
        chosen = [_column_of(each, table) for each in channels]
    else:
        others = [name for name in table.names if name not in clock]
        amperes = [name for name in others if _unit(table, name) in AMPERES]
        chosen = amperes or [
            name for name in others if not _unit(table, name) and not _counts(table, name)
        ]
    if table.cells.empty or not chosen:
        raise ValueError(
            f"{table.path}: {len(table.cells)} rows, {len(chosen)} phases; nothing to read"
        )
    if channels and len(chosen) != len(channels):
        names = ", ".join(each.name for each in channels)
        raise ValueError(
            f"--phases names {len(chosen)} columns, but root.yaml has {len(channels)} channels:"
            f" {names}; name a column for each, in this order"
        )
    units = [_unit(table, name) for name in chosen]
    if channels:  # in units that need not be known
        units = [unit or in_brackets(name)[1] for unit, name in zip(units, chosen, strict=True)]
    return Roles(clock, chosen, units, table, sparse)


def _column_of(channel: Channel, table: Table) -> str:
    """The column of a channel's name, with or without a unit.

    Raises:
        ValueError: there is none, or several.
    """
    if channel.name in table.names:
        return channel.name
    found = [name for name in table.names if in_brackets(name)[0] == channel.name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{table.path}: {', '.join(map(repr, found))} are named as the channel {channel.name!r}"
            " of root.yaml; --phases says which column is its"
        )
    raise ValueError(
        f"{table.path}: no column is named as the channel {channel.name!r} of root.yaml"
        f"{nearest(channel.name, table.names)}. Columns: {', '.join(table.names)}; --phases names a"
        " column for each channel"
    )


def _counts(table: Table, name: str) -> bool:
    """Whether a column numbers the rows, by its name and its cells."""
    cells = pd.to_numeric(table.cells[name].head(_SEEN), errors="coerce")
    return _COUNTER.fullmatch(name) is not None and bool((cells.diff().dropna() == 1).all())


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _unit(table: Table, name: str) -> str:
    return table.units[table.names.index(name)]


def _given(names: str, table: Table, *, exact: bool = False) -> list[str]:
    """Columns that are named, with or without their units."""
    known = table.names
    if names in known:
        return [names]
    found = [] if exact else _listed(names)
    if len(found) > 1:
        return [name for each in found for name in _given(each, table, exact=True)]
    (bare,), (unit,) = units_of([names])
    if bare in known and _unit(table, bare) == unit:
        return [bare]
    alike = [name for name in known if in_brackets(name)[0] == names]  # of any unit
    if len(alike) == 1:
        return alike
    raise ValueError(
        f"{table.path}: no column {names!r}{nearest(names, known)}. Columns: {', '.join(known)}"
    )


def _seen(table: Table, name: str) -> list[str]:
    return [cell for cell in table.cells[name].head(_SEEN) if cell]


def _find_time(table: Table) -> list[str]:
    """Of columns, the first with date and time of day; or a date beside a time of day; or the first
    whose header says that it is a time."""
    dates: list[str] = []
    for name in table.names:
        seen = _seen(table, name)[:20]
        dated = [has_date(cell) for cell in seen]
        timed = [has_clock(cell) for cell in seen]
        if seen and all(dated) and any(timed):
            return [name]
        if dates and seen and all(timed):
            return [dates[-1], name]
        if seen and all(dated):
            dates.append(name)
    named = [name for name in table.names if _TIME_NAMES.search(name)]
    large = [
        name
        for name in table.names
        if (seen := _seen(table, name))
        and all(is_number(cell) for cell in seen)
        and all(len(re.split("[.,]", cell)[0].lstrip("-")) >= 9 for cell in seen)  # since 1970
    ]
    if dates or large or named:
        return (dates or large or named)[:1]
    if table.names and table.names[0].lower() in ("1", "column 1"):
        return table.names[:1]
    raise ValueError(
        f"{table.path}: no column of times among {', '.join(table.names)}; name it: --time"
    )


def _tag_and_value(table: Table, clock: list[str]) -> tuple[str, str] | None:
    """The columns of a log with a row per tag and value; None for another log."""
    others = [name for name in table.names if name not in clock]
    numeric = [
        name
        for name in others
        if sum(map(is_number, _seen(table, name))) > 0.5 * max(len(_seen(table, name)), 1)
    ]
    texts = [name for name in others if name not in numeric and _seen(table, name)]
    values = [name for name in numeric if _VALUE_NAMES.search(name)] or numeric
    tags = [name for name in texts if _TAG_NAMES.search(name)]
    if len(values) != 1 or not tags or (len(numeric) > 1 and values == numeric):
        return None
    return tags[0], values[0]


def _widened(table: Table, clock: list[str], tag: str, value: str) -> Table:
    """A column per tag; rows of one time are joined, the first of each tag with the first of the
    others."""
    cells = table.cells[[*clock, tag, value]].assign(line=table.lines)
    taken = cells[tag].isin([*clock, "nth", "line"])
    cells.loc[taken, tag] += " (tag)"
    key = [*clock, tag]
    cells["nth"] = cells.groupby(key, sort=False).cumcount()
    index = [*clock, "nth"]
    wide = cells.pivot(index=index, columns=tag, values=value).fillna("")
    lines = cells.groupby(index, sort=False)["line"].min()
    wide = wide.reindex(lines.index)
    tags = [str(name) for name in pd.unique(cells[tag])]
    wide = wide[tags].reset_index().drop(columns="nth")
    bare, units = units_of(tags)
    shared = _unit(table, value)
    wide.columns = pd.Index([*clock, *bare])
    return table._replace(
        names=[*clock, *bare],
        units=[*[""] * len(clock), *[unit or shared for unit in units]],
        cells=wide,
        lines=lines.to_numpy(),
    )
