"""A simulated recording without its picture: latent state, clock, and three currents at 2 Hz."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from fmbench.simulator.currents import phasors
from fmbench.simulator.latent_state import LatentState, draw_batch, draw_events
from fmbench.simulator.settings import SimConfig, Stream
from fmbench.simulator.signals import Array, renewal
from fmbench.types import CURRENT_RATE, FRAME_RATE


@dataclass(frozen=True, kw_only=True, eq=False)
class Run(LatentState):
    """One recording: its latent state and its clock. Currents are computed on first use.

    Attributes:
        frame_counts: (length,) frames of each second.
    """

    frame_counts: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of frames."""
        return int(self.frame_counts.sum())

    @cached_property
    def seconds(self) -> NDArray[np.datetime64]:
        """(S,) wall clock of every second of current, in 2030: later than any real recording."""
        year = np.datetime64("2030-01-01", "s")
        second = self.stream(Stream.CLOCK).integers(365 * 86400)
        return year + second + np.arange(self.length)

    @property
    def frame_seconds(self) -> NDArray[np.int64]:
        """(N,) which second of the recording each frame belongs to."""
        return np.repeat(np.arange(self.length), self.frame_counts)

    @property
    def frame_times(self) -> Array:
        """(N,) seconds of process at each frame."""
        counts = self.frame_counts
        first, second = np.cumsum(counts) - counts, self.frame_seconds
        times: Array = self.start + second + (np.arange(len(self)) - first[second]) / counts[second]
        return times

    @cached_property
    def phasors(self) -> NDArray[np.complex128]:
        """(2S, 3) complex phase currents, amperes."""
        return phasors(self)[self.start * CURRENT_RATE :]

    @cached_property
    def currents(self) -> Array:
        """(2S, 3) amperes, rows at s and s + 0.5."""
        rng = self.stream(Stream.GAUGE)
        noise = rng.standard_normal(((self.start + self.length) * CURRENT_RATE, 3))
        amperes: Array = np.abs(self.phasors) * (1 + 0.004 * noise[self.start * CURRENT_RATE :])
        return amperes


def simulate(
    config: SimConfig,
    recording: int = 0,
    seconds: int = 3598,
    *,
    start: int = 0,
    frames: int | None = None,
) -> Run:
    """Draw the latent state of one recording.

    Args:
        config: seed and knobs.
        recording: number of the recording, 0 or more.
        seconds: length of the recording.
        start: seconds of process before it. Events keep their times; the noise differs.
        frames: exact number of frames, surplus seconds being stalls; None draws it.

    Raises:
        ValueError: a length or number out of range, or a frame count that does not fit the seconds.
    """
    if seconds < 1 or recording < 0 or start < 0:
        raise ValueError(
            f"recording {recording}, start {start} s, {seconds} s: recording and start must be 0 "
            "or more, and seconds at least 1"
        )
    horizon = start + seconds
    batch = draw_batch(config.stream(recording, Stream.BATCH))
    stream = partial(config.stream, recording)
    return Run(
        config=config,
        recording=recording,
        start=start,
        length=seconds,
        batch=batch,
        events=draw_events(config, batch, stream(Stream.EVENTS), horizon),
        feeding=renewal(
            stream(Stream.FEEDING), horizon, lambda r: r.uniform(150, 330), (20, 45), first=0.0
        ),
        exhaust=renewal(stream(Stream.EXHAUST), horizon, lambda r: r.exponential(240), (5, 15)),
        fluctuation=renewal(
            stream(Stream.FLUCTUATION),
            horizon,
            lambda r: r.exponential(config.process.fluctuation_pause),
            (60, 240),
            (0.5, 1.3),
        ),
        frame_counts=_frame_counts(config, stream(Stream.DEFECTS), seconds, frames),
    )


def _frame_counts(
    config: SimConfig, rng: np.random.Generator, seconds: int, frames: int | None
) -> NDArray[np.int64]:
    """Frames of each second: 25, some 24 or 26, and stalls of 1-25 s with none."""
    rate = int(FRAME_RATE)
    counts = np.full(seconds, rate)
    if not config.scene.defects and frames is None:
        return counts
    if frames is None:
        stalled = int(sum(rng.integers(1, 26) for _ in range(rng.poisson(seconds / 1800))))
        frames = (seconds - min(stalled, seconds // 10)) * rate - int(rng.integers(rate))
    if not 0 < frames <= rate * seconds:
        raise ValueError(f"{frames} frames do not fit {seconds} s at {rate} frames a second")
    stalled, short = divmod(rate * seconds - frames, rate)
    while stalled:
        length = min(stalled, int(rng.integers(1, 26)))
        first = int(rng.integers(1, max(2, seconds - length)))
        length = int((counts[first : first + length] > 0).sum())
        counts[first : first + length] = 0
        stalled = int((rate * seconds - frames) // rate - (counts == 0).sum())
    pairs = seconds // 60
    odd = rng.permutation(np.flatnonzero(counts))[: short + 2 * pairs]
    counts[odd[: short + (len(odd) - short) // 2]] -= 1
    counts[odd[short + (len(odd) - short) // 2 :]] += 1
    return counts
