"""The furnace without a picture: events, temperatures, and three phase currents at 2 Hz.

The label is derived from the latent state that also moves the currents; nothing is drawn from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fmbench.simulator.currents import phasors
from fmbench.simulator.settings import SimConfig, Stream
from fmbench.simulator.signals import FPS, RATE, Array, Window, smoothstep, windows


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What is drawn once per recording.

    Attributes:
        current: set-point, amperes.
        voltage: phase voltage, volts rms.
        reactance: per phase, ohms.
        electrodes: (3,) azimuths, radians; 0 faces the camera.
        base: temperature of the healthy shell, kelvin.
    """

    current: float
    voltage: float
    reactance: float
    electrodes: tuple[float, float, float]
    base: float

    @property
    def resistance(self) -> float:
        """Nominal phase resistance, ohms: what draws the set-point at this voltage."""
        return math.sqrt((self.voltage / self.current) ** 2 - self.reactance**2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Event:
    """An instability of the melt near one side of the shell.

    Attributes:
        start, rise, hold, fall: seconds; the drive is a smooth trapezoid.
        azimuth: radians, 0 faces the camera. height: v of the spot's centre. size: half-widths.
        aspect: height over width of the spot.
        coupling: strength in the current. sign: -1 the resistance falls, +1 it rises.
        weights: (3,) share of each phase. period, phase: of the slow swing.
        offsets: (2, 2) where the outline's noise is read, frame widths.
        times, temperatures: the hottest point of the shell, kelvin, on a 0.5 s grid.
    """

    start: float
    rise: float
    hold: float
    fall: float
    azimuth: float
    height: float
    size: float
    aspect: float
    subcritical: bool
    weak: bool
    coupling: float
    sign: int
    weights: Array = field(repr=False)
    period: float
    phase: float
    offsets: Array = field(repr=False)
    times: Array = field(repr=False)
    temperatures: Array = field(repr=False)

    @property
    def end(self) -> float:
        """End of the drive; the glow lasts longer."""
        return self.start + self.rise + self.hold + self.fall

    def drive(self, t: Array) -> Array:
        """Envelope a(t) in [0, 1]."""
        return smoothstep((t - self.start) / self.rise) * smoothstep((self.end - t) / self.fall)

    def temperature(self, t: Array) -> Array:
        """Hottest point of the shell, kelvin."""
        return np.interp(t, self.times, self.temperatures)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One recording: its latent state; currents are worked out when first asked for.

    Attributes:
        config, recording: the key of every random stream.
        start: seconds of process before the recording begins.
        length: seconds of recording.
        batch, events: what it is made of; times are seconds of process, not of recording.
        feeding, exhaust, fluctuation: windows of normal events.
        frame_counts: (length,) frames of each second.
    """

    config: SimConfig
    recording: int
    start: int
    length: int
    batch: Batch
    events: tuple[Event, ...]
    feeding: tuple[Window, ...]
    exhaust: tuple[Window, ...]
    fluctuation: tuple[Window, ...]
    frame_counts: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of frames."""
        return int(self.frame_counts.sum())

    @cached_property
    def seconds(self) -> NDArray[np.datetime64]:
        """(S,) wall clock of every second of current; starts in 2030, when nothing real does."""
        year = np.datetime64("2030-01-01", "s")
        second = self.config.stream(self.recording, Stream.CLOCK).integers(365 * 86400)
        return year + second + np.arange(self.length)

    @property
    def end(self) -> int:
        """Seconds of process at the end of the recording."""
        return self.start + self.length

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
        return phasors(self)[self.start * RATE :]

    @cached_property
    def currents(self) -> Array:
        """(2S, 3) amperes, rows at s and s + 0.5."""
        rng = self.config.stream(self.recording, Stream.GAUGE)
        noise = rng.standard_normal(((self.start + self.length) * RATE, 3))
        amperes: Array = np.abs(self.phasors) * (1 + 0.004 * noise[self.start * RATE :])
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
        start: seconds of process before it. The events stay where they are; the noise is another.
        frames: exactly so many frames, a surplus of seconds being stalls; None: as it falls.

    Raises:
        ValueError: a length or number out of range, or a frame count that the seconds cannot hold.
    """
    if seconds < 1 or recording < 0 or start < 0:
        raise ValueError(
            f"recording {recording}, start {start} s, {seconds} s: recording and start must be 0 "
            "or more, and seconds at least 1"
        )
    horizon = start + seconds
    batch = _batch(config.stream(recording, Stream.BATCH))

    def stream(purpose: Stream) -> np.random.Generator:
        return config.stream(recording, purpose)

    return Run(
        config=config,
        recording=recording,
        start=start,
        length=seconds,
        batch=batch,
        events=_events(config, batch, stream(Stream.EVENTS), horizon),
        feeding=windows(
            stream(Stream.FEEDING), horizon, lambda r: r.uniform(150, 330), (20, 45), first=0.0
        ),
        exhaust=windows(stream(Stream.EXHAUST), horizon, lambda r: r.exponential(240), (5, 15)),
        fluctuation=windows(
            stream(Stream.FLUCTUATION),
            horizon,
            lambda r: r.exponential(config.process.fluctuation_pause),
            (60, 240),
            (0.5, 1.3),
        ),
        frame_counts=_frame_counts(config, stream(Stream.DEFECTS), seconds, frames),
    )


def _batch(rng: np.random.Generator) -> Batch:
    first = rng.uniform(0, 2 * math.pi)
    third = 2 * math.pi / 3
    return Batch(
        current=rng.uniform(11_500, 14_000),
        voltage=rng.uniform(82, 96),
        reactance=rng.uniform(3.0e-3, 4.0e-3),
        electrodes=(first, first + third, first + 2 * third),
        base=rng.uniform(320, 450),
    )


def _events(
    config: SimConfig, batch: Batch, rng: np.random.Generator, horizon: float
) -> tuple[Event, ...]:
    found = []
    t = rng.uniform(20, 150)
    while t < horizon:
        found.append(_event(config, batch, rng, t))
        t = found[-1].end + rng.uniform(*config.process.gap)
    return tuple(found)


def _event(config: SimConfig, batch: Batch, rng: np.random.Generator, start: float) -> Event:
    knobs = config.process
    rise, hold, fall = rng.uniform(20, 90), rng.uniform(70, 280), rng.uniform(20, 80)
    side = math.radians(180 if knobs.rear_events else 65)
    azimuth = rng.uniform(-side, side)
    height, size, aspect = rng.uniform(0.25, 0.85), rng.uniform(0.13, 0.42), rng.uniform(0.6, 1.8)
    heating, cooling = rng.uniform(15, 45), rng.uniform(20, 60)
    subcritical, weak = bool(rng.random() < knobs.sub), bool(rng.random() < knobs.weak)
    glow, dull = rng.uniform(*knobs.peak), rng.uniform(620, 860)
    strong, faint = rng.uniform(0.5, 1.2), rng.uniform(0.05, 0.3)
    sign = -1 if rng.random() < 0.6 else 1
    elsewhere = rng.uniform(0, 2 * math.pi)
    toward = azimuth if knobs.spatial_coupling else elsewhere
    weights = 0.15 + 0.85 * np.maximum(0, np.cos(toward - np.array(batch.electrodes)))
    shape = {"start": start, "rise": rise, "hold": hold * (0.6 if subcritical else 1), "fall": fall}
    times, temperatures = _thermal(
        shape, batch.base, dull if subcritical else glow, heating, cooling
    )
    return Event(
        **shape,
        azimuth=azimuth,
        height=height,
        size=size,
        aspect=aspect,
        subcritical=subcritical,
        weak=weak,
        coupling=faint if weak else strong,
        sign=sign,
        weights=weights,
        period=rng.uniform(6, 14),
        phase=rng.uniform(0, 2 * math.pi),
        offsets=rng.integers(0, 768, (2, 2)) / 256,
        times=times,
        temperatures=temperatures,
    )


def _thermal(
    shape: dict[str, float], base: float, peak: float, heating: float, cooling: float
) -> tuple[Array, Array]:
    """First-order lag of the shell towards base + (peak - base) * drive, on a 0.5 s grid."""
    length = shape["rise"] + shape["hold"] + shape["fall"]
    t = np.arange(0, length + 8 * cooling, 1 / RATE)
    envelope = smoothstep(t / shape["rise"]) * smoothstep((length - t) / shape["fall"])
    up, down = -math.expm1(-1 / (RATE * heating)), -math.expm1(-1 / (RATE * cooling))
    path, now = [], 0.0
    for target in ((peak - base) * envelope).tolist():
        now += (up if target > now else down) * (target - now)
        path.append(now)
    path[-1] = 0.0
    return shape["start"] + t, base + np.array(path)


def _frame_counts(
    config: SimConfig, rng: np.random.Generator, seconds: int, frames: int | None
) -> NDArray[np.int64]:
    """Frames of each second: 25, some 24 or 26, and stalls of 1-25 s with none."""
    counts = np.full(seconds, FPS)
    if not config.scene.defects and frames is None:
        return counts
    if frames is None:
        stalled = int(sum(rng.integers(1, 26) for _ in range(rng.poisson(seconds / 1800))))
        frames = (seconds - min(stalled, seconds // 10)) * FPS - int(rng.integers(FPS))
    if not 0 < frames <= FPS * seconds:
        raise ValueError(f"{frames} frames do not fit {seconds} s at {FPS} frames a second")
    stalled, short = divmod(FPS * seconds - frames, FPS)
    while stalled:
        length = min(stalled, int(rng.integers(1, 26)))
        first = int(rng.integers(1, max(2, seconds - length)))
        length = int((counts[first : first + length] > 0).sum())
        counts[first : first + length] = 0
        stalled = int((FPS * seconds - frames) // FPS - (counts == 0).sum())
    pairs = seconds // 60
    odd = rng.permutation(np.flatnonzero(counts))[: short + 2 * pairs]
    counts[odd[: short + (len(odd) - short) // 2]] -= 1
    counts[odd[short + (len(odd) - short) // 2 :]] += 1
    return counts
