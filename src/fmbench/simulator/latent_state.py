"""The latent state of a recording: the furnace, its instabilities and its normal events.

The state moves the currents, the picture and the label; nothing is drawn from the label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from fmbench.simulator.settings import SimConfig, Stream
from fmbench.simulator.signals import Array, Window, smoothstep
from fmbench.types import CURRENT_RATE


@dataclass(frozen=True, kw_only=True)
class FurnaceBatch:
    """The furnace, drawn once per recording.

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
class Instability:
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
class LatentState:
    """What happens in one recording; times are seconds of process, not of recording.

    Attributes:
        config, recording: the key of every random stream.
        start: seconds of process before the recording begins.
        length: seconds of recording.
        batch: the furnace.
        events: instabilities.
        feeding, exhaust, fluctuation: windows of normal events.
    """

    config: SimConfig
    recording: int
    start: int
    length: int
    batch: FurnaceBatch
    events: tuple[Instability, ...]
    feeding: tuple[Window, ...]
    exhaust: tuple[Window, ...]
    fluctuation: tuple[Window, ...]

    @property
    def end(self) -> int:
        """Seconds of process at the end of the recording."""
        return self.start + self.length

    def stream(self, purpose: Stream) -> np.random.Generator:
        """The recording's generator of one purpose."""
        return self.config.stream(self.recording, purpose)


def draw_batch(rng: np.random.Generator) -> FurnaceBatch:
    """Draw the furnace of a recording."""
    first = rng.uniform(0, 2 * math.pi)
    third = 2 * math.pi / 3
    return FurnaceBatch(
        current=rng.uniform(11_500, 14_000),
        voltage=rng.uniform(82, 96),
        reactance=rng.uniform(3.0e-3, 4.0e-3),
        electrodes=(first, first + third, first + 2 * third),
        base=rng.uniform(320, 450),
    )


def draw_events(
    config: SimConfig, batch: FurnaceBatch, rng: np.random.Generator, horizon: float
) -> tuple[Instability, ...]:
    """Draw the instabilities up to `horizon` seconds of process."""
    found = []
    t = rng.uniform(20, 150)
    while t < horizon:
        found.append(_event(config, batch, rng, t))
        t = found[-1].end + rng.uniform(*config.process.gap)
    return tuple(found)


def _event(
    config: SimConfig, batch: FurnaceBatch, rng: np.random.Generator, start: float
) -> Instability:
    knobs = config.process
    rise, hold, fall = rng.uniform(20, 90), rng.uniform(*knobs.hold), rng.uniform(20, 80)
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
    return Instability(
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
    t = np.arange(0, length + 8 * cooling, 1 / CURRENT_RATE)
    envelope = smoothstep(t / shape["rise"]) * smoothstep((length - t) / shape["fall"])
    up, down = (
        -math.expm1(-1 / (CURRENT_RATE * heating)),
        -math.expm1(-1 / (CURRENT_RATE * cooling)),
    )
    path, now = [], 0.0
    for target in ((peak - base) * envelope).tolist():
        now += (up if target > now else down) * (target - now)
        path.append(now)
    path[-1] = 0.0
    return shape["start"] + t, base + np.array(path)
