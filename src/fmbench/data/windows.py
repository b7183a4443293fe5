"""The frames and samples of current of a window: arithmetic on whole batches.

A window ends at its label's frame f: T frames f-(T-1)s … f and L samples of current up to the
second of f (official-format 4.6). No file is read here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.format.columns import Currents
from fmbench.types import CURRENT_RATE, FRAME_RATE

Ints = NDArray[np.int64]
Early = Literal["clamp", "drop"]
History = Literal["stretch", "pad", "drop"]
Gaps = Literal["positional", "hold", "drop"]

_LONGEST_GRID = 10**8
"""Seconds; a longer span of one recording's times can only be a wrong date."""


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """A window's frames and samples.

    Attributes:
        frames: T.
        stride: s, frames from one frame of the clip to the next.
        current_samples: L.
        early: a clip that begins before frame 0 repeats frame 0 (clamp) or is left out (drop).
            The released loader replaces such a clip by a random one, which may belong to another
            split (4.7, quirk 1); that is not offered.
        history: a current window that begins before the first sample stretches the samples there
            are (4.6, step 4), is padded with the first sample, or is left out.
        gaps: for seconds without current, or with other than two samples. positional takes the last
            L rows regardless of time (4.3, as released), and a frame whose second has no current is
            an error; hold puts the samples on a grid of two a second and repeats the last one
            known; drop leaves out the windows concerned.
        causal: leave out the second sample of the frame's own second for frames in its first half;
            otherwise a window includes up to a second of current after the frame (4.6, step 3).

    Raises:
        ValueError: a number below 1, or an unknown choice.
    """

    frames: int = 10
    stride: int = 4
    current_samples: int = 240
    early: Early = "clamp"
    history: History = "stretch"
    gaps: Gaps = "positional"
    causal: bool = False

    def __post_init__(self) -> None:
        check_positive(frames=self.frames, stride=self.stride, current_samples=self.current_samples)
        check_choice("early", self.early, get_args(Early))
        check_choice("history", self.history, get_args(History))
        check_choice("gaps", self.gaps, get_args(Gaps))

    @property
    def seconds(self) -> float:
        """Longest reach of a window: the clip plus the current window (the guard of a split)."""
        clip = (self.frames - 1) * self.stride / FRAME_RATE
        return clip + self.current_samples / CURRENT_RATE


def check_choice(option: str, value: str, allowed: Sequence[str]) -> None:
    """Raises: ValueError: `value` is not allowed; names the nearest allowed one."""
    if value not in allowed:
        raise ValueError(
            f"{option} is {str(value)!r}{nearest(str(value), allowed)}. "
            f"Allowed: {', '.join(allowed)}"
        )


def check_positive(**numbers: int | None) -> None:
    """Raises: ValueError: one is given and below 1."""
    for option, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{option} is {number}; it must be at least 1")


class Track(NamedTuple):
    """The currents of one recording, and the end of each frame's window in them."""

    values: NDArray[np.float32]
    """(R, C) amperes, oldest first."""
    end: Ints
    """(N,) one past the last row of each frame's window; 0 where there is none."""
    whole: NDArray[np.bool_]
    """(N,) False where `gaps: drop` leaves the window out, or no current precedes the frame."""


def clip_index(frame: NDArray[np.integer[Any]], frames: int, stride: int) -> Ints:
    """(B, T) frame positions of the clips that end at `frame` (B,), clamped to 0."""
    steps = np.arange(1 - frames, 1, dtype=np.int64) * stride
    index: Ints = np.maximum(frame[:, None].astype(np.int64) + steps, 0)
    return index


def current_index(end: Ints, base: Ints, samples: int, history: History) -> Ints:
    """(B, L) rows of the windows that end before row `end` and may not begin before row `base`.

    A short history of n rows is stretched by repetition: the integer parts of L equally spaced
    points from 0 to n-1; with any other `history` its first row is repeated in front.
    """
    index: Ints = end[:, None] + np.arange(-samples, 0, dtype=np.int64)
    rows = end - base
    short = rows < samples
    if not short.any():
        return index
    if history != "stretch":
        np.maximum(index, base[:, None], out=index)
        return index
    last = rows[short, None] - 1
    points = np.arange(samples) * (last / (samples - 1))  # short means samples > 1
    points[:, -1] = last[:, 0]
    index[short] = base[short, None] + points.astype(np.int64)
    return index


def align_currents(currents: Currents, seconds: Ints, spec: WindowSpec) -> Track:
    """Find for every frame the row after the last sample of its window.

    Args:
        currents: sorted by second.
        seconds: (N,) second of each frame.
        spec: `gaps`, `causal` and `current_samples` are used.
    """
    present, first = np.unique(currents.seconds, return_index=True)
    stop = np.append(first[1:], len(currents.seconds))
    early_half = _first_half(seconds) if spec.causal else np.zeros(len(seconds), np.bool_)
    if spec.gaps == "hold":
        return _hold(currents, seconds, present, first, stop, early_half)
    place = np.minimum(np.searchsorted(present, seconds), len(present) - 1)
    known = present[place] == seconds
    end = np.where(early_half, first[place] + 1, stop[place])
    track = Track(currents.values, np.where(known, end, 0), known)
    if spec.gaps == "positional":
        return track
    return track._replace(whole=known & _no_gap(seconds, early_half, present, stop - first, spec))


def _first_half(seconds: Ints) -> NDArray[np.bool_]:
    """(N,) whether fewer than half a second's frames precede a frame within its second.

    The camera's clock within a second is not recorded: where a second begins late (the first of a
    recording, or after a stall), the count errs on the causal side.
    """
    starts = np.flatnonzero(np.diff(seconds, prepend=seconds[:1] - 1))
    lengths = np.diff(np.append(starts, len(seconds)))
    return np.arange(len(seconds)) - np.repeat(starts, lengths) < FRAME_RATE / 2


def _hold(
    currents: Currents,
    seconds: Ints,
    present: Ints,
    first: Ints,
    stop: Ints,
    early_half: NDArray[np.bool_],
) -> Track:
    """Two samples for every second from the first one on; an absent one repeats the last known."""
    begin, span = _span(present, seconds)
    place = np.searchsorted(present, begin + np.arange(span), side="right") - 1
    exact = present[place] == begin + np.arange(span)
    latest = stop[place] - 1
    rows = np.stack([np.where(exact, first[place], latest), latest], axis=1).ravel()
    end = CURRENT_RATE * (seconds - begin + 1) - early_half
    whole = seconds >= begin
    return Track(currents.values[rows], np.where(whole, end, 0), whole)


def _no_gap(
    seconds: Ints, early_half: NDArray[np.bool_], present: Ints, count: Ints, spec: WindowSpec
) -> NDArray[np.bool_]:
    """(N,) whether every second of the window, from the first one of the file on, has two rows."""
    begin, span = _span(present, seconds)
    faulty = np.ones(span, np.int64)
    faulty[present - begin] = count != CURRENT_RATE
    before = np.concatenate([[0], np.cumsum(faulty)])  # faults before each second
    end = CURRENT_RATE * (seconds - begin + 1) - early_half
    start = np.maximum(end - spec.current_samples, 0) // CURRENT_RATE
    inside = seconds >= begin
    after = np.where(inside, seconds - begin + 1, 0)
    clean: NDArray[np.bool_] = before[after] == before[np.where(inside, start, 0)]
    return inside & clean


def _span(present: Ints, seconds: Ints) -> tuple[int, int]:
    """First second of current, and the number of seconds from it to the last of either series."""
    begin = int(present[0])
    span = int(max(present[-1], seconds.max(initial=begin))) - begin + 1
    if span > _LONGEST_GRID:
        raise ValueError(
            f"times of one recording span {span} s; one of its dates must be wrong: "
            "run `fmbench data check`"
        )
    return begin, span
