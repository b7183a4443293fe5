"""How many false alarms are allowed, and what hours of normal operation say about their rate."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from scipy.stats import chi2

HOURS = {"hour": 1.0, "day": 24.0, "week": 168.0}


@dataclass(frozen=True)
class Budget:
    """False alarms that are allowed.

    Attributes:
        text: as it was given, for instance 1/day.
        per_day: false alarms in 24 hours of normal operation.
    """

    text: str
    per_day: float

    def allows(self, count: int, hours: float) -> bool:
        """Whether `count` false alarms in `hours` of normal operation are within the budget."""
        return count * 24 <= self.per_day * hours

    @property
    def needs_hours(self) -> float:
        """Hours of normal operation without a false alarm that support the budget."""
        return 24 * rate_bound(1.0) / self.per_day


def parse_budget(text: str) -> Budget:
    """`1/day`, `2/hour` or `0.5/week` as a budget.

    Raises:
        ValueError: another text, or a number that is not above 0.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*/\s*([a-z]+)\s*", text)
    if found is None or found[2] not in HOURS or not float(found[1]) > 0:
        raise ValueError(
            f"--budget is {text!r}; it must be a number above 0 of false alarms, then /hour, /day "
            "or /week, for instance 1/day"
        )
    return Budget(text.strip(), float(found[1]) * 24 / HOURS[found[2]])


def rate_bound(time: float) -> float:
    """The rate that is not exceeded, at 95 %, if nothing happened in `time`: 3.0 / time."""
    return -math.log(0.05) / time if time > 0 else math.inf


def poisson_interval(count: int, time: float) -> tuple[float, float]:
    """Exact 95 % interval (Garwood) of a rate, from `count` occurrences in `time`.

    Returns:
        Both ends, per unit of `time`; 0 to infinity if `time` is 0.
    """
    if not time > 0:
        return 0.0, math.inf
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low / time, float(chi2.ppf(0.975, 2 * count + 2)) / 2 / time


def readable(value: float) -> str:
    """A number of three digits, or a whole one."""
    return f"{value:,.0f}" if 1000 <= value < math.inf else f"{value:.3g}"


def duration(hours: float) -> str:
    """`50 min`, `1.2 h` or `3.1 days`."""
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def support(hours: float, budget: Budget) -> str:
    """What the normal operation of the validation recordings can say about the budget."""
    best = 24 * rate_bound(hours)
    stated = readable(float(f"{best:.2g}"))
    text = (
        f"chosen on {duration(hours)} of normal operation, which can support at best {stated} "
        "false alarms a day"
    )
    if best > budget.per_day:
        text += (
            f"; a budget of {budget.text} needs {duration(budget.needs_hours)} without a false "
            "alarm"
        )
    return text
