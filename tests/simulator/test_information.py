"""The probes of what the currents tell beside the picture, on made-up observations."""

from __future__ import annotations

import numpy as np
import pytest

from fmbench.simulator import Camera, SimConfig, Tag, simulate
from fmbench.simulator.information import (
    WINDOWS,
    Observed,
    current_features,
    current_log_odds,
    estimate,
    instants,
    measure,
    observe,
    visibility_observer,
)


def made_up(recordings: int, blocked: float, told: float) -> list[Observed]:
    """The view is clear or, in a share `blocked`, wholly hidden (a tag says which); the current is
    right in a share `told`.
    """
    rng = np.random.default_rng(0)
    found = []
    for _ in range(recordings):
        label = rng.random(200) < 0.5
        hidden = rng.random(200) < blocked
        said = np.where(rng.random(200) < told, label, ~label)[:, None].astype(float)
        found.append(
            Observed(
                label=label,
                tags=np.where(hidden, Tag.MIST_HEAVY, 0).astype(np.uint16),
                visibility=np.where(label & ~hidden, 60, 0).astype(np.float32),
                currents=said,
                shifted=np.roll(said, 100, axis=0),
                frames=np.arange(200),
            )
        )
    return found


def test_the_gain_is_what_a_blocked_view_and_the_current_allow() -> None:
    seen = made_up(40, blocked=0.1, told=0.8)
    found = measure(seen, visibility_observer(seen), current_log_odds(seen))
    assert found.current.value == pytest.approx(0.8, abs=0.02)
    assert found.visual.value == pytest.approx(0.95, abs=0.01)  # half of the blocked tenth
    assert found.joint.value == pytest.approx(0.98, abs=0.01)  # a fifth of it
    assert found.gain.low < 0.03 < found.gain.high
    assert abs(found.shifted_gain.value) < 0.004
    share, gain = found.gains["mist_heavy"]
    assert share == pytest.approx(0.1, abs=0.01)
    assert gain.value == pytest.approx(0.3, abs=0.06)
    assert found.gains["clear"][1].value == pytest.approx(0, abs=0.002)
    assert found.instants == 8000


def test_a_current_that_tells_nothing_adds_nothing() -> None:
    seen = made_up(20, blocked=0.1, told=0.5)
    found = measure(seen, visibility_observer(seen), current_log_odds(seen))
    assert abs(found.gain.value) < 0.01


def test_features_are_those_of_a_loop_over_windows() -> None:
    rng = np.random.default_rng(1)
    currents = rng.uniform(5000, 15_000, (2 * 300, 3))
    ends = np.array([120, 177, 299])
    found = current_features(currents, ends)
    for row, end in zip(found, ends, strict=True):
        expected: list[np.ndarray] = []
        for seconds in WINDOWS:
            window = currents[2 * (end + 1 - seconds) : 2 * (end + 1)] / 1000
            before = currents[2 * (end + 1 - seconds) - 1 : 2 * (end + 1)] / 1000
            change = np.abs(np.diff(before, axis=0)).mean(0)
            for values in (window.mean(0), window.std(0), change):
                expected += [values, np.sort(values)]
        assert row == pytest.approx(np.concatenate(expected), abs=1e-6)


def test_observed_instants_leave_out_stalls_and_the_first_window() -> None:
    run = simulate(SimConfig(seed=10_000), 0, 300, frames=7000)
    assert (run.frame_counts == 0).any()
    ends, frames = instants(run, 3)
    assert ends[0] == 120
    assert (run.frame_counts[ends] > 0).all()
    assert np.array_equal(run.frame_seconds[frames], ends)
    camera = Camera(run)
    seen = observe(camera, every=20)
    assert np.array_equal(seen.label, camera.labels(seen.frames))
    shifted = np.roll(run.currents, 300, axis=0)
    assert seen.shifted == pytest.approx(current_features(shifted, instants(run, 20)[0]))


def test_an_interval_by_recordings_is_that_of_their_means() -> None:
    rng = np.random.default_rng(2)
    values = [rng.random(50) + level for level in rng.random(30)]
    found = estimate(values, [np.ones(50, np.bool_)] * 30)
    means = np.array([v.mean() for v in values])
    half = 1.96 * means.std(ddof=1) / np.sqrt(30)
    assert (found.value, found.low, found.high) == pytest.approx(
        (means.mean(), means.mean() - half, means.mean() + half)
    )


def test_too_few_recordings_for_the_folds_are_refused() -> None:
    seen = made_up(6, 0.1, 0.8)
    currents = current_log_odds(seen)
    with pytest.raises(ValueError, match="4 recordings; the probes need at least 5"):
        measure(seen[:4], visibility_observer(seen[:4]), currents)
