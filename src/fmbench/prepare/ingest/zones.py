"""A local clock and its zone -> UTC; the hour that comes twice in autumn by the file's order."""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.format.columns import format_second, stretches

_NEAR = 1800.0
"""Seconds: rows closer than this follow each other without the hour between them."""


def find_zone(name: str) -> ZoneInfo:
    """A zone of the IANA data base.

    Raises:
        ValueError: it has no such name.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"--zone is {name!r}{nearest(name, available_timezones())}; it takes a name of the IANA"
            " data base, as Europe/Berlin, Asia/Shanghai or UTC"
        ) from None


def zone_of_header(name: str) -> float | None:
    """Seconds ahead of UTC of times whose header says UTC or GMT; None where it does not.

    >>> zone_of_header("Time (UTC)"), zone_of_header("Time GMT+8"), zone_of_header("time")
    (0.0, 28800.0, None)
    """
    found = re.search(r"(?<![A-Za-z])(?:UTC|GMT)\s*(?:([+-])(\d{1,2})(?::?(\d{2}))?)?", name)
    if found is None:
        return None
    ahead = 3600.0 * int(found[2] or 0) + 60.0 * int(found[3] or 0)
    return -ahead if found[1] == "-" else ahead


def to_utc(
    seconds: NDArray[np.float64],
    zone: ZoneInfo,
    path: Path,
    lines: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """(N,) seconds since 1970 in UTC of a local clock, in the order of the file.

    Of an hour that comes twice, rows before the clock goes back are the first, rows after it the
    second. Where it does not go back, the rows belong to the hour that they join without a gap.

    Args:
        seconds: (N,) seconds since 1970 by the local clock.
        zone: of the clock.
        path: the file, or the option, for messages.
        lines: (N,) lines in the file, for messages.

    Raises:
        ValueError: a time does not exist in the zone, or may be in either of two hours.
    """
    local = pd.DatetimeIndex((seconds * 1e9).round().astype(np.int64).view("datetime64[ns]"))
    gone = local.tz_localize(zone, ambiguous=np.ones(len(local), bool), nonexistent="NaT").isna()
    if gone.any():
        row = int(np.flatnonzero(gone)[0])
        where = "" if lines is None else f", line {lines[row]}"
        raise ValueError(
            f"{path}{where}: {format_second(seconds[row])} does not exist in {zone.key}, whose"
            " clocks skip it; is the zone right? A clock that never changes is in one as Etc/GMT-1"
            " (UTC+1)"
        )
    twice = local.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").isna()
    summer = np.ones(len(local), bool)
    for start, stop in stretches(np.asarray(twice)):
        back = np.flatnonzero(np.diff(seconds[start:stop]) < -2.0)
        if len(back) == 1:
            summer[start + back[0] + 1 : stop] = False
            continue
        joins_before = start > 0 and 0 <= seconds[start] - seconds[start - 1] < _NEAR
        joins_after = stop < len(seconds) and 0 <= seconds[stop] - seconds[stop - 1] < _NEAR
        if len(back) or joins_before == joins_after:
            raise ValueError(_twice(seconds, zone, path, lines, start, stop))
        summer[start:stop] = joins_before
    utc = local.tz_localize(zone, ambiguous=summer).tz_convert("UTC").tz_localize(None)
    offset = utc.to_numpy("datetime64[ns]").astype(np.int64) - local.to_numpy().astype(np.int64)
    return np.asarray(seconds + offset / 1e9)


def _twice(
    seconds: NDArray[np.float64],
    zone: ZoneInfo,
    path: Path,
    lines: NDArray[np.int64] | None,
    start: int,
    stop: int,
) -> str:
    first = pd.Timestamp(round(seconds[start] * 1e9))
    written = [first.tz_localize(zone, ambiguous=bool(summer)) for summer in (True, False)]
    if lines is None:
        either = " or ".join(f'"{time.isoformat(" ", "seconds")}"' for time in written)
        return f"{path}: {format_second(seconds[start])} comes twice in {zone.key}; write {either}"
    return (
        f"{path}, lines {lines[start]} to {lines[stop - 1]}: these times come twice in {zone.key},"
        " and the rows do not go back once within them, so that they may be in either hour; write"
        f" them with their offset, as {written[0].isoformat(' ', 'seconds')}. A clock that never"
        " changes is in a zone as Etc/GMT-1 (UTC+1)"
    )
