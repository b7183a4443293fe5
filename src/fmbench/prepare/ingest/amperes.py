"""Numbers of a log -> amperes: units, marks of missing values, and values no furnace draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmbench.prepare.ingest.remarks import Remarks, at_lines, at_times

HIGHEST = 60e3
"""Amperes. The benchmark has 6 to 14 kA (official-format 4.3), the simulator up to 32 kA a sample;
the transformers of large furnaces of this kind supply up to about twice that."""
LOWEST = 100.0
"""Amperes: a median below is no running furnace's; the lowest simulated sample is 370 A."""
_MARKS = (
    *(-99, -999, -9999, -99999, -999.25, -32768, -2147483648),
    *(9999, 99999, 999999, 32767, 65535, 2147483647, 4294967295),
)
_ABSURD = 1e6
"""Amperes."""
_REPEATED = 3
"""Rows with exactly one value far outside the rest, from which it is taken for a mark."""


def parse_marks(missing: str | None) -> tuple[list[float], list[str]] | None:
    """Values and words of `--missing`; None where it is not given, empty for `none`.

    >>> parse_marks("-9999, Bad")
    ([-9999.0], ['Bad'])
    """
    if missing is None:
        return None
    numbers, words = [], []
    for each in (part.strip() for part in missing.split(",")):
        if each.lower() in ("", "none"):
            continue
        try:
            numbers.append(float(each))
        except ValueError:
            words.append(each)
    return numbers, words


def refuse_marks(
    values: NDArray[np.float64],
    scales: NDArray[np.float64],
    names: Sequence[str],
    path: Path,
    lines: NDArray[np.int64],
) -> None:
    """Refuse values that look like marks of a missing one.

    These are numbers by which controllers say "no value" (-9999, 65535, …) or above 1 MA, and
    values that repeat exactly three times or more, farther outside the possible currents than the
    rest is wide.

    Args:
        values: (R, C) as the log has them; NaN where it has none.
        scales: (C,) amperes of one.
        names: of the phases.
        path: the log.
        lines: (R,) line of each row.

    Raises:
        ValueError: there are such values; names the first line and the remedy.
    """
    for k, name in enumerate(names):
        distinct, counts = np.unique(values[np.isfinite(values[:, k]), k], return_counts=True)
        if not len(distinct):
            continue
        amperes = distinct * scales[k]
        possible = (amperes >= 0) & (amperes <= HIGHEST)
        if counts[possible].sum() <= counts.sum() / 2:
            continue  # the unit is wrong rather than single values
        rest = amperes[possible]
        far = np.maximum(rest.min() - amperes, amperes - rest.max()) > np.ptp(rest)
        mark = np.isin(distinct, _MARKS) | (np.abs(amperes) > _ABSURD)
        looks = ~possible & (mark | (far & (counts >= _REPEATED)))
        if possible[-1] and distinct[-1] in _MARKS and counts[-1] >= _REPEATED and len(rest) > 1:
            looks[-1] = rest[-2] < 0.8 * rest[-1]
        if looks.any():
            found = distinct[looks]
            rows = np.flatnonzero(np.isin(values[:, k], found))
            shown = ",".join(repr(float(value)).removesuffix(".0") for value in found[:3])
            raise ValueError(
                f"{path}: phase {name!r} is {shown} in {at_lines(lines[rows])} ({rows.size} rows),"
                f" far outside the rest ({rest[rest >= 0].min():.6g} to"
                f" {rest[~looks[possible]].max():.6g} A). Does it mark a missing value? Then give"
                f" --missing={shown}; if all values are currents, --missing none"
            )


def describe_amperes(
    seconds: NDArray[np.float64],
    values: NDArray[np.float64],
    names: Sequence[str],
    units: Sequence[str],
    remarks: Remarks,
) -> None:
    """Tell of (R, C) amperes that no furnace of this kind draws; `units` are those of the log, ""
    where it has none."""
    for k, name in enumerate(names):
        column = values[:, k]
        middle = float(np.median(np.abs(column[np.isfinite(column)])))
        unit = units[k]
        said = f"the log is in {unit}" if unit else "no unit is given, so the log is in amperes"
        odd = f"phase {name}: the median is {middle:.3g} A ({said}); a furnace like this draws"
        odd += f" {LOWEST:g} to {HIGHEST:g} A. "
        if 0 < middle < LOWEST:
            larger = {"": "kA", "A": "kA", "mA": "A"}.get(unit)
            looks = larger and middle * 1e3 >= LOWEST
            remarks.append(
                odd + (f"It looks like {larger}; give --unit {larger}" if looks else "Is it off?")
            )
            continue
        if middle > HIGHEST:
            smaller = "A" if unit == "kA" else "mA"
            remarks.append(f"{odd}It looks like {smaller}; give --unit {smaller}")
            continue
        with np.errstate(invalid="ignore"):
            negative, above = np.flatnonzero(column < 0), np.flatnonzero(column > HIGHEST)
        if negative.size:
            remarks.append(
                f"phase {name}: {negative.size} negative values, down to"
                f" {column[negative].min():.6g} A, {at_times(seconds[negative])}; an effective"
                " value is not negative. If they mark missing values, give --missing"
            )
        if above.size:
            remarks.append(
                f"phase {name}: {above.size} values above {HIGHEST:g} A, up to"
                f" {column[above].max():.6g} A, {at_times(seconds[above])}"
            )
