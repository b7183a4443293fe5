"""Events and false alarms against a plain reading of their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbench.alarms.events import GRACE, LEAD, judge, track_of
from footages import footage

Events = list[tuple[float, float]]


def by_definition(
    seconds: list[int], alarm: list[bool], events: Events
) -> tuple[list[float], list[int]]:
    """Time of the first alarm of each event, or NaN; decisions at which false alarms begin."""

    def normal(now: int) -> bool:
        return not any(a - LEAD <= now <= b + GRACE for a, b in events)

    false = []
    for k, now in enumerate(seconds):
        if alarm[k] and normal(now) and not (k and alarm[k - 1] and normal(seconds[k - 1])):
            false.append(k)
    at = []
    for a, b in events:
        first = math.nan
        for k, now in enumerate(seconds):
            if not (a <= now <= b and alarm[k]):
                continue
            back = k
            while back and alarm[back - 1]:
                back -= 1
            if not any(normal(seconds[j]) for j in range(back, k + 1)):
                first = now
                break
        at.append(first)
    return at, false


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Events], list[list[bool]]]:
    """One to three stretches of 200 s."""
    every, alarms = [], []
    for _ in range(draw(st.integers(1, 3))):
        edges = sorted(draw(st.lists(st.integers(0, 199), max_size=4, unique=True)))
        every.append([(float(a), float(b)) for a, b in zip(edges[::2], edges[1::2], strict=False)])
        turns = draw(st.lists(st.integers(0, 199), max_size=8))
        alarm, on = [], draw(st.booleans())
        for now in range(200):
            on ^= turns.count(now) % 2 == 1
            alarm.append(on)
        alarms.append(alarm)
    return every, alarms


@given(cases())
def test_the_outcome_is_the_definition(case: tuple[list[Events], list[list[bool]]]) -> None:
    events, alarms = case
    track = track_of([footage(200, each) for each in events], 1.0)
    found = judge(track, track.spread([np.array(each) for each in alarms], False))
    at, false = [], []
    for k, (spans, alarm) in enumerate(zip(events, alarms, strict=True)):
        expected = by_definition(list(range(200)), alarm, spans)
        at += expected[0]
        false += [j + k * 201 for j in expected[1]]
    stretch = track.stretch[track.first]
    np.testing.assert_array_equal(track.local(found.alarm_at, stretch), at)
    assert found.false_at.tolist() == false
    assert found.in_alarm == pytest.approx(np.mean(np.concatenate(alarms)))


def judged(spans: Events, on: Events, begun: list[bool] | None = None):  # type: ignore[no-untyped-def]
    track = track_of([footage(400, spans, begun=begun or [])], 1.0)
    now = np.append(np.arange(400.0), math.inf)
    return judge(track, np.any([(now >= a) & (now <= b) for a, b in on], axis=0))


def test_a_detector_that_always_alarms_finds_nothing() -> None:
    found = judged([(100.0, 200.0)], [(0.0, 400.0)])
    assert not found.found.any()
    assert len(found.false_at) == 2  # before the event and after it


def test_an_alarm_that_never_ends_is_false_after_its_event_and_finds_no_later_one() -> None:
    found = judged([(50.0, 80.0), (200.0, 250.0)], [(60.0, 400.0)])
    assert found.found.tolist() == [True, False]
    assert found.delay[0] == 10
    assert len(found.false_at) == 2


def test_an_early_alarm_finds_its_event_without_delay() -> None:
    found = judged([(100.0, 150.0)], [(95.0, 110.0)])
    assert (found.delay.tolist(), len(found.false_at)) == ([0.0], 0)


def test_an_event_has_no_delay_if_its_onset_or_its_own_alarm_is_not_known() -> None:
    assert np.isnan(judged([(0.0, 50.0)], [(20.0, 30.0)], [True]).delay).all()
    both = judged([(50.0, 80.0), (100.0, 150.0)], [(60.0, 140.0)])
    assert both.found.all()  # no normal operation in between
    np.testing.assert_array_equal(both.delay, [10.0, np.nan])


def test_normal_operation_excludes_events_with_their_margins() -> None:
    found = judged([(100.0, 150.0)], [(0.0, -1.0)])
    assert found.normal_hours * 3600 == 400 - (50 + LEAD + GRACE + 1)
    assert found.interval[0] == 0
