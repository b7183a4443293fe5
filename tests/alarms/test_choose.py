"""The choice of a rule: within the budget by an independent count, best by the stated order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fmbench.alarms.budget import Budget, parse_budget
from fmbench.alarms.calibration import BINS, best_temperature, reliability
from fmbench.alarms.choose import Candidate, Cusum, best_of, cusum_states, tried, tried_cusum
from fmbench.alarms.events import GRACE, LEAD, track_of
from fmbench.alarms.footage import Footage
from fmbench.alarms.rule import Latch
from fmbench.alarms.run import scored_at
from footages import footage

SPANS = [(300.0, 380.0), (700.0, 790.0)]


def quietly(*_: object) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def footages() -> list[Footage]:
    """An hour: events, and normal operation with outliers."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(3):
        odds = rng.normal(-3, 1.2, 1200)
        for at in rng.integers(0, 1200, 12):
            odds[at : at + 2] += 5
        for start, stop in SPANS:
            odds[int(start) + 8 : int(stop)] += 5
        found.append(footage(1200, SPANS, odds=odds))
    return found


@pytest.fixture(scope="module")
def candidates(footages: list[Footage]) -> list[Candidate]:
    scored = scored_at(footages, 1.0, 1.0)
    return tried(scored.track, scored.scores, quietly)


def counted(each: Footage, candidate: Candidate) -> tuple[int, int]:
    """Events found and false alarms of a live detector, for one recording."""
    latch, states = Latch(candidate.rule), []
    odds = each.logits[:, 1].numpy()
    for now in each.seconds.tolist():
        states.append(latch.step(now, 1 / (1 + math.exp(-odds[int(now)]))))
    false, was = 0, False
    for now, on in enumerate(states):
        outside = not any(a - LEAD <= now <= b + GRACE for a, b in SPANS)
        false += on and outside and not was
        was = on and outside
    return sum(any(states[int(a) : int(b) + 1]) for a, b in SPANS), false


@pytest.mark.parametrize("text", ["0.1/day", "3/hour", "20/hour"])
def test_the_chosen_rule_meets_the_budget_by_an_independent_count(
    footages: list[Footage], candidates: list[Candidate], text: str
) -> None:
    picked, met = best_of(candidates, parse_budget(text))
    assert met
    counts = [counted(each, picked) for each in footages]
    normal = sum(
        not any(a - LEAD <= now <= b + GRACE for a, b in SPANS)
        for each in footages
        for now in each.seconds
    )
    false = sum(each for _, each in counts)
    assert false * 86400 / normal <= parse_budget(text).per_day
    assert len(picked.outcome.false_at) == false
    assert int(picked.outcome.found.sum()) == sum(each for each, _ in counts) == 6


def test_the_order_is_events_then_delay_then_false_alarms(candidates: list[Candidate]) -> None:
    budget = parse_budget("3/hour")
    picked, _ = best_of(candidates, budget)
    allowed = [each for each in candidates if each.within(budget)]
    assert len(allowed) > 1
    most = max(int(each.outcome.found.sum()) for each in allowed)
    finding = [each for each in allowed if int(each.outcome.found.sum()) == most]
    soonest = min(each.outcome.median for each in finding)
    assert int(picked.outcome.found.sum()) == most
    assert picked.outcome.median == soonest
    equal = [each for each in finding if each.outcome.median == soonest]
    assert len(picked.outcome.false_at) == min(len(each.outcome.false_at) for each in equal)


def test_more_budget_is_never_slower(candidates: list[Candidate]) -> None:
    medians = [
        best_of(candidates, Budget("", per_day))[0].outcome.median for per_day in (0.1, 72, 480)
    ]
    assert medians == sorted(medians, reverse=True)


def test_without_a_rule_within_the_budget_the_one_with_fewest_false_alarms_is_taken() -> None:
    odds = np.tile([3.0, -3.0], 300)  # normal operation and the event look the same
    scored = scored_at([footage(600, [(300.0, 340.0)], odds=odds)], 1.0, 1.0)
    found = tried(scored.track, scored.scores, quietly)
    picked, met = best_of(found, parse_budget("1/week"))
    assert not met
    least = min(len(each.outcome.false_at) for each in found if each.outcome.found.any())
    assert len(picked.outcome.false_at) == least > 0


def test_cusums_are_their_recursion(footages: list[Footage]) -> None:
    odds = [each.logits[:, 1].numpy().copy() for each in footages]
    odds[0][5] = math.nan
    track = track_of(footages, 1.0)
    grid = [Cusum(-1.0, 4.0), Cusum(0.5, 12.0)]
    found = cusum_states(track, track.spread(odds, math.nan), grid)
    for number, cusum in enumerate(grid):
        for k, values in enumerate(odds):
            total, on, expected = 0.0, False, []
            for x in values:
                if not math.isnan(x):
                    total = min(cusum.limit, max(0.0, total + x - cusum.drift))
                    on = total >= cusum.limit or (on and total > 0)
                expected.append(on)
            own = track.real & (track.stretch == k)
            assert found[own, number].tolist() == expected


def test_the_cusum_is_chosen_within_the_budget(footages: list[Footage]) -> None:
    scored = scored_at(footages, 1.0, 1.0)
    picked, met = best_of(tried_cusum(scored.track, scored.odds), parse_budget("3/hour"))
    assert met
    assert picked.outcome.found.all()


def test_a_temperature_undoes_a_scale_of_the_logits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = (rng.random((20_000, 1)) > chances.cumsum(1)).sum(1)
    assert best_temperature(3 * logits, label) == pytest.approx(3, rel=0.05)


def test_the_calibration_error_is_that_of_the_bins() -> None:
    rng = np.random.default_rng(1)
    stated = rng.random(500)
    abnormal = rng.random(500) < stated**2
    expected = 0.0
    for k in range(BINS):
        own = (stated >= k / BINS) & (stated < (k + 1) / BINS)
        if own.any():
            expected += own.mean() * abs(stated[own].mean() - abnormal[own].mean())
    assert reliability(stated, abnormal).ece == pytest.approx(expected)
    assert reliability(np.array([1.0]), np.array([True])).ece == 0
