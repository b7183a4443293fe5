"""Windows in time and coloured noise, of which currents and picture are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

Array = NDArray[np.float64]


class Window(NamedTuple):
    """An event from `start` to `end` (s, without its edges), with a strength."""

    start: float
    end: float
    strength: float = 1.0


def renewal(
    rng: np.random.Generator,
    horizon: float,
    pause: Callable[[np.random.Generator], float],
    length: tuple[float, float],
    strength: tuple[float, float] = (1.0, 1.0),
    first: float | None = None,
) -> tuple[Window, ...]:
    """A renewal process: pause, window, pause, ... up to `horizon` seconds."""
    found = []
    t = pause(rng) if first is None else first - 150 + pause(rng)
    while t < horizon:
        end = t + rng.uniform(*length)
        found.append(Window(t, end, rng.uniform(*strength)))
        t = end + pause(rng)
    return tuple(found)


def profile(
    t: Array, parts: tuple[Window, ...], rise: float, fall: float, *, unit: bool = False
) -> Array:
    """Sum of trapezoids over a sorted grid `t`; `unit` ignores the strengths."""
    total = np.zeros_like(t)
    for part in parts:
        low, high = np.searchsorted(t, (part.start, part.end + fall))
        s = t[low:high]
        ramp = np.minimum((s - part.start) / rise, (part.end + fall - s) / fall).clip(0, 1)
        total[low:high] += ramp if unit else part.strength * ramp
    return total


def ou(rng: np.random.Generator, count: int, tau: float, rate: float, columns: int = 1) -> Array:
    """(count, columns) Ornstein-Uhlenbeck processes of unit variance, time constant `tau` s."""
    rho = math.exp(-1 / (tau * rate))
    shocks = rng.standard_normal((count, columns))
    shocks[1:] *= math.sqrt(1 - rho**2)
    path: Array = lfilter([1.0], [1.0, -rho], shocks, axis=0)
    return path


def smoothstep(x: Array) -> Array:
    x = np.clip(x, 0, 1)
    smooth: Array = x * x * (3 - 2 * x)
    return smooth
