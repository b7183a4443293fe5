"""The frames and samples of current of a window: arithmetic on whole batches.

A window ends at its label's frame f: T frames f-(T-1)s … f and L samples of current up to the
second of f (official-format 4.6). No file is read here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.format.columns import Currents
from fmbench.types import BENCHMARK, Plant

Ints = NDArray[np.int64]
IN_SECONDS = ("clip_seconds", "current_seconds")
"""Options of FurnaceData that give `stride` and `current_samples` in seconds."""
Early = Literal["clamp", "drop"]
History = Literal["stretch", "pad", "drop"]
Gaps = Literal["positional", "hold", "drop"]

_LONGEST_GRID = 2 * 10**8
"""Samples; a longer span of one recording's times can only be a wrong date."""


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
        gaps: for seconds without current, or with another number of samples than the plant's
            rate. positional takes the last L rows regardless of time (4.3, as released), and a
            frame whose second has no current is an error; hold puts the samples on a grid of the
            plant's rate and repeats the last one known; drop leaves out the windows concerned.
        causal: leave out the samples of the frame's own second that lie after the frame, at two a
            second the second one for frames in the first half; otherwise a window includes up to a
            second of current after the frame (4.6, step 3).
        plant: its frame and sample rates are used. Of samples at less than one a second, none
            belongs to a window whose second is after the frame's.

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
    plant: Plant = BENCHMARK

    def __post_init__(self) -> None:
        check_positive(frames=self.frames, stride=self.stride, current_samples=self.current_samples)
        check_choice("early", self.early, get_args(Early))
        check_choice("history", self.history, get_args(History))
        check_choice("gaps", self.gaps, get_args(Gaps))

    @property
    def seconds(self) -> float:
        """Longest reach of a window: the clip plus the current window (the guard of a split)."""
        clip = (self.frames - 1) * self.stride / self.plant.frame_rate
        return clip + self.current_samples / self.plant.current_rate


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
        spec: `gaps`, `causal`, `current_samples` and the plant's rates are used.
    """
    present, first = np.unique(currents.seconds, return_index=True)
    stop = np.append(first[1:], len(currents.seconds))
    period, samples = spec.plant.period, spec.plant.samples
    kept = _before_frame(seconds, spec.plant) if spec.causal else np.full(len(seconds), samples)
    if spec.gaps == "hold":
        return _hold(currents, seconds, present, first, stop, kept, spec.plant)
    place = np.searchsorted(present, seconds, side="right") - 1
    known = (place >= 0) & (seconds - present[place] < period)
    end = np.where(kept < samples, np.minimum(first[place] + kept, stop[place]), stop[place])
    track = Track(currents.values, np.where(known, end, 0), known)
    if spec.gaps == "positional":
        return track
    return track._replace(whole=known & _no_gap(seconds, kept, present, stop - first, spec))


def _before_frame(seconds: Ints, plant: Plant) -> Ints:
    """(N,) how many samples of its own second are not after a frame, at least 1.

    The camera's clock within a second is not recorded: where a second begins late (the first of a
    recording, or after a stall), the count errs on the causal side.
    """
    starts = np.flatnonzero(np.diff(seconds, prepend=seconds[:1] - 1))
    lengths = np.diff(np.append(starts, len(seconds)))
    place = np.arange(len(seconds)) - np.repeat(starts, lengths)
    before = np.floor(place * plant.samples / plant.frame_rate + 1e-9).astype(np.int64)
    return np.minimum(before + 1, plant.samples)


def _hold(
    currents: Currents,
    seconds: Ints,
    present: Ints,
    first: Ints,
    stop: Ints,
    kept: Ints,
    plant: Plant,
) -> Track:
    """The plant's samples for every period from the first one on; an absent one repeats the last
    known."""
    period, samples = plant.period, plant.samples
    begin, count = _grid(present, seconds, plant)
    clock = begin + period * np.arange(count)
    place = np.searchsorted(present, clock, side="right") - 1
    last = stop[place, None] - 1
    rows = np.minimum(first[place, None] + np.arange(samples), last)
    rows[:, -1:] = last
    rows = np.where((present[place] == clock)[:, None], rows, last).ravel()
    end = samples * ((seconds - begin) // period) + kept
    whole = seconds >= begin
    return Track(currents.values[rows], np.where(whole, end, 0), whole)


def _no_gap(
    seconds: Ints, kept: Ints, present: Ints, count: Ints, spec: WindowSpec
) -> NDArray[np.bool_]:
    """(N,) whether every period of the window, from the first one of the file on, is complete."""
    period, samples = spec.plant.period, spec.plant.samples
    begin, length = _grid(present, seconds, spec.plant)
    rows = np.zeros(length, np.int64)
    np.add.at(rows, (present - begin) // period, count)
    before = np.concatenate([[0], np.cumsum(rows != samples)])  # faults before each period
    place = (seconds - begin) // period
    start = np.maximum(samples * place + kept - spec.current_samples, 0) // samples
    inside = seconds >= begin
    after = np.where(inside, place + 1, 0)
    clean: NDArray[np.bool_] = before[after] == before[np.where(inside, start, 0)]
    return inside & clean


def _grid(present: Ints, seconds: Ints, plant: Plant) -> tuple[int, int]:
    """First second of current, and the number of periods from it to the last of either series."""
    begin = int(present[0])
    span = int(max(present[-1], seconds.max(initial=begin))) - begin + 1
    count = -(-span // plant.period)
    if count * plant.samples > _LONGEST_GRID:
        raise ValueError(
            f"times of one recording span {span} s; one of its dates must be wrong: "
            "run `fmbench data check`"
        )
    return begin, count


def stride_of(clip_seconds: float, frames: int, frame_rate: float) -> int:
    """The stride at which `frames` frames span a clip of about so many seconds.

    Raises:
        ValueError: there is no such stride.
    """
    if frames < 2:
        raise ValueError(
            f"clip_seconds is {clip_seconds:g}, but a clip of one frame has no length; "
            "set frames to at least 2, or leave clip_seconds out"
        )
    stride = round(clip_seconds * frame_rate / (frames - 1))
    if stride < 1:
        raise ValueError(
            f"clip_seconds is {clip_seconds:g}, but {frames} frames at {frame_rate:g} a second "
            f"span at least {(frames - 1) / frame_rate:g} s; set frames to at most "
            f"{max(1, int(clip_seconds * frame_rate) + 1)}, or clip_seconds higher"
        )
    return stride


def parse_every(every: int | str) -> tuple[float, bool]:
    """A number of frames (25, "25") or of seconds ("1s", "0.4 s"), and whether it is of seconds.

    Raises:
        ValueError: it is neither, or not above 0.
    """
    text = str(every).strip()
    in_seconds = text.endswith("s")
    try:
        number = float(text.removesuffix("s")) if in_seconds else float(int(text))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"--every is {text!r}; it takes a number of frames, such as 25, or seconds, such as 1s"
        )
    if number <= 0:
        raise ValueError(
            f"--every is {text}; it must be {'above 0s' if in_seconds else 'at least 1'}"
        )
    return number, in_seconds


def spacing_of(every: int | str, frame_rate: float) -> float:
    """Frames, at least 1, from one prediction to the next; `every` as `parse_every` takes it.

    Raises:
        ValueError: `every` is less than a frame, or nothing that it takes.
    """
    number, in_seconds = parse_every(every)
    frames = number * frame_rate if in_seconds else number
    if frames < 1 - 1e-6:
        raise ValueError(
            f"--every is {every}, less than a frame; at {frame_rate:g} frames a second, it must be "
            f"at least {1 / frame_rate:.6g}s"
        )
    return max(frames, 1.0)


def samples_of(current_seconds: float, current_rate: float) -> int:
    """The number of samples in so many seconds.

    Raises:
        ValueError: there is none.
    """
    samples = round(current_seconds * current_rate)
    if samples < 1:
        raise ValueError(
            f"current_seconds is {current_seconds:g}; at {current_rate:g} samples a second, it "
            f"must be at least {1 / current_rate:g}"
        )
    return samples
