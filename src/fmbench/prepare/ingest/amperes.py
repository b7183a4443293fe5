"""Numbers of a log -> amperes, or the units of other channels: units, marks of missing values, and
values no furnace draws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmbench.prepare.ingest.remarks import Remarks, at_lines, at_times
from fmbench.prepare.ingest.units import AMPERES, Unit, known_unit
from fmbench.types import Channel

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
_NO_NUMBER = 1e30
"""No quantity of a plant is as large, in any unit."""
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


def checked_units(
    names: Sequence[str],
    units: Sequence[str],
    given: Unit | None,
    channels: Sequence[Channel],
    path: Path,
) -> list[str]:
    """Units of the log's columns. Currents in kA or mA become amperes; a channel of another unit is
    copied, so that its column must be in this unit.

    Args:
        names: columns of the phases, or of the channels.
        units: of each by the header; "" where it has none.
        given: of the currents, instead of the header's.
        channels: of the data set; none where all are currents.
        path: the log.

    Raises:
        ValueError: a column has another unit than its channel, or `given` has no effect.
    """
    if not channels:
        return [given or unit for unit in units]
    if given and all(channel.unit != "A" for channel in channels):
        raise ValueError(f"--unit {given} is of currents, but no channel of root.yaml is in A")
    found = []
    for name, unit, channel in zip(names, units, channels, strict=True):
        own = (given or unit) if channel.unit == "A" else unit
        right = (
            own in AMPERES or not known_unit(own) if channel.unit == "A" else own == channel.unit
        )
        if own and not right:
            raise ValueError(
                f"{path}: column {name!r} is in {own}, but root.yaml has {channel.name!r} in"
                f" {channel.unit}; correct the unit in root.yaml, or convert the column"
            )
        found.append(own if own in AMPERES or channel.unit != "A" else "")
    return found


def refuse_marks(
    values: NDArray[np.float64],
    scales: NDArray[np.float64],
    names: Sequence[str],
    path: Path,
    lines: NDArray[np.int64],
    channels: Sequence[Channel] = (),
) -> None:
    """Refuse values that look like marks of a missing one.

    These are numbers by which controllers say "no value" (-9999, 65535, …) or above 1 MA, and
    values that repeat exactly three times or more, farther outside the possible currents than the
    rest is wide. Of a channel in another unit than A, only such numbers are refused that lie
    farther outside the others than these are wide.

    Args:
        values: (R, C) as the log has them; NaN where it has none.
        scales: (C,) amperes of one.
        names: of the phases.
        path: the log.
        lines: (R,) line of each row.
        channels: of the data set; none where all are currents.

    Raises:
        ValueError: there are such values; names the first line and the remedy.
    """
    for k, name in enumerate(names):
        distinct, counts = np.unique(values[np.isfinite(values[:, k]), k], return_counts=True)
        if not len(distinct):
            continue
        amperes = distinct * scales[k]
        unit = channels[k].unit if channels else "A"
        possible = (amperes >= 0) & (amperes <= HIGHEST)
        if unit != "A":
            possible = ~np.isin(distinct, _MARKS) & (np.abs(distinct) < _NO_NUMBER)
        if counts[possible].sum() <= counts.sum() / 2:
            continue  # the unit is wrong rather than single values
        rest = amperes[possible]
        far = np.maximum(rest.min() - amperes, amperes - rest.max()) > np.ptp(rest)
        mark = np.isin(distinct, _MARKS) | (np.abs(amperes) > _ABSURD)
        looks = ~possible & (mark | (far & (counts >= _REPEATED)))
        if unit != "A":
            looks = ~possible & far
        elif possible[-1] and distinct[-1] in _MARKS and counts[-1] >= _REPEATED and len(rest) > 1:
            looks[-1] = rest[-2] < 0.8 * rest[-1]
        if looks.any():
            found = distinct[looks]
            rows = np.flatnonzero(np.isin(values[:, k], found))
            shown = ",".join(repr(float(value)).removesuffix(".0") for value in found[:3])
            raise ValueError(
                f"{path}: phase {name!r} is {shown} in {at_lines(lines[rows])} ({rows.size} rows),"
                f" far outside the rest ({rest[rest >= 0].min() if unit == 'A' else rest.min():.6g}"
                f" to {rest[~looks[possible]].max():.6g} {unit}). Does it mark a missing value?"
                f" Then give --missing={shown}; if all values are"
                f" {'currents' if unit == 'A' else 'measured'}, --missing none"
            )


def describe_amperes(
    seconds: NDArray[np.float64],
    values: NDArray[np.float64],
    names: Sequence[str],
    units: Sequence[str],
    remarks: Remarks,
    channels: Sequence[Channel] = (),
) -> None:
    """Tell of (R, C) amperes that no furnace of this kind draws; `units` are those of the log, ""
    where it has none. Channels in other units are left out."""
    for k, name in enumerate(names):
        if channels and channels[k].unit != "A":
            continue
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
