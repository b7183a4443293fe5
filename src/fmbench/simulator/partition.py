"""Train, validation and test frames of a recording: contiguous ranges with guards between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.format.lists import SPLITS
from fmbench.simulator.camera import Camera
from fmbench.simulator.latent_state import Instability
from fmbench.simulator.process import Run

RULES = ("official", "strict", "by_recording")
GUARD = 240  # s: longest clip plus longest current window of the benchmark

# Test frames of all frames in the release's three recordings; the guard is a tenth of the block.
OFFICIAL = (10_000 / 31_826, 15_000 / 89_937, 25_000 / 148_158)
STRICT = (0.70, 0.15, 0.15)

Ranges = dict[str, NDArray[np.int64]]


def check_rule(rule: str) -> None:
    """Raises: ValueError: no such rule."""
    if rule not in RULES:
        raise ValueError(
            f"no split is called {rule!r}{nearest(rule, RULES)}. Known: {', '.join(RULES)}"
        )


def official_ranges(run: Run, place: int) -> Ranges:
    """One test block at the end, an unlisted guard of a tenth of it, the rest for training."""
    frames = len(run)
    test = round(frames * OFFICIAL[place % len(OFFICIAL)])
    train = frames - test - test // 10
    return {"train": np.arange(train), "test": np.arange(frames - test, frames)}


def strict_ranges(run: Run) -> Ranges:
    """Train, validation, test: at least `GUARD` s between, no event in two.

    Raises:
        ValueError: the recording is too short for two guards, or one event fills what is left.
    """
    usable = run.length - 2 * GUARD
    if usable < 360:
        raise ValueError(
            f"split strict needs recordings of at least {2 * GUARD + 360} s (two guards of {GUARD}"
            f" s and 360 s to share out); these have {run.length} s. Use by_recording"
        )
    ends = [(e.start, _glow_end(run, e)) for e in run.events]
    starts, stops = [float(run.start)], []
    for share in STRICT[:-1]:
        stop = starts[-1] + share * usable
        resume = stop + GUARD
        for start, end in ends:
            if start < stop and end > resume:
                resume = end
        stops.append(stop)
        starts.append(resume)
    stops.append(float(run.end))
    if starts[-1] + 30 > run.end:
        raise ValueError(
            f"recording {run.recording}: an event leaves no 30 s for the test part of split strict;"
            " use longer recordings or by_recording"
        )
    t = run.frame_times
    return {
        part: np.flatnonzero((t >= start) & (t < stop))
        for part, start, stop in zip(SPLITS, starts, stops, strict=True)
    }


def balanced_start(run: Run, seconds: int, test: float, share: float = 0.519) -> int:
    """Start of the stretch of `seconds` whose abnormal share is nearest to the paper's 0.519.

    The share of its last `test` (a fraction), the test block, should be in 0.45-0.55.
    `share` is Table I's 140,062 of 269,921 frames. A second is abnormal if its first frame is.
    """
    frame = np.minimum(np.cumsum(run.frame_counts) - run.frame_counts, len(run) - 1)
    total = np.concatenate([[0], np.cumsum(Camera(run).labels(frame))])
    first = np.arange(run.length - seconds + 1)
    off = np.abs((total[first + seconds] - total[first]) / seconds - share)
    block = max(1, round(test * seconds))
    tail = (total[first + seconds] - total[first + seconds - block]) / block
    off += 10 * np.maximum(np.abs(tail - 0.5) - 0.05, 0) * (test > 0)
    return int(run.start + np.argmin(off))


def _glow_end(run: Run, event: Instability) -> float:
    hot = event.times[event.temperatures > run.config.process.threshold]
    return max(event.end, float(hot[-1]) if len(hot) else 0.0)
