"""Budgets, and what hours of normal operation say about the rate of false alarms."""

from __future__ import annotations

import math

import pytest
from scipy.stats import poisson

from fmbench.alarms.budget import parse_budget, poisson_interval, rate_bound, support


@pytest.mark.parametrize(
    ("text", "per_day"), [("1/day", 1), ("2/hour", 48), ("0.5/week", 0.5 / 7), (" .5 / day ", 0.5)]
)
def test_a_budget_is_a_number_in_a_time(text: str, per_day: float) -> None:
    assert parse_budget(text).per_day == pytest.approx(per_day)


@pytest.mark.parametrize("text", ["", "1", "day", "1/month", "0/day", "-1/day", "1/day/2", "a/day"])
def test_another_budget_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match="for instance 1/day") as refused:
        parse_budget(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_the_interval_is_that_of_the_poisson_distribution(count: int) -> None:
    low, high = poisson_interval(count, 2.5)
    assert poisson.cdf(count, high * 2.5) == pytest.approx(0.025)
    assert low == 0 if count == 0 else poisson.sf(count - 1, low * 2.5) == pytest.approx(0.025)
    assert poisson_interval(count, 0.0) == (0.0, math.inf)


def test_no_false_alarm_bounds_the_rate_by_three_over_the_time() -> None:
    assert poisson.pmf(0, rate_bound(4.0) * 4.0) == pytest.approx(0.05)


def test_the_support_of_short_footage_is_said_plainly() -> None:
    one = parse_budget("1/day")
    assert support(1.2, one) == (
        "chosen on 1.2 h of normal operation, which can support at best 60 false alarms a day; "
        "a budget of 1/day needs 3.0 days without a false alarm"
    )
    assert "needs" not in support(100.0, one)


def test_a_budget_allows_a_whole_number_of_false_alarms() -> None:
    one = parse_budget("1/day")
    assert one.allows(0, 0.1)
    assert not one.allows(1, 23.9)
    assert one.allows(1, 24.0)
    assert not one.allows(2, 47.0)
