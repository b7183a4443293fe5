"""Finds sensors that have failed: phases of the current, and the camera.

Plain functions on arrays, for whole recordings and for the last minute of a live stream. A camera
is judged by one frame a second: `look` measures frames, block by block, and `failed_frames` judges
what was measured.

What fails for a shorter time is not found. `benchmarks/health.py` measures how far the limits are
from working sensors (benchmarks/health.md): in 20 h of simulated recordings, nothing is found, and
every failure of 40 s is.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fmbench.format.columns import stretches
from fmbench.types import Channel

Array = NDArray[np.float64]
Marks = NDArray[np.bool_]

STUCK_SECONDS, LOST_SECONDS, CAMERA_SECONDS = 15.0, 5.0, 5.0
"""Shortest failure that is found: phases stuck or copied; phases without current; frames."""
STUCK, COPIED = 0.005, 0.001
"""Range of a phase, difference of two phases, as shares of the value: the last bits of a stuck
transducer may change. Within 15 s, simulated phases have a range of 12 %, and differ by 3 %."""
NO_CURRENT, MOST = 200.0, 60_000.0
"""Amperes: below the first a phase carries no current; the second is no current of a furnace. The
benchmark's run at 6 to 14 kA, simulated ones reach 33 kA (a short circuit)."""
KILOAMPERES = 1.0, MOST / 1000
"""Medians of a log in kA. One in A has such values only while the furnace is off."""
ALIKE, FLUCTUATES = 3.0, 1.2
"""Factors while the furnace is on: most between the medians of two phases; least between the 99th
and the 5th percentile of one."""
BLACK, FLAT, EVEN = 10.0, 1.0, 0.5
"""Grey levels: mean of a black frame; deviation of the means of 8 x 8 areas of a frame without
structure; deviation of the pixels of an even one, without even noise."""
BRIGHT, SATURATED, SATURATED_SECONDS = 250, 0.95, 30.0
"""Grey level, share of values at or above it, and for how long: flares of simulated furnaces last
up to 14 s, and one of about 300 recordings had a picture that was saturated for 6 s."""
SAME, NEARLY = 0.5, 2.5
"""Mean change of a frame in grey levels. A frozen picture changes where a video encoder begins anew
(by 1.7 at most in H.264 at CRF 23 and 35), not in between."""
AREAS = 8


class Failed(StrEnum):
    """How a sensor has failed. `OFF` and `SMALL` are no failures: no phase has current; a channel
    is too small for a phase, and is not tested for lost current."""

    NOT_FINITE = "not finite"
    UNIT = "unit"
    OUT_OF_RANGE = "out of range"
    OFF = "off"
    LOST = "lost"
    SMALL = "small"
    STUCK = "stuck"
    COPIES = "copies"
    BLACK = "black"
    UNIFORM = "uniform"
    CAPPED = "capped"
    SATURATED = "saturated"
    FROZEN = "frozen"


class Failure(NamedTuple):
    """A failed sensor.

    Attributes:
        kind: how it failed.
        start, stop: first sample or look, and the one after the last.
        what: what was found, without its time.
    """

    kind: Failed
    start: int
    stop: int
    what: str


def failed_currents(
    samples: NDArray[np.floating[Any]],
    rate: float,
    channels: Sequence[Channel] = (),
    usual: NDArray[np.floating[Any]] | None = None,
) -> list[Failure]:
    """Failures of the currents, by their start.

    Args:
        samples: (S, C) amperes, oldest first; NaN where there is none.
        rate: samples per second.
        channels: names and units of the columns; none: phases in amperes. Of another unit than A,
            only values that are not finite are failures: a set-point is constant, two may be equal,
            and a temperature may be negative. Of those in A, one that stays below NO_CURRENT is
            no phase, such as the current of a motor.
        usual: (C,) size of each channel in normal operation, which then tells the phases; None: the
            largest of the samples.
    """
    every = np.asarray(samples, np.float64)
    names = [each.name for each in channels] or [str(k + 1) for k in range(every.shape[1])]
    found = []
    for start, stop in stretches(np.asarray(~np.isfinite(every).all(axis=1))):
        lost = _phases(np.asarray(~np.isfinite(every[start:stop]).all(axis=0)), names)
        found.append(Failure(Failed.NOT_FINITE, start, stop, f"{lost} has no finite value"))
    if channels:
        chosen = [k for k, each in enumerate(channels) if each.unit == "A"]
        if not chosen:
            return found
        every, names = every[:, chosen], [names[k] for k in chosen]
        usual = None if usual is None else np.abs(usual[chosen])
    finite = np.isfinite(every)
    amperes = np.where(finite, every, np.nan)
    if _in_kiloamperes(amperes):
        middle = float(np.nanmedian(amperes))
        what = f"the currents look like kiloamperes (median {middle:.3g}), not amperes"
        found.insert(0, Failure(Failed.UNIT, 0, len(amperes), what))
        amperes *= 1000
    wrong = finite & ((amperes > MOST) | (amperes < -NO_CURRENT))
    for start, stop in stretches(np.asarray(wrong.any(axis=1))):
        inside = amperes[start:stop][wrong[start:stop]]
        worst = inside[np.abs(inside).argmax()]
        what = f"{_phases(np.asarray(wrong[start:stop].any(axis=0)), names)} reads {worst:.6g} A"
        what += f"; a furnace has 0 to {MOST:,.0f} A"
        found.append(Failure(Failed.OUT_OF_RANGE, start, stop, what))
    amperes[wrong] = np.nan
    found += _constant(amperes, rate, names)
    if channels:
        sizes = np.nanmax(np.abs(amperes), axis=0, initial=0) if usual is None else usual
        for k in np.flatnonzero(sizes < NO_CURRENT):
            what = f"channel {names[k]} stays below {NO_CURRENT:g} A: no phase of a furnace"
            found.append(Failure(Failed.SMALL, 0, len(amperes), what))
        phases = np.flatnonzero(sizes >= NO_CURRENT)
        amperes, names = amperes[:, phases], [names[k] for k in phases]
    if names:
        found += _lost(amperes, rate, names)
    return sorted(found, key=_by_start)


def _by_start(failure: Failure) -> int:
    return failure.start


def _in_kiloamperes(samples: Array) -> bool:
    """Whether two phases or more would run and fluctuate alike if their values were kiloamperes.

    A log in amperes has such small values while the furnace is off, but as each channel's own
    offset and noise.
    """
    known = samples[np.isfinite(samples).all(axis=1)]
    if not known.size:
        return False
    low, middle, high = np.percentile(known, (5, 50, 99), axis=0)
    runs = (middle >= KILOAMPERES[0]) & (low > 0)
    return bool(
        runs.sum() >= min(2, len(middle))
        and (high <= KILOAMPERES[1]).all()
        and middle[runs].max() <= ALIKE * middle[runs].min()
        and (high > FLUCTUATES * low)[runs].all()
    )


def _lost(amperes: Array, rate: float, names: Sequence[str]) -> list[Failure]:
    """Times without current: of all phases, and of some of them."""
    least = max(1, round(LOST_SECONDS * rate))
    without = np.abs(amperes) < NO_CURRENT  # false where not finite
    off = np.asarray(without.all(axis=1))
    what = f"no phase has current (below {NO_CURRENT:g} A): the furnace is off"
    found = [Failure(Failed.OFF, *place, what) for place in _long(off, least)]
    for phase in range(amperes.shape[1]):
        for start, stop in _long(without[:, phase] & ~off, least):
            highest = amperes[start:stop, phase].max()
            what = f"phase {names[phase]} has no current (at most {highest:.4g} A), others have"
            found.append(Failure(Failed.LOST, start, stop, what))
    return found


def _constant(amperes: Array, rate: float, names: Sequence[str]) -> list[Failure]:
    """Phases that are constant, or equal to another one, while they have current."""
    size = max(2, round(STUCK_SECONDS * rate))
    if len(amperes) < size:
        return []
    has_current = amperes >= NO_CURRENT
    found = []
    held = np.zeros(amperes.shape, np.bool_)
    for phase, values in enumerate(amperes.T):
        windows = sliding_window_view(values, size)
        highest = windows.max(axis=1)
        flat = (highest - windows.min(axis=1) <= STUCK * highest) & (highest >= NO_CURRENT)
        held[:, phase] = _covered(flat, size)
        for start, stop in stretches(held[:, phase]):
            what = f"phase {names[phase]} is stuck at {np.median(values[start:stop]):.6g} A"
            found.append(Failure(Failed.STUCK, start, stop, what))
    for one, other in combinations(range(amperes.shape[1]), 2):
        first, second = amperes[:, one], amperes[:, other]
        equal = np.abs(first - second) <= COPIED * np.abs(first)
        equal &= has_current[:, one] & has_current[:, other] & ~held[:, one]
        for start, stop in _long(equal, size):
            what = f"phases {names[one]} and {names[other]} are equal: one is a copy of the other"
            found.append(Failure(Failed.COPIES, start, stop, what))
    return found


def _covered(windows: Marks, size: int) -> Marks:
    """(S,) samples within a marked window; windows (S - size + 1,) begin at each sample."""
    edges = np.zeros(len(windows) + size, np.int64)
    edges[: len(windows)] += windows
    edges[size:] -= windows
    return edges[:-1].cumsum() > 0


def _long(marked: Marks, least: int) -> list[tuple[int, int]]:
    return [(start, stop) for start, stop in stretches(marked) if stop - start >= least]


def _phases(marked: Marks, names: Sequence[str]) -> str:
    some = [names[int(k)] for k in np.flatnonzero(marked)]
    return f"phase {some[0]}" if len(some) == 1 else f"each of phases {', '.join(some)}"


class Looks(NamedTuple):
    """What is measured of frames, each (n,) float64, in grey levels from 0 to 255."""

    level: Array
    """Mean."""
    structure: Array
    """Standard deviation of the means of 8 x 8 areas, which average a camera's noise."""
    spread: Array
    """Standard deviation of the pixels' grey levels."""
    bright: Array
    """Share of values at BRIGHT or above."""
    change: Array
    """Mean absolute difference from the frame before; NaN where there is none."""

    @classmethod
    def joined(cls, parts: list[Looks]) -> Looks:
        """Looks at consecutive frames, one after the other."""
        return cls(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def look(frames: NDArray[np.uint8], before: NDArray[np.uint8] | None = None) -> Looks:
    """Measure frames (n, 3, H, W), in order and evenly spaced in time, n at least 1.

    Args:
        before: (3, H, W), the frame before the first.
    """
    grey = frames.mean(axis=1, dtype=np.float32)
    rows, columns = (_starts(side) for side in grey.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=1), columns, axis=2)
    sizes = np.outer(np.diff(rows, append=grey.shape[1]), np.diff(columns, append=grey.shape[2]))
    earlier = frames[:-1] if before is None else np.concatenate([before[None], frames[:-1]])
    later = frames[len(frames) - len(earlier) :]
    steps = np.abs(later.astype(np.int16) - earlier).mean(axis=(1, 2, 3))
    return Looks(
        level=grey.mean(axis=(1, 2), dtype=np.float64),
        structure=(sums / sizes).std(axis=(1, 2), dtype=np.float64),
        spread=grey.std(axis=(1, 2), dtype=np.float64),
        bright=(frames >= BRIGHT).mean(axis=(1, 2, 3)),
        change=np.concatenate([np.full(len(frames) - len(steps), np.nan), steps]),
    )


def _starts(side: int) -> NDArray[np.int64]:
    """First pixel of each area along a side."""
    count = min(AREAS, side)
    return np.arange(count) * side // count


def failed_frames(looks: Looks, rate: float = 1.0) -> list[Failure]:
    """Failures of the camera, by their start.

    Args:
        looks: at frames that are evenly spaced in time, about one a second: a video of few frames
            per second repeats each of them in a recording of 25 per second.
        rate: looks per second.
    """
    least = max(2, round(CAMERA_SECONDS * rate))
    flat = looks.structure < FLAT
    saturated = looks.bright >= SATURATED
    black = flat & (looks.level < BLACK)
    even = flat & (looks.spread < EVEN)
    marks = {
        Failed.SATURATED: saturated,
        Failed.BLACK: black & ~saturated,
        Failed.UNIFORM: even & ~black & ~saturated,
        Failed.CAPPED: flat & ~even & ~black & ~saturated,
    }
    found = []
    dead = np.zeros(len(flat), np.bool_)
    for kind, marked in marks.items():
        long = round(SATURATED_SECONDS * rate) if kind is Failed.SATURATED else least
        for start, stop in _long(marked, max(long, least)):
            what = _WORDS[kind].format(level=np.median(looks.level[start:stop]))
            found.append(Failure(kind, start, stop, what))
            dead[start:stop] = True
    nearly = (looks.change <= NEARLY) & ~dead & ~saturated  # NaN is not
    for start, stop in _long(nearly, least - 1):
        if (looks.change[start:stop] <= SAME).mean() >= 0.5:
            # The first frame of the picture is the one before the first that does not change.
            found.append(Failure(Failed.FROZEN, max(start - 1, 0), stop, _WORDS[Failed.FROZEN]))
    return sorted(found, key=_by_start)


_WORDS = {
    Failed.SATURATED: "the frames are saturated",
    Failed.BLACK: "the frames are black (mean {level:.1f} of 255)",
    Failed.UNIFORM: "the frames are uniform, at {level:.0f} of 255: no signal",
    Failed.CAPPED: "the frames show noise without structure, at {level:.0f} of 255: covered lens",
    Failed.FROZEN: "the picture is frozen: frames repeat, although a furnace flickers",
}
