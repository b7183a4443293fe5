"""The alarm rule against a plain reading of its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbench.alarms.rule import AlarmRule, Latch, smoothed, states


def by_definition(rule: AlarmRule, seconds: list[float], scores: list[float]) -> list[bool]:
    """Every decision looks at all earlier ones."""
    alarm, found = False, []
    for now in seconds:
        past = [(now - then, score) for then, score in zip(seconds, scores, strict=True)]
        past = [(age, score) for age, score in past if age >= 0]
        slots = [(age / rule.every, score) for age, score in past]
        votes = sum(score >= rule.on for age, score in slots if age < rule.of - 0.5)
        held = [score for age, score in slots if age < rule.hold_off / rule.every + 0.5]
        if votes >= rule.needed:
            alarm = True
        elif all(score < rule.off for score in held):
            alarm = False
        found.append(alarm)
    return found


@st.composite
def cases(draw: st.DrawFn) -> tuple[AlarmRule, list[float], list[float]]:
    on = draw(st.sampled_from([0.25, 0.5, 0.75]))
    of = draw(st.integers(1, 5))
    rule = AlarmRule(
        on=on,
        off=draw(st.sampled_from([0.25, 0.5, 0.75]).filter(lambda off: off <= on)),
        needed=draw(st.integers(1, of)),
        of=of,
        hold_off=draw(st.sampled_from([0.0, 1.0, 3.0, 10.0])),
        every=draw(st.sampled_from([0.5, 1.0])),
    )
    steps = draw(st.lists(st.sampled_from([0.5, 1.0, 1.25, 7.0]), min_size=1, max_size=40))
    seconds = np.cumsum(steps).tolist()
    value = st.sampled_from([0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0, math.nan])
    return rule, seconds, draw(st.lists(value, min_size=len(steps), max_size=len(steps)))


@given(cases())
def test_both_forms_are_the_definition(case: tuple[AlarmRule, list[float], list[float]]) -> None:
    rule, seconds, scores = case
    expected = by_definition(rule, seconds, scores)
    assert states(rule, np.array(seconds), np.array(scores)).tolist() == expected
    latch = Latch(rule)
    assert [latch.step(*each) for each in zip(seconds, scores, strict=True)] == expected


@given(cases(), st.sampled_from([0.5, 3.0, 20.0]), st.integers(0, 39))
def test_a_latch_with_smoothing_goes_on_from_its_state(
    case: tuple[AlarmRule, list[float], list[float]], smoothing: float, stop: int
) -> None:
    from dataclasses import replace

    rule, seconds, scores = replace(case[0], smoothing=smoothing), case[1], case[2]
    latch, found = Latch(rule), []
    for place, each in enumerate(zip(seconds, scores, strict=True)):
        if place == stop:
            latch = Latch.resumed(rule, latch.state())
        found.append(latch.step(*each))
    assert found == states(rule, np.array(seconds), np.array(scores)).tolist()


def test_smoothing_is_an_exponential_mean_that_restarts_after_a_break() -> None:
    rule = AlarmRule(smoothing=2.0)
    seconds = np.array([0.0, 1.0, 2.0, 3.0, 50.0])
    found = smoothed(rule, seconds, np.array([0.0, 1.0, math.nan, 1.0, 0.25]))
    one = 1 - math.exp(-0.5)  # a step of 1 s at a time constant of 2 s
    two = one + (1 - math.exp(-1.0)) * (1 - one)  # 2 s since the last score
    np.testing.assert_allclose(found, [0.0, one, math.nan, two, 0.25])


def test_an_alarm_does_not_end_while_nothing_can_be_decided() -> None:
    found = states(AlarmRule(), np.arange(4.0), np.array([0.9, math.nan, math.nan, 0.1]))
    assert found.tolist() == [True, True, True, False]


def test_four_of_five() -> None:
    rule = AlarmRule(needed=4, of=5)
    scores = np.array([1, 1, 0, 1, 1, 0, 0, 0.0])
    assert states(rule, np.arange(8.0), scores).tolist() == [False] * 4 + [True] + [False] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": 1.5},
        {"on": 0.4, "off": 0.6},
        {"on": math.nan},
        {"needed": 3, "of": 2},
        {"needed": 0},
        {"hold_off": -1.0},
        {"smoothing": math.inf},
        {"every": 0.0},
    ],
)
def test_a_rule_outside_its_ranges_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="of an alarm rule is"):
        AlarmRule(**wrong)  # type: ignore[arg-type]


def test_time_ascends() -> None:
    latch = Latch(AlarmRule())
    latch.step(2.0, 0.1)
    with pytest.raises(ValueError, match="follows"):
        latch.step(2.0, 0.1)
