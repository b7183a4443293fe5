"""The rows of a log in the order of time: joined exports, repeated rows, the repeated hour."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import format_second
from fmbench.prepare.ingest.remarks import Remarks, at_lines, at_times

HOUR = 3600.0
_NIGHT = (22, 23, 0, 1, 2, 3)
"""Hours in which clocks are changed, over the world."""
_SMALL = 2.0
"""Seconds by which rows may be out of order without being another pass over the time."""


class Rows(NamedTuple):
    """Rows of a log."""

    seconds: NDArray[np.float64]
    """(R,)"""
    values: NDArray[np.float64]
    """(R, C)"""
    lines: NDArray[np.int64]
    """(R,) in the file, from 1."""


def in_order(
    rows: Rows, path: Path, *, local: bool, remarks: Remarks
) -> tuple[Rows, tuple[float, float] | None]:
    """Rows sorted by time, and the hour of a clock without a zone that the log has twice.

    Where the clock goes back, the rows after it either fill a hole, or repeat earlier rows, which
    are dropped; where they contradict earlier rows, the log is refused. By a clock without a zone
    that goes back exactly an hour, later rows are an hour later: the times go on in summer time.

    Args:
        rows: in the order of the file.
        path: the file.
        local: whether the clock has no zone.
        remarks: what is found is added.

    Raises:
        ValueError: rows of one time contradict each other.
    """
    seconds = rows.seconds
    steps = np.diff(seconds)
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    ahead = np.flatnonzero(np.abs(steps - step - HOUR) <= max(1.0, step))
    if local and len(ahead) == 1 and _at_night(seconds[ahead[0] + 1]):
        remarks.append(
            f"the clock skips an hour in line {rows.lines[ahead[0] + 1]}"
            f" ({format_second(seconds[ahead[0] + 1])}), as in spring; if clocks were changed, give"
            " --zone, as --zone Europe/Berlin"
        )
    back = np.flatnonzero(steps < 0)
    if not back.size:
        return _merged(rows, remarks), None
    jumps = back[steps[back] < -max(_SMALL, 3 * step)]
    passes = np.zeros(len(seconds), np.int64)
    passes[jumps + 1] = 1
    passes = np.cumsum(passes)
    kept = np.ones(len(seconds), bool)
    for number in range(1, len(jumps) + 1):
        at = int(jumps[number - 1])
        inside, agrees = _compared(rows, passes < number, passes == number, step)
        if inside.size and agrees.all():
            kept[inside] = False
            continue
        length = float(seconds[at] - seconds[at + 1]) + step
        hours = length / HOUR
        if local and len(jumps) == 1 and abs(length - HOUR) <= max(_SMALL, 2 * step):
            landed = float(seconds[at + 1])
            if inside.size or _at_night(landed):
                later = np.where(passes == 1, HOUR, 0.0)
                remarks.append(
                    f"the clock goes back an hour in line {rows.lines[at + 1]}"
                    f" ({format_second(landed)}), as in autumn; later rows are taken an hour later,"
                    " so that the recording's clock goes on in summer time"
                )
                moved = rows._replace(seconds=seconds + later)
                return in_order(moved, path, local=False, remarks=remarks)[0], (
                    landed,
                    landed + HOUR,
                )
        _refuse_lost_half_day(rows, at, hours, step, path)
        if inside.size:
            _refuse(rows, at, inside[~agrees][0], length, path, local)
    dropped = np.count_nonzero(~kept)
    if dropped:
        remarks.append(
            f"{dropped} rows repeat earlier ones, {at_lines(rows.lines[~kept])}; exports overlap,"
            " and the rows were dropped"
        )
    remarks.append(
        f"the clock goes back {back.size} times, first in line {rows.lines[back[0] + 1]}"
        f" ({format_second(seconds[back[0] + 1])}), by up to {-steps.min():.6g} s; rows were sorted"
    )
    order = np.argsort(seconds[kept], kind="stable")
    return _merged(_rows(rows, np.flatnonzero(kept)[order]), remarks), None


def _compared(
    rows: Rows, earlier: NDArray[np.bool_], now: NDArray[np.bool_], step: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Of the rows `now`, those within times that the `earlier` rows cover, and which of them repeat
    an earlier row."""
    before = np.flatnonzero(earlier)
    before = before[np.argsort(rows.seconds[before], kind="stable")]
    known, later = rows.seconds[before], np.flatnonzero(now)
    times = rows.seconds[later]
    at = np.searchsorted(known, times - 1e-6).clip(max=len(known) - 1)
    left = known[(at - 1).clip(min=0)]
    same = np.abs(known[at] - times) < 1e-6
    between = (left < times) & (known[at] > times) & (known[at] - left <= 1.5 * step + 1e-6)
    equal = same & _equal(rows.values[before[at]], rows.values[later])
    covered = same | between
    return later[covered], equal[covered]


def _at_night(second: float) -> bool:
    return int(second // HOUR) % 24 in _NIGHT


def _equal(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1))


def _merged(rows: Rows, remarks: Remarks) -> Rows:
    """Sorted rows without those that repeat the one before them."""
    same = np.diff(rows.seconds) == 0
    equal = np.append(False, same & _equal(rows.values[1:], rows.values[:-1]))
    both = np.isfinite(rows.values[1:]) & np.isfinite(rows.values[:-1])
    other = np.flatnonzero(same & ~equal[1:] & both.any(axis=1))
    if equal.any():
        remarks.append(
            f"{np.count_nonzero(equal)} rows come twice, {at_lines(rows.lines[equal])}; dropped"
        )
    if other.size:
        remarks.append(
            f"{other.size} times come twice with other values, {at_times(rows.seconds[other])};"
            " averaged"
        )
    return _rows(rows, np.flatnonzero(~equal))


def _rows(rows: Rows, at: NDArray[np.int64]) -> Rows:
    return Rows(rows.seconds[at], rows.values[at], rows.lines[at])


def _refuse_lost_half_day(rows: Rows, at: int, hours: float, step: float, path: Path) -> None:
    for lost, why in (
        (12, "a 12-hour clock without AM and PM; export a 24-hour clock, or split the log there"),
        (24, "the date does not change at midnight; correct it, or split the log there"),
    ):
        if abs(hours - lost) * HOUR <= max(_SMALL, 2 * step):
            raise ValueError(
                f"{path}, line {rows.lines[at + 1]}: the clock goes back {lost} hours, from"
                f" {format_second(rows.seconds[at])} to {format_second(rows.seconds[at + 1])}:"
                f" {why}"
            )


def _refuse(rows: Rows, at: int, row: int, length: float, path: Path, local: bool) -> None:
    autumn = (
        " If clocks were set back for the winter there, --zone tells the hours apart, as --zone"
        " Europe/Berlin."
        if local
        else ""
    )
    raise ValueError(
        f"{path}, line {rows.lines[at + 1]}: the clock goes back {length:.6g} s, from"
        f" {format_second(rows.seconds[at])} to {format_second(rows.seconds[at + 1])}, and rows"
        f" contradict earlier ones, first line {rows.lines[row]}"
        f" ({format_second(rows.seconds[row])}).{autumn} Otherwise remove the rows of one of them"
    )
