"""Three phase currents at 2 Hz from the latent state: flicker, collapses, arcs, electrode control.

At 2 Hz the arc's own flicker (0.5-25 Hz) is aliased, so an Ornstein-Uhlenbeck process of about
0.5 s, with slow volatility and jumps, is the right scale; models of the 50 Hz wave are not needed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fmbench.simulator.latent_state import LatentState
from fmbench.simulator.settings import Stream
from fmbench.simulator.signals import Array, ou, profile
from fmbench.types import CURRENT_RATE


def log_resistance(state: LatentState) -> Array:
    """(2 * (start + length), 3) deviation z of every phase's log resistance."""
    knobs, batch = state.config.process, state.batch
    count = (state.start + state.length) * CURRENT_RATE
    t = np.arange(count) / CURRENT_RATE

    feed = profile(t, state.feeding, 3, 3)
    exhaust = profile(t, state.exhaust, 1, 1)
    fluctuation = profile(t, state.fluctuation, 3, 3)
    own = state.stream(Stream.PHASE_NOISE)
    fast, medium, slow = (ou(own, count, tau, CURRENT_RATE, 3) for tau in (0.45, 8, 150))
    common = ou(state.stream(Stream.COMMON_NOISE), count, 0.5, CURRENT_RATE)
    volatility = np.exp(0.15 * ou(state.stream(Stream.VOLATILITY), count, 90, CURRENT_RATE))

    pull, shift = np.zeros((count, 3)), np.zeros((count, 3))
    for event in state.events:
        low, high = np.searchsorted(t, (event.start, event.end))
        s = t[low:high, None]
        g = event.coupling * event.weights * event.drive(s)
        angle = 2 * math.pi * s / event.period + event.phase + np.array(batch.electrodes)
        pull[low:high] += g
        shift[low:high] += event.sign * knobs.alpha * g + knobs.osc * g * np.sin(angle)

    scale = (1 + knobs.beta * pull) * volatility
    scale *= ((1 + fluctuation) * (1 + 0.6 * feed))[:, None]
    z: Array = scale * (knobs.fast * fast + knobs.common * common + knobs.medium * medium)
    z += knobs.slow * slow + shift + 0.18 * feed[:, None]
    z += exhaust[:, None] * (
        0.15 + 0.2 * ou(state.stream(Stream.EXHAUST_NOISE), count, 1, CURRENT_RATE)
    )
    return z + _collapses(state.stream(Stream.COLLAPSE), knobs.collapse_rate * (1 + 3 * feed))


def _collapses(rng: np.random.Generator, rate: Array) -> Array:
    """(count, 3): ore falls onto one to three arcs and lengthens them for 0.5-1.5 s."""
    chance = rng.random(len(rate))
    phases = rng.permuted(np.tile(np.arange(3), (len(rate), 1)), axis=1)
    hit, lasts = rng.integers(1, 4, len(rate)), rng.integers(1, 4, len(rate))
    size = rng.uniform(0.3, 0.9, len(rate))
    z = np.zeros((len(rate), 3))
    for i in np.flatnonzero(chance < rate):
        z[i : i + lasts[i], phases[i, : hit[i]]] += size[i]
    return z


def phasors(state: LatentState) -> NDArray[np.complex128]:
    """Three arcs in star with a floating neutral (the melt), gaps held by a relay with a dead band.

    V_n = sum(V_k / Z_k) / sum(1 / Z_k), I_k = (V_k - V_n) / Z_k. A gap moves 0.8 mm a sample while
    the smoothed current is more than 10 % off the set-point, up when it is high.
    """
    batch = state.batch
    bed, arc = 0.35 * batch.resistance, 0.65 * batch.resistance / 40  # ohms, ohms per mm
    volts = [batch.voltage * complex(math.cos(a), math.sin(a)) for a in (0, -2.0943951, 2.0943951)]
    volts[2] = -(volts[0] + volts[1])
    band = 0.1 * batch.current
    gaps, errors, path = [40.0] * 3, [0.0] * 3, []
    for factors in np.exp(log_resistance(state)).tolist():
        y = [
            1 / complex((bed + arc * gap) * factor, batch.reactance)
            for gap, factor in zip(gaps, factors, strict=True)
        ]
        neutral = (volts[0] * y[0] + volts[1] * y[1] + volts[2] * y[2]) / (y[0] + y[1] + y[2])
        amperes = [(v - neutral) * admittance for v, admittance in zip(volts, y, strict=True)]
        path.append(amperes)
        for k in range(3):
            errors[k] += 0.2 * (abs(amperes[k]) - batch.current - errors[k])
            step = 0.8 if errors[k] > band else -0.8 if errors[k] < -band else 0.0
            gaps[k] = min(max(gaps[k] + step - 0.015, 2.0), 120.0)
    return np.array(path)
