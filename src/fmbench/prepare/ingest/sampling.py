"""A log's rows at any rate -> samples at the rate of the data set, two a second by default."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import format_second
from fmbench.prepare.ingest.remarks import Remarks
from fmbench.types import BENCHMARK, Plant

GapPolicy = Literal["fail", "mask", "hold"]
Slot = Literal["mean", "last"]
Between = Literal["line", "hold"]
_REACH = 1.5
"""Steps, the lower quartile of a phase's, over which a line is drawn from row to row: in a log of
changes most steps are short and some long, and a line over a long one would be wrong."""


_CLOCK = 5e-7
"""Seconds: above the error of seconds since 1970 in float64, so that a row at a slot's begin is
in it."""


class Samples(NamedTuple):
    """Samples at the plant's rate."""

    seconds: NDArray[np.int64]
    """(S,) whole seconds, one `plant.period` from each to the next."""
    values: NDArray[np.float64]
    """(S, N, C) amperes, or the channels' units; NaN where nothing was logged."""
    plant: Plant = BENCHMARK

    @property
    def stop(self) -> int:
        """The second after the last for which there is a sample."""
        return int(self.seconds[-1]) + self.plant.period


def to_samples(
    seconds: NDArray[np.float64],
    values: NDArray[np.float64],
    plant: Plant = BENCHMARK,
    *,
    slot: Slot = "mean",
    between: Between = "line",
    begin: int | None = None,
) -> Samples:
    """Samples of each slot; a first or last second that was logged in part is left out.

    A slot is the time of a sample: at N a second, the N-th parts of each second; at one every n
    seconds, the n seconds that end with the sample's own, so that no sample holds what comes later.

    Args:
        seconds: (R,) since 1970, ascending.
        values: (R, C) amperes, or the channels' units; NaN where a row has none for a phase.
        plant: its current rate is used.
        slot: a slot's sample: the mean over it, or the last value in it.
        between: where no row is: a line between rows at most 1.5 of their usual steps apart; or
            the last value, for any time up to the log's last row. With `hold`, a mean is over time.
        begin: of a log that goes on, of which `seconds` are the newest rows: the second of the
            first sample; then a second that was logged in part is not left out. The first row is
            at most a period before its end.
    """
    period, live = plant.period, begin is not None
    first, last = np.floor(seconds[0]) if begin is None else begin, np.floor(seconds[-1])
    whole = np.arange(first, last + 1, period, dtype=np.int64)
    begin = first + 1 - period
    found = np.full((plant.samples * len(whole), values.shape[1]), np.nan)
    width = period / plant.samples
    for k, column in enumerate(values.T):
        known = np.isfinite(column)
        if known.any():
            sample = _held if between == "hold" else _drawn
            found[:, k] = sample(seconds[known] - begin, column[known], len(found), slot, width)
    groups = found.reshape(len(whole), plant.samples, -1)
    if live:
        return Samples(whole, groups, plant)
    complete = np.isfinite(groups).all(axis=(1, 2))
    skipped = int(len(whole) > 1 and not complete[0] and complete[1])
    end = int(len(whole) > 1 and not complete[-1] and complete[-2])
    inside = slice(skipped, len(whole) - end)
    return Samples(whole[inside], groups[inside], plant)


def no_samples(times: NDArray[np.float64], plant: Plant = BENCHMARK) -> Samples:
    """Samples of no phase, for all seconds of a video without a log.

    Args:
        times: (N,) seconds since 1970 of its frames.
        plant: its rate of samples is used.
    """
    period = plant.period
    first, last = int(times.min() // period), int(-(-times.max() // period)) + 1
    whole = period * np.arange(first, last, dtype=np.int64)
    return Samples(whole, np.empty((len(whole), plant.samples, 0)), plant)


def describe_rate(
    seconds: NDArray[np.float64], between: Between, remarks: Remarks, plant: Plant = BENCHMARK
) -> None:
    """Tell how a log slower than the plant's rate, or an irregular one, is sampled."""
    steps = np.diff(seconds)
    steps = steps[steps > 0]
    if not steps.size:
        return
    step, longest = float(np.median(steps)), int(np.argmax(np.diff(seconds)))
    if between == "hold":
        remarks.append(
            f"a value holds until the next row; the longest time without a row is {steps.max():.6g}"
            f" s, from {format_second(seconds[longest])}"
        )
        return
    uneven = float(np.mean(steps > _REACH * step))
    if uneven > 0.05:
        remarks.append(
            f"rows come at uneven times, {steps.min():.3g} to {steps.max():.6g} s apart; if the log"
            " has a row only where a value changes, give --between hold"
        )
    elif step > 1.2 / plant.current_rate:
        remarks.append(
            f"the log has a row every {step:.3g} s; samples between rows are on a line (--between"
            " hold repeats the last row instead)"
        )


def _drawn(
    seconds: NDArray[np.float64], column: NDArray[np.float64], slots: int, slot: Slot, width: float
) -> NDArray[np.float64]:
    """(slots,) of a phase; rows at `seconds` from the first slot's begin."""
    inside = seconds < slots * width  # the last slot may end before the log
    at = np.floor((seconds[inside] + _CLOCK) / width).astype(np.int64)
    at = at.clip(max=slots - 1)  # of a time just below a whole second that was rounded up
    count = np.bincount(at, minlength=slots)
    found = np.full(slots, np.nan)
    if slot == "last":
        found[at] = column[inside]  # later rows win
    else:
        total = np.bincount(at, column[inside], minlength=slots)
        found[count > 0] = (total / count.clip(1))[count > 0]
    if len(seconds) < 2:
        return found
    steps = np.diff(seconds)
    reach = _REACH * float(np.quantile(steps[steps > 0], 0.25)) if (steps > 0).any() else 0.0
    middle = width * (np.arange(slots) + 0.5)
    after = np.searchsorted(seconds, middle).clip(1, len(seconds) - 1)
    near = (seconds[after] - seconds[after - 1] <= reach) & (middle >= seconds[0])
    near &= middle <= np.maximum(seconds[-1], seconds[-1] + reach / _REACH)  # a row has a step
    fill = (count == 0) & near
    found[fill] = np.interp(middle[fill], seconds, column)
    return found


def _held(
    seconds: NDArray[np.float64], column: NDArray[np.float64], slots: int, slot: Slot, width: float
) -> NDArray[np.float64]:
    """The same of values that hold until the next row."""
    edges = width * np.arange(slots + 1)
    begin, end = edges[:-1], edges[1:]
    known = end > seconds[0] + 1e-9
    if slot == "last":
        row = np.searchsorted(seconds, end - 1e-6) - 1
        return np.where(known, column[row.clip(min=0)], np.nan)
    # The integral of the steps is a line between rows.
    until = np.append(seconds, max(edges[-1], seconds[-1]) + width)
    area = np.append(0.0, np.cumsum(column * np.diff(until)))
    begin = np.maximum(begin, seconds[0])
    mean = (np.interp(end, until, area) - np.interp(begin, until, area)) / np.maximum(
        end - begin, 1e-9
    )
    return np.where(known, mean, np.nan)
