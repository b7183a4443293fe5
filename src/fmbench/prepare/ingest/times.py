"""Clock times as people and machines write them -> seconds since 1970."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.prepare.ingest.numbers import Decimal, find_decimal, is_number, to_numbers

Clock = Literal["local", "utc", "elapsed"]
"""What seconds count from: 1970 by a clock without a zone; 1970 in UTC; the log's begin."""
LATEST = 9.2e9
"""Seconds since 1970, in the year 2261: the limit of pandas' nanoseconds."""
FORMATS = "YYYY-MM-DD HH:MM:SS[.fff], or seconds since 1970"
_EXCEL = (20_000, 80_000)
"""Days since 1899-12-30, as Excel counts them: the years 1954 to 2119."""
_EXCEL_STEP = 2e-4
"""Days, 17 s: above it, numbers from 20,000 to 80,000 are seconds."""
_DIVISORS = {1e8: 1.0, 1e11: 1e3, 1e14: 1e6, 1e17: 1e9}
"""Seconds, ms, us and ns since 1970 by their size; smaller numbers are elapsed seconds."""

_CLOCK = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,:](?P<fraction>\d{1,9}))?)?"
    r"\s*(?P<half>[AaPp]\.?\s?[Mm]\.?)?\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
)
_DATES = {
    "year first": r"(?P<year>\d{4})(?:[-/.]|年)(?P<month>\d{1,2})(?:[-/.]|月)(?P<day>\d{1,2})日?",
    "day or month first": r"(?P<first>\d{1,2})(?P<mark>[-/.])(?P<other>\d{1,2})(?P=mark)"
    r"(?P<year>\d{4}|\d{2})",
    "month by name": r"(?P<day>\d{1,2})[- ](?P<name>[A-Za-z]{3})[a-z]*[- ](?P<year>\d{4}|\d{2})",
    "compact": r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?=[T ])",
}
_BETWEEN = r"(?:[T,_ ]+)"
_MONTHS = {
    name: k
    for k, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?|\d{8}T\d{6}(\.\d+)?)(Z|[+-]\d\d(:?\d\d)?)?"
)


class Times(NamedTuple):
    """Times of the rows of a file."""

    seconds: NDArray[np.float64]
    """(N,) in the order of the file."""
    clock: Clock
    written: str
    """How the times are written, for messages."""


def parse_times(
    column: pd.Series,
    path: Path,
    form: str | None = None,
    *,
    lines: NDArray[np.int64] | None = None,
    decimal: Decimal | None = None,
) -> Times:
    """Seconds of cells that hold a time; with a zone, in UTC.

    Args:
        column: cells as text.
        path: the column's file, for messages.
        form: of the times, for `strptime`; None to find it.
        lines: (N,) line of each cell; None: the header is line 1.
        decimal: separator of the decimals in times that are numbers, unless these say otherwise.

    Raises:
        ValueError: a cell is no time (names the line), only some have a zone, day and month cannot
            be told apart, or `form` is not valid.
    """
    column = column.fillna("").astype(str).str.strip()
    lines = np.arange(len(column)) + 2 if lines is None else lines
    if form is not None:
        return _by_form(column, path, form, lines)
    first = next((cell for cell in column if cell), "")
    if _ISO.fullmatch(first):
        return _iso(column, path, lines)
    if is_number(first):
        return _numbers(column, path, lines, decimal)
    for kind, date in _DATES.items():
        if re.fullmatch(rf"{date}{_BETWEEN}{_CLOCK}", first):
            return _by_parts(column, path, lines, kind, rf"{date}{_BETWEEN}{_CLOCK}")
    if re.fullmatch(_CLOCK, first):
        raise ValueError(
            f"{path}, line {lines[0]}: {first!r} has no date; name both columns: --time DATE,TIME"
        )
    if any(re.fullmatch(date.replace("(?=[T ])", ""), first) for date in _DATES.values()):
        raise ValueError(
            f"{path}, line {lines[0]}: {first!r} has no time of day; name both columns: --time"
            " DATE,TIME"
        )
    raise _no_time(column, path, lines, np.ones(len(column), bool))


def is_time(cell: str) -> bool:
    """Whether a cell looks like a date, a time of day, or both."""
    return has_clock(cell) or has_date(cell) or _ISO.fullmatch(cell) is not None


def has_clock(cell: str) -> bool:
    """Whether a cell ends with a time of day."""
    clock = re.search(rf"(?:^|[T,_ ]){_CLOCK}$", cell)
    return clock is not None and (not cell[: clock.start()] or has_date(cell[: clock.start()]))


def has_date(cell: str) -> bool:
    """Whether a cell begins with a date."""
    return any(re.fullmatch(rf"{date}(?:{_BETWEEN}{_CLOCK})?", cell) for date in _DATES.values())


def spread_within_seconds(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) times; rows of a clock with whole seconds only are spread evenly over their second."""
    whole = np.floor(times)
    if not np.array_equal(times, whole) or len(np.unique(whole)) == len(times):
        return times
    starts = np.flatnonzero(np.diff(whole, prepend=np.nan) != 0)
    counts = np.diff(np.append(starts, len(times)))
    within = np.arange(len(times)) - np.repeat(starts, counts)
    return np.asarray(whole + within / np.repeat(counts, counts))


def _by_form(column: pd.Series, path: Path, form: str, lines: NDArray[np.int64]) -> Times:
    zoned = "%z" in form
    try:
        parsed = pd.to_datetime(column, format=form, errors="coerce", utc=zoned)
    except ValueError as error:
        raise ValueError(f"{path}: {form!r} is no format of a time: {error}") from None
    bad = parsed.isna().to_numpy()
    if bad.any():
        raise _no_time(column, path, lines, bad, form)
    return Times(_seconds(parsed), "utc" if zoned else "local", form)


def _iso(column: pd.Series, path: Path, lines: NDArray[np.int64]) -> Times:
    zoned = _all_or_none(
        column.str.contains(r"(?:\d:\d\d|T\d{6}).*(?:Z|[+-]\d\d(?::?\d\d)?)$").to_numpy(bool),
        path,
        lines,
    )
    parsed = pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
    bad = parsed.isna().to_numpy() | (column.str.len() < 14).to_numpy()  # a date alone
    if bad.any():
        raise _no_time(column, path, lines, bad)
    return Times(_seconds(parsed), "utc" if zoned else "local", "ISO 8601")


def _numbers(
    column: pd.Series, path: Path, lines: NDArray[np.int64], decimal: Decimal | None
) -> Times:
    try:
        decimal = find_decimal(column.head(1000), plain=decimal is None) or decimal or "."
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    values = to_numbers(column, decimal).values
    bad = ~np.isfinite(values)
    if bad.any():
        raise _no_time(column, path, lines, bad)
    size = float(np.median(np.abs(values)))
    step = float(np.median(np.abs(np.diff(values)))) if len(values) > 1 else 0.0
    divisor = next((by for least, by in reversed(_DIVISORS.items()) if size >= least), None)
    found = Times(values, "elapsed", "elapsed seconds")
    if divisor:
        unit = {1.0: "seconds", 1e3: "ms", 1e6: "us", 1e9: "ns"}[divisor]
        found = Times(values / divisor, "utc", f"{unit} since 1970")
    elif _EXCEL[0] <= size <= _EXCEL[1] and step < _EXCEL_STEP:
        seconds = np.round((values - 25_569) * 86400, 3)
        found = Times(seconds, "local", "days since 1899-12-30, as Excel counts them")
    bad = ~(np.abs(found.seconds) < LATEST)
    if bad.any():
        raise _no_time(column, path, lines, bad)
    return found


def _by_parts(
    column: pd.Series, path: Path, lines: NDArray[np.int64], kind: str, form: str
) -> Times:
    """Of cells in the shape of the regular expression `form`."""
    parts = column.str.extract(rf"^{form}$")
    bad = parts["hour"].isna().to_numpy()
    if bad.any():
        raise _no_time(column, path, lines, bad)
    if kind == "day or month first":
        kind, day, month = _day_and_month(parts, path, column)
    elif kind == "month by name":
        day, month = parts["day"], parts["name"].str.lower().map(_MONTHS)
    else:
        day, month = parts["day"], parts["month"]
    year = parts["year"].astype(int)
    hour = parts["hour"].astype(int)
    half = parts["half"].str[0].str.lower()
    twelve = half.notna().to_numpy()
    bad = np.where(twelve, (hour < 1) | (hour > 12), hour > 23)
    hour = (hour % 12 + 12 * (half == "p")).where(twelve, hour)
    numbers = {
        "year": year.where(year > 99, year + 2000),
        "month": pd.to_numeric(month),
        "day": pd.to_numeric(day),
    }
    date = pd.to_datetime(pd.DataFrame(numbers), errors="coerce")
    minute, second = (parts[name].fillna("0").astype(int) for name in ("minute", "second"))
    bad = bad | date.isna().to_numpy() | ((minute > 59) | (second > 59)).to_numpy()
    if bad.any():
        raise _no_time(column, path, lines, np.asarray(bad, bool))
    fraction = ("0." + parts["fraction"].fillna("0")).astype(float)
    seconds = _seconds(date) + (3600 * hour + 60 * minute + second + fraction).to_numpy()
    zone = parts["zone"]
    zoned = _all_or_none(zone.notna().to_numpy(), path, lines)
    if zoned:
        digits = zone.replace({"Z": "+00", "UTC": "+00", "GMT": "+00"}).str.replace(":", "")
        offset = 60 * digits.str[1:3].astype(int) + ("0" + digits.str[3:]).astype(int)
        seconds -= 60 * np.where(digits.str[0] == "-", -offset, offset)
    written = f"{kind}{', 12-hour clock' if twelve.any() else ''}"
    return Times(np.asarray(seconds, np.float64), "utc" if zoned else "local", written)


def _day_and_month(
    parts: pd.DataFrame, path: Path, column: pd.Series
) -> tuple[str, pd.Series, pd.Series]:
    """By the mark between them, or by a number above 12."""
    first, other, mark = parts["first"], parts["other"], parts["mark"].iloc[0]
    short = parts["year"].str.len().iloc[0] == 2
    clock = "%I:%M:%S %p" if parts["half"].notna().any() else "%H:%M:%S"
    year, fraction = "%y" if short else "%Y", ".%f" if parts["fraction"].notna().any() else ""
    clock = clock.replace("%S", "%S" + fraction)
    orders = [("d", "m", year[1]), ("m", "d", year[1])]
    if mark == ".":
        return "day first", first, other
    if not (short and mark == "-"):
        if (pd.to_numeric(first) > 12).any():
            return "day first", first, other
        if (pd.to_numeric(other) > 12).any():
            return "month first", other, first
        if (first == other).all():
            return "day and month are equal", first, other
    else:
        orders = [("d", "m", "y"), ("y", "m", "d")]
    forms = [f"{mark.join('%' + letter for letter in order)} {clock}" for order in orders]
    raise ValueError(
        f"{path}: day and month of {column.iloc[0]!r} cannot be told apart; give --time_format"
        f' "{forms[0]}" or --time_format "{forms[1]}"'
    )


def _all_or_none(zoned: NDArray[np.bool_], path: Path, lines: NDArray[np.int64]) -> bool:
    if zoned.any() and not zoned.all():
        odd = np.flatnonzero(zoned != zoned[0])[0]
        raise ValueError(
            f"{path}: some of its times have a zone and others have none: lines {lines[0]} and"
            f" {lines[odd]}; write all of them in one zone"
        )
    return bool(zoned.any())


def _no_time(
    column: pd.Series,
    path: Path,
    lines: NDArray[np.int64],
    bad: NDArray[np.bool_],
    form: str | None = None,
) -> ValueError:
    row = int(np.flatnonzero(bad)[0]) if bad.any() else 0
    hint = f"expected {form}" if form else f"expected {FORMATS}; or give --time_format"
    if row and row == len(column) - 1:
        hint += "; if this last line is no row of the log, delete it"
    cell, line = (column.iloc[row], lines[row]) if len(column) else ("", 2)
    return ValueError(f"{path}, line {line}: {cell!r} is no time; {hint}")


def _seconds(parsed: pd.Series) -> NDArray[np.float64]:
    """Seconds since 1970 of pandas' times."""
    naive = parsed.dt.tz_localize(None) if parsed.dt.tz is not None else parsed
    return np.asarray(naive.to_numpy("datetime64[ns]").astype(np.int64) / 1e9)
