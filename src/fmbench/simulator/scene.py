"""Mist, flame, light and exposure between shell and camera, frame by frame.

None depends on the anomaly. Feeding and exhausting, which also move the currents, act here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from fmbench.simulator.process import Run
from fmbench.simulator.settings import Stream
from fmbench.simulator.signals import Array, Window, ou, profile, renewal
from fmbench.simulator.textures import VARIANTS
from fmbench.types import FRAME_RATE

FLAME_COLOUR = np.array([1.0, 0.62, 0.25])
MIST_COLOUR = np.array([0.62, 0.66, 0.70])


@dataclass(frozen=True, kw_only=True)
class Look:
    """Constants of one hall on one day; lengths in frame widths.

    Attributes:
        albedo: factor of the shell's albedo. flame: the flame at rest. ambient: level of the hall.
        wind: mean drift of the mist to the right, per second.
        puff: rate of the flame's puffing, Hz: 1.5 / sqrt(D) for a mouth of 2-3 m.
        shift: (y, x) of the furnace in the frame. zoom: its size.
        variants: of the two mists, the flame and the rust. offsets: (y, x) where each is read.
    """

    albedo: float
    flame: float
    ambient: float
    wind: float
    puff: float
    shift: tuple[float, float]
    zoom: float
    variants: tuple[int, ...]
    offsets: Array


class Drives(NamedTuple):
    """Scene state on the 25 Hz grid of a recording, every one (25 S + 1,) float32."""

    mist: NDArray[np.float32]
    """D(t), optical depth."""
    flame: NDArray[np.float32]
    """F(t) with flicker."""
    ambient: NDArray[np.float32]
    gain: NDArray[np.float32]
    """Auto exposure, lagging 1.5 s; independent of the hot spot."""
    down: NDArray[np.float32]
    """How far the mist has risen, frame widths."""
    right: NDArray[np.float32]


class Tag(IntFlag):
    """Disturbances of a frame, for evaluation only. All but the last two ignore the label."""

    MIST_HEAVY = 1
    FLAME = 2
    AMBIENT = 4
    CURRENT_FLUCT = 8
    FEEDING = 16
    EXHAUSTING = 32
    SPATTER = 64
    SUBCRITICAL = 128
    WEAK = 256


DISTURBANCES = {
    "mist": Tag.MIST_HEAVY,
    "flame": Tag.FLAME,
    "ambient light": Tag.AMBIENT,
    "current fluctuation": Tag.CURRENT_FLUCT,
    "feeding": Tag.FEEDING,
}
"""The disturbances of the paper, by the names that tables give them."""
LABEL_FREE = Tag(sum(tag for tag in Tag if tag not in (Tag.SUBCRITICAL, Tag.WEAK)))
"""Every tag that ignores the label."""


class Drop(NamedTuple):
    """A hot drop that slides down the shell; seconds of process, scene coordinates, kelvin."""

    start: float
    end: float
    u: float
    v: float
    speed: float
    radius: float
    kelvin: float


def look(run: Run) -> Look:
    """Draw the constants of a recording's scene."""
    rng = run.stream(Stream.LOOK)
    return Look(
        albedo=rng.uniform(0.75, 1.2),
        flame=rng.uniform(0.12, 0.30),
        ambient=rng.uniform(0.85, 1.15),
        wind=rng.uniform(-0.05, 0.05),
        puff=rng.uniform(0.8, 1.2),
        shift=(rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03)),
        zoom=rng.uniform(0.95, 1.05),
        variants=tuple(rng.integers(VARIANTS, size=4).tolist()),
        offsets=rng.integers(0, 768, (4, 2)) / 256,
    )


def drives(run: Run) -> Drives:
    """The scene's state over a recording."""
    t = grid_times(run)
    view = look(run)
    knobs, count = run.config.scene, len(t)
    feed = profile(t, run.feeding, 3, 3)

    rng = run.stream(Stream.MIST)
    heavy = profile(t, mist_episodes(run), 3, 5) * (1 + 0.2 * _ou(rng, count, 2))
    mist = knobs.mist * np.exp(0.6 * _ou(rng, count, 40)) + np.maximum(heavy, 0) + 0.5 * feed

    rng = run.stream(Stream.FLAME)
    flicker = 1 + 0.22 * _ou(rng, count, 0.05) + 0.25 * _ou(rng, count, 0.4)
    rate = view.puff * (1 + 0.08 * _ou(rng, count, 3))
    puff = 1 + 0.12 * np.sin(
        2 * math.pi * np.cumsum(rate) / FRAME_RATE + rng.uniform(0, 2 * math.pi)
    )
    flame = flame_level(run, t) * np.maximum(flicker, 0.1) * puff

    rng = run.stream(Stream.AMBIENT)
    wander = np.exp(0.25 * _ou(rng, count, 400) + 0.08 * _ou(rng, count, 15))
    ambient = 0.55 * view.ambient * wander * np.exp(profile(t, light_steps(run), 0.5, 0.5))

    rng = run.stream(Stream.WIND)
    down = np.cumsum(0.2 * (1 + 0.3 * _ou(rng, count, 6))) / FRAME_RATE
    right = np.cumsum(view.wind + 0.06 * _ou(rng, count, 6)) / FRAME_RATE
    gain = _exposure(mist, flame, ambient)
    return Drives(*(part.astype(np.float32) for part in (mist, flame, ambient, gain, down, right)))


def grid_times(run: Run) -> Array:
    """(25 S + 1,) seconds of process on the drives' grid."""
    return run.start + np.arange(FRAME_RATE * run.length + 1) / FRAME_RATE


def grid_index(run: Run) -> NDArray[np.int32]:
    """(N,) place of every frame on the drives' grid."""
    return np.rint((run.frame_times - run.start) * FRAME_RATE).astype(np.int32)


def mist_episodes(run: Run) -> tuple[Window, ...]:
    knobs = run.config.scene
    rng = run.stream(Stream.MIST_EPISODES)
    return renewal(rng, run.end, _waits(knobs.mist_pause), (8, 45), knobs.mist_amplitude)


def light_steps(run: Run) -> tuple[Window, ...]:
    """Lamps, doors, vehicles: the strength is the log of the factor, 0.5 or 1.7."""
    rng = run.stream(Stream.AMBIENT_STEPS)
    steps = renewal(rng, run.end, _waits(run.config.scene.ambient_pause), (5, 60), (0, 1))
    return tuple(s._replace(strength=math.log(0.5 if s.strength < 0.5 else 1.7)) for s in steps)


def flame_level(run: Run, t: Array) -> Array:
    """F(t) without flicker: rest, flares, exhausting; feeding damps it."""
    knobs = run.config.scene
    rng = run.stream(Stream.FLARES)
    flares = renewal(rng, run.end, _waits(knobs.flare_pause), (2, 14), knobs.flare_amplitude)
    level = look(run).flame + profile(t, flares, 0.3, 0.8) + 1.2 * profile(t, run.exhaust, 1, 1)
    damped: Array = level * (1 - 0.6 * profile(t, run.feeding, 3, 3))
    return damped


def drops(run: Run) -> tuple[Drop, ...]:
    """Spatter of a recording: showers of one to three hot drops."""
    rng = run.stream(Stream.SPATTER)
    found = []
    t = rng.exponential(run.config.scene.spatter_pause)
    while t < run.end:
        for _ in range(rng.integers(1, 4)):
            start = t + rng.uniform(0, 0.5)
            found.append(
                Drop(
                    start=start,
                    end=start + rng.uniform(0.6, 3.6),
                    u=rng.uniform(-0.75, 0.75),
                    v=rng.uniform(0.25, 0.65),
                    speed=rng.uniform(0.05, 0.25),
                    radius=rng.uniform(0.012, 0.03),
                    kelvin=rng.uniform(1100, 1300),
                )
            )
        t += rng.exponential(run.config.scene.spatter_pause)
    return tuple(drop for drop in found if drop.end > run.start)


def tags(run: Run, index: NDArray[np.integer]) -> NDArray[np.uint16]:
    """(n,) bit masks of `Tag`: the disturbances of each frame."""
    t = grid_times(run)
    mist = drives(run).mist
    showers = tuple(Window(drop.start, drop.end) for drop in drops(run))
    subcritical = tuple(Window(e.start, e.end) for e in run.events if e.subcritical)
    weak = tuple(Window(e.start, e.end) for e in run.events if e.weak)
    rules = {
        Tag.MIST_HEAVY: mist > 1.2,
        Tag.FLAME: flame_level(run, t) > 0.8,
        Tag.AMBIENT: np.abs(np.expm1(profile(t, light_steps(run), 0.5, 0.5))) > 0.2,
        Tag.CURRENT_FLUCT: profile(t, run.fluctuation, 3, 3, unit=True) > 0.5,
        Tag.FEEDING: profile(t, run.feeding, 3, 3) > 0.5,
        Tag.EXHAUSTING: profile(t, run.exhaust, 1, 1) > 0.5,
        Tag.SPATTER: profile(t, showers, 1e-3, 1e-3) > 0.5,
        Tag.SUBCRITICAL: profile(t, subcritical, 1e-3, 1e-3) > 0.5,
        Tag.WEAK: profile(t, weak, 1e-3, 1e-3) > 0.5,
    }
    bits = sum(tag * rule.astype(np.uint16) for tag, rule in rules.items())
    found: NDArray[np.uint16] = np.asarray(bits, np.uint16)[grid_index(run)[index]]
    return found


def _exposure(mist: Array, flame: Array, ambient: Array) -> Array:
    """Gain (0.15 / lum)^0.6 in [0.5, 2.2], lagging 1.5 s; lum from the scene's drives alone."""
    clear = np.exp(-mist)
    lum = clear * (0.2 * ambient + 0.06 * flame) + (1 - clear) * (0.4 * ambient + 0.2 * flame)
    target = ((0.15 / (lum + 0.08 * flame)) ** 0.6).clip(0.5, 2.2)
    keep = math.exp(-1 / (1.5 * FRAME_RATE))
    gain: Array = lfilter([1 - keep], [1, -keep], target, zi=[keep * target[0]])[0]
    return gain


def _ou(rng: np.random.Generator, count: int, tau: float) -> Array:
    return ou(rng, count, tau, FRAME_RATE)[:, 0]


def _waits(mean: float) -> Callable[[np.random.Generator], float]:
    return lambda rng: rng.exponential(mean)
