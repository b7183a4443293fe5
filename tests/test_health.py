"""Each way to fail is found where it was planted; working sensors raise no alarm."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbench.health import Failed, Failure, Looks, failed_currents, failed_frames, look
from fmbench.simulator import Camera, SimConfig, simulate
from fmbench.types import Channel

Array = NDArray[np.float64]
Change = Callable[[Array], None]
FROM, TO = 200, 280
"""Samples 100 s to 140 s."""


@cache
def _currents(recording: int) -> Array:
    return simulate(SimConfig(seed=11), recording, 300).currents


def currents(recording: int = 0) -> Array:
    """(600, 3) of 300 s."""
    return _currents(recording).copy()


def stuck(samples: Array) -> None:
    samples[FROM:TO, 1] = samples[FROM, 1]


def stuck_but_for_the_last_bit(samples: Array) -> None:
    """12 bits over 25 kA: steps of 6 A."""
    rng = np.random.default_rng(0)
    samples[FROM:TO, 1] = 12_000 + 6.1 * rng.integers(0, 2, TO - FROM)


def flat_at_zero(samples: Array) -> None:
    samples[FROM:TO, 2] = 0


def lost_with_an_offset(samples: Array) -> None:
    samples[FROM:TO, 2] = 80 + 20 * np.random.default_rng(0).standard_normal(TO - FROM)


def off(samples: Array) -> None:
    samples[FROM:TO] = 3


def a_copy(samples: Array) -> None:
    samples[FROM:TO, 2] = samples[FROM:TO, 0]


def not_finite(samples: Array) -> None:
    samples[FROM:TO, 0] = np.nan


def infinite(samples: Array) -> None:
    samples[FROM:TO, 0] = np.inf


def too_high(samples: Array) -> None:
    samples[FROM:TO, 0] *= 1000


def negative(samples: Array) -> None:
    samples[FROM:TO, 0] *= -1


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (stuck, Failed.STUCK, "phase 2 is stuck at 7"),
        (stuck_but_for_the_last_bit, Failed.STUCK, "phase 2 is stuck at 1200"),
        (flat_at_zero, Failed.LOST, "phase 3 has no current (at most 0 A), others have"),
        (lost_with_an_offset, Failed.LOST, "phase 3 has no current (at most 1"),
        (off, Failed.OFF, "no phase has current (below 200 A): the furnace is off"),
        (a_copy, Failed.COPIES, "phases 1 and 3 are equal: one is a copy of the other"),
        (not_finite, Failed.NOT_FINITE, "phase 1 has no finite value"),
        (infinite, Failed.NOT_FINITE, "phase 1 has no finite value"),
        (too_high, Failed.OUT_OF_RANGE, "a furnace has 0 to 60,000 A"),
        (negative, Failed.OUT_OF_RANGE, "phase 1 reads -"),
    ],
)
@pytest.mark.parametrize("kilo", [False, True])
def test_a_failed_phase_is_found_where_it_fails(
    change: Change, kind: Failed, said: str, kilo: bool
) -> None:
    samples = currents()
    change(samples)
    found = failed_currents(samples / 1000 if kilo else samples, 2)
    if kilo and kind is not Failed.OUT_OF_RANGE:
        assert found.pop(0).kind is Failed.UNIT
    if kilo and kind is Failed.OUT_OF_RANGE:  # which unit it is cannot be told
        return
    [one] = found
    assert (one.kind, said in one.what) == (kind, True), one
    assert (abs(one.start - FROM) <= 1, abs(one.stop - TO) <= 1) == (True, True), one


@given(st.integers(0, 4), st.integers(0, 500), st.integers(30, 100), st.integers(0, 2))
def test_a_phase_stuck_for_15_s_is_found_and_one_of_12_s_is_not(
    recording: int, start: int, length: int, phase: int
) -> None:
    samples = currents(recording)
    stop, value = start + length, samples[start, phase]
    equal = abs(samples[:, phase] / value - 1) <= 0.005  # such neighbours are stuck as well
    assume(not (equal[max(0, start - 2) : start].all() and start >= 2))
    assume(not equal[stop : stop + 2].all())
    samples[start:stop, phase] = value
    [found] = failed_currents(samples, 2)
    assert found.kind is Failed.STUCK
    assert abs(found.start - start) <= 1
    assert abs(found.stop - stop) <= 1
    samples = currents(recording)
    samples[start : start + 24, phase] = samples[start, phase]
    assert failed_currents(samples, 2) == []


@pytest.mark.parametrize("rate", [1, 5, 10])
def test_the_rate_is_the_callers(rate: int) -> None:
    samples = currents()[:, :][:: 2 // rate if rate < 2 else 1].repeat(max(1, rate // 2), axis=0)
    samples *= 1 + 0.004 * np.random.default_rng(0).standard_normal(samples.shape)
    assert failed_currents(samples, rate) == []
    samples[50 * rate : 80 * rate, 0] = 9000
    [found] = failed_currents(samples, rate)
    assert (found.kind, round(found.start / rate), round(found.stop / rate)) == ("stuck", 50, 80)


def test_a_furnace_that_is_off_has_no_unit() -> None:
    rng = np.random.default_rng(0)
    noise = np.array([3.0, 20.0, 1.0]) + 0.5 * rng.standard_normal((600, 3))
    assert [each.kind for each in failed_currents(noise, 2)] == [Failed.OFF]
    assert failed_currents(np.zeros((0, 3)), 2) == []
    assert failed_currents(np.full((4, 3), 9000.0), 2) == []  # too short to tell


# Frames, one a second


@cache
def _frames() -> NDArray[np.uint8]:
    run = simulate(SimConfig(seed=11), 0, 40)
    return Camera(run).frames(np.arange(0, len(run), 25)[:40])


def frames() -> NDArray[np.uint8]:
    """(40, 3, 64, 64)."""
    return _frames().copy()


def noise(level: float, deviation: float, count: int = 10) -> NDArray[np.uint8]:
    drawn = np.random.default_rng(0).normal(level, deviation, (count, 3, 64, 64))
    return drawn.round().clip(0, 255).astype(np.uint8)


DAMAGE: dict[str, tuple[Failed, NDArray[np.uint8], str]] = {
    "black": (Failed.BLACK, noise(0, 0), "black (mean 0.0 of 255)"),
    "black with noise": (Failed.BLACK, noise(4, 2), "black (mean 4"),
    "uniform": (Failed.UNIFORM, noise(128, 0), "uniform, at 128 of 255: no signal"),
    "capped": (Failed.CAPPED, noise(30, 6), "noise without structure, at 30 of 255"),
    "saturated": (Failed.SATURATED, noise(255, 2), "saturated"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_dead_camera_is_found_where_it_fails(name: str) -> None:
    kind, damage, said = DAMAGE[name]
    shown = frames()
    first, last = (4, 34) if kind is Failed.SATURATED else (20, 30)
    shown[first:last] = damage[0]
    shown[first:last:2] = damage[1]  # noise differs
    [found] = failed_frames(look(shown))
    assert (found.kind, found.start, found.stop) == (kind, first, last)
    assert said in found.what


def test_a_flare_that_saturates_the_picture_is_no_failure() -> None:
    shown = frames()
    shown[10:24] = 255
    assert failed_frames(look(shown)) == []


@pytest.mark.parametrize("flicker", [0, 0.2])
def test_a_frozen_picture_is_found_though_it_is_nearly_the_same(flicker: float) -> None:
    shown = frames()
    drawn = shown[20] + np.random.default_rng(0).normal(0, flicker, (10, 3, 64, 64))
    shown[20:30] = drawn.round().clip(0, 255).astype(np.uint8)
    [found] = failed_frames(look(shown))
    assert (found.kind, found.start, found.stop) == (Failed.FROZEN, 20, 30)


@pytest.mark.parametrize("repeats", [1, 2, 3, 4])
def test_a_video_of_few_frames_is_not_frozen(repeats: int) -> None:
    shown = frames()[: 40 // repeats].repeat(repeats, axis=0)
    assert failed_frames(look(shown)) == []


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 30))
def test_frames_may_be_measured_in_blocks_of_any_length(cuts: list[int], start: int) -> None:
    shown = np.concatenate([frames(), noise(0, 0)])[start:]
    parts: list[Looks] = []
    at = 0
    for length in [*cuts, len(shown)]:
        if at < len(shown):
            parts.append(look(shown[at : at + length], shown[at - 1] if at else None))
        at += length
    joined, whole = Looks.joined(parts), look(shown)
    for one, other in zip(joined, whole, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    assert [each.kind for each in failed_frames(joined)] == [Failed.BLACK]


@pytest.mark.parametrize("size", [(3, 5), (8, 8), (16, 24), (65, 97)])
def test_structure_is_the_deviation_of_the_means_of_areas(size: tuple[int, int]) -> None:
    shown = np.random.default_rng(0).integers(0, 255, (2, 3, *size), dtype=np.uint8)
    height, width = size
    rows = [k * height // min(8, height) for k in range(min(8, height))] + [height]
    columns = [k * width // min(8, width) for k in range(min(8, width))] + [width]
    for picture, structure in zip(shown, look(shown).structure, strict=True):
        means = [
            picture[:, top:bottom, left:right].mean()
            for top, bottom in pairwise(rows)
            for left, right in pairwise(columns)
        ]
        assert structure == pytest.approx(np.std(means), rel=1e-4)


def nothing(version: int, recordings: range, seconds: int) -> list[Failure]:
    """Findings in recordings of the preset wide, as it numbers them."""
    found = []
    for recording in recordings:
        run = simulate(SimConfig.of_version(version, 0), recording, seconds)
        found += failed_currents(run.currents, 2)
        shown = Camera(run).frames(np.arange(0, len(run), 25))
        found += failed_frames(look(shown))
    return found


@pytest.mark.parametrize("version", [1, 2])
def test_simulated_sensors_do_not_fail(version: int) -> None:
    assert nothing(version, range(2), 900) == []


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_60_simulated_recordings_of_wide_raise_no_alarm(version: int) -> None:
    assert nothing(version, range(30), 900) == []


def test_a_small_channel_in_amperes_is_no_phase_unless_it_usually_is_large() -> None:
    draw = np.random.default_rng(1)
    channels = [Channel("L1"), Channel("L2"), Channel("motor")]
    samples = draw.normal(1, 0.05, (240, 3)) * [9000, 9500, 1.85]
    (found,) = failed_currents(samples, 2, channels)
    assert (found.kind, found.what) == (
        Failed.SMALL,
        "channel motor stays below 200 A: no phase of a furnace",
    )
    assert [each.kind for each in failed_currents(samples, 2)] == [Failed.LOST]  # three phases
    usual = np.array([9000.0, 9500.0, 9200.0])
    assert [each.kind for each in failed_currents(samples, 2, channels, usual)] == [Failed.LOST]
    samples[:, 1] = draw.normal(0, 3, 240)  # lost for the whole time, which only `usual` tells
    kinds = [each.kind for each in failed_currents(samples, 2, channels, usual * [1, 1, 0])]
    assert sorted(kinds) == [Failed.LOST, Failed.SMALL]
