"""The choice of an alarm rule, and of the CUSUM it is compared with, on validation recordings.

Every rule of a grid is applied. Among those within the budget, the one that finds most events is
taken; among equals, the one with the least median delay, then with the fewest false alarms, the
fewest alarms in all (so that one does not chatter), the least normal operation in alarm, and the
highest threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from fmbench.alarms.budget import Budget
from fmbench.alarms.events import OUTSIDE, Marks, Outcome, Track, judge
from fmbench.alarms.rule import AlarmRule, Floats, smoothed
from fmbench.progress import ShowProgress

NUM_THRESHOLDS = 24
FALLS = 0.5, 2.0
"""The deadband: from `on` to `off`, in log-odds."""
VOTES = (1, 1), (2, 3), (4, 5), (8, 10), (15, 20)
HOLD_OFFS = 0.0, 10.0, 30.0
"""Seconds."""
SMOOTHINGS = 0.0, 5.0
"""Seconds."""
SHARPEST = 30.0
"""Largest log-odds of a threshold."""


@dataclass(frozen=True)
class Cusum:
    """A cumulative sum of the log-odds x: S = min(limit, max(0, S + x - drift)).

    An alarm begins when S reaches `limit` and ends when S is 0.
    """

    drift: float
    limit: float


@dataclass(frozen=True)
class Candidate:
    """A rule, and what it did on the validation recordings."""

    rule: Any
    outcome: Outcome

    @property
    def key(self) -> tuple[float, ...]:
        """Less is better, among candidates within the budget."""
        found, median = int(self.outcome.found.sum()), self.outcome.median
        on = self.rule.on if isinstance(self.rule, AlarmRule) else self.rule.limit
        return (
            -found,
            math.inf if math.isnan(median) else median,
            len(self.outcome.false_at),
            self.outcome.alarms,
            self.outcome.normal_in_alarm,
            -on,
        )

    def within(self, budget: Budget) -> bool:
        """Whether it finds an event, and its false alarms are within the budget."""
        count = len(self.outcome.false_at)
        return bool(self.outcome.found.any()) and budget.allows(count, self.outcome.normal_hours)


def best_of(candidates: list[Candidate], budget: Budget) -> tuple[Candidate, bool]:
    """The best candidate, and whether it meets the budget.

    If none does, the one with the fewest false alarms of those that find an event.
    """
    within = [each for each in candidates if each.within(budget)]
    if within:
        return min(within, key=lambda each: each.key), True
    finding = [each for each in candidates if each.outcome.found.any()] or candidates
    return min(finding, key=lambda each: (len(each.outcome.false_at), each.key)), False


def tried(track: Track, scores: Floats, show: ShowProgress) -> list[Candidate]:
    """Every rule of the grid on the validation recordings.

    Args:
        track: m decisions.
        scores: (m,) calibrated probability of abnormal.
        show: called with the rules done.
    """
    found: list[Candidate] = []
    total = NUM_THRESHOLDS * len(FALLS) * len(VOTES) * len(HOLD_OFFS) * len(SMOOTHINGS)
    for smoothing in SMOOTHINGS:
        base = AlarmRule(smoothing=smoothing, every=track.every)
        values = smoothed(base, track.seconds, scores)
        values[~track.real] = OUTSIDE
        for rule in _grid(track, values):
            show(len(found), total, "rules")
            alarm = track.states(replace(rule, every=track.every), values)
            found.append(Candidate(replace(rule, smoothing=smoothing), judge(track, alarm)))
    show(len(found), total, "rules")
    return found


def _grid(track: Track, scores: Floats) -> Iterator[AlarmRule]:
    """Rules whose thresholds lie between normal and abnormal scores."""
    with np.errstate(divide="ignore"):
        odds = np.clip(logit(np.clip(scores, 0, 1)), -SHARPEST, SHARPEST)
    low = np.nanquantile(odds[track.normal], 0.5)
    high = np.nanquantile(odds[track.event >= 0], 0.95)
    low, high = min(low, high - 1), max(high, low + 1)
    for on in np.linspace(low, high, NUM_THRESHOLDS):
        for fall, (needed, of), hold_off in product(FALLS, VOTES, HOLD_OFFS):
            yield AlarmRule(
                on=_short(on),
                off=_short(on - fall),
                needed=needed,
                of=of,
                hold_off=hold_off,
                every=track.every,
            )


def _short(odds: float) -> float:
    """The probability of log-odds, as a file repeats it."""
    return float(f"{expit(odds):.12g}")


def tried_cusum(track: Track, odds: Floats) -> list[Candidate]:
    """CUSUMs of a grid on the validation recordings.

    Args:
        track: m decisions.
        odds: (m,) calibrated log-odds of abnormal.
    """
    values = np.clip(odds, -SHARPEST, SHARPEST)
    low = np.nanquantile(values[track.normal], 0.5)
    high = np.nanquantile(values[track.event >= 0], 0.75)
    drifts = np.linspace(low, max(high, low + 1), 12)
    step = max(float(np.nanstd(values[track.real])), 1e-3)
    limits = step * np.geomspace(0.5, 100, 12)
    grid = [Cusum(float(d), float(limit)) for d in drifts for limit in limits]
    alarms = cusum_states(track, values, grid)
    return [
        Candidate(cusum, judge(track, alarm)) for cusum, alarm in zip(grid, alarms.T, strict=True)
    ]


def cusum_states(track: Track, odds: Floats, cusums: list[Cusum]) -> Marks:
    """(m, G) whether each of G CUSUMs is in alarm; all begin anew with each stretch."""
    drift = np.array([each.drift for each in cusums])
    limit = np.array([each.limit for each in cusums])
    total, on = np.zeros(len(cusums)), np.zeros(len(cusums), np.bool_)
    found: NDArray[np.bool_] = np.zeros((len(odds), len(cusums)), np.bool_)
    growth = np.nan_to_num(np.clip(odds, -SHARPEST, SHARPEST))
    known = track.real & ~np.isnan(odds)
    for k, (real, usable) in enumerate(zip(track.real.tolist(), known.tolist(), strict=True)):
        if not real:
            total, on = np.zeros(len(cusums)), np.zeros(len(cusums), np.bool_)
            continue
        if usable:
            total = np.minimum(np.maximum(total + growth[k] - drift, 0), limit)
            on = (on & (total > 0)) | (total >= limit)
        found[k] = on
    return found
