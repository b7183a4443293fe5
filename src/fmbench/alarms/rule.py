"""The alarm rule: scores, one after the other, to alarm or no alarm.

The parts are those of alarm management (ISA-18.2, IEC 62682): a deadband (`on`, `off`), an on-delay
(`needed` of `of` decisions) and an off-delay (`hold_off`). The rule is causal. `states` applies it
to a whole recording at once, `Latch` to scores as they arrive; both give the same answer.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AlarmRule:
    """When an alarm begins and when it ends.

    A score is the probability in [0, 1] that a window is abnormal; NaN is a decision that could not
    be made. NaN neither begins nor ends an alarm.

    Attributes:
        on: a score of at least `on` is a vote for an alarm.
        off: an alarm goes on while a score is at least `off`; at most `on`.
        needed: votes that begin an alarm, 1 to `of`.
        of: decisions, the newest included, among which votes are counted.
        hold_off: seconds that all scores must have been below `off` before an alarm ends; 0: the
            newest score decides.
        smoothing: time constant of an exponential mean of the scores, seconds; 0: none.
        every: seconds from one decision to the next.

    Raises:
        ValueError: a value outside its range.
    """

    on: float = 0.5
    off: float = 0.5
    needed: int = 1
    of: int = 1
    hold_off: float = 0.0
    smoothing: float = 0.0
    every: float = 1.0

    def __post_init__(self) -> None:
        wrong = {
            "on": not 0 <= self.on <= 1,
            "off": not 0 <= self.off <= self.on,
            "needed": not 1 <= self.needed <= self.of,
            "hold_off": not 0 <= self.hold_off < math.inf,
            "smoothing": not 0 <= self.smoothing < math.inf,
            "every": not 0 < self.every < math.inf,
        }
        allowed = "0 <= off <= on <= 1, 1 <= needed <= of, hold_off and smoothing from 0, every > 0"
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise ValueError(f"{name} of an alarm rule is {getattr(self, name)}: {allowed}")

    @property
    def reach(self) -> float:
        """Seconds before a decision in which votes are counted; half a decision is tolerance."""
        return (self.of - 0.5) * self.every

    @property
    def break_after(self) -> float:
        """Seconds without a decision after which smoothing restarts."""
        return max(self.of * self.every, 3 * self.every)


def states(rule: AlarmRule, seconds: Floats, scores: Floats) -> NDArray[np.bool_]:
    """Whether there is an alarm after each decision of one recording.

    Args:
        rule: the rule.
        seconds: (n,) times of the decisions, ascending.
        scores: (n,) in [0, 1], or NaN.

    Returns:
        (n,) bool.
    """
    scores = smoothed(rule, seconds, scores)
    with np.errstate(invalid="ignore"):
        votes, quiet = scores >= rule.on, scores < rule.off
    begins = _counted(votes, seconds, rule.reach) >= rule.needed
    # Within hold_off: every decision is quiet, and they reach back that far.
    loud = _counted(~quiet, seconds, rule.hold_off + 0.5 * rule.every)
    ends = loud == 0
    index = np.arange(len(scores))
    last_begin = np.maximum.accumulate(np.where(begins, index, -1))
    last_end = np.maximum.accumulate(np.where(ends & ~begins, index, -1))
    return last_begin > last_end


def smoothed(rule: AlarmRule, seconds: Floats, scores: Floats) -> Floats:
    """(n,) scores -> (n,) their exponential mean; NaN stays NaN and does not change the mean."""
    if not rule.smoothing:
        return np.asarray(scores, np.float64)
    found = np.full(len(scores), np.nan)
    mean, before = math.nan, -math.inf
    for place, (now, score) in enumerate(zip(seconds.tolist(), scores.tolist(), strict=True)):
        mean, before = _mean(rule, mean, before, now, score)
        found[place] = mean if score == score else math.nan
    return found


@dataclass
class Latch:
    """A rule that is applied to scores as they arrive.

    Attributes:
        rule: the rule.
        alarm: whether there is an alarm after the last decision.
    """

    rule: AlarmRule
    alarm: bool = False
    _votes: deque[float] = field(default_factory=deque)
    _loud: float = -math.inf
    _mean: float = math.nan
    _before: float = -math.inf
    _newest: float = -math.inf

    def step(self, seconds: float, score: float) -> bool:
        """Take a decision; whether there is an alarm now.

        Args:
            seconds: its time, later than that of the last one.
            score: in [0, 1], or NaN.

        Raises:
            ValueError: the time does not ascend.
        """
        if seconds <= self._newest:
            raise ValueError(f"a decision at {seconds} s follows one at {self._newest} s")
        self._newest = seconds
        rule = self.rule
        if rule.smoothing:
            self._mean, self._before = _mean(rule, self._mean, self._before, seconds, score)
            score = self._mean if score == score else math.nan
        if score >= rule.on:
            self._votes.append(seconds)
        while self._votes and self._votes[0] <= seconds - rule.reach:
            self._votes.popleft()
        if not score < rule.off:  # NaN included
            self._loud = seconds
        if len(self._votes) >= rule.needed:
            self.alarm = True
        elif self._loud <= seconds - (rule.hold_off + 0.5 * rule.every):
            self.alarm = False
        return self.alarm

    def state(self) -> dict[str, Any]:
        """Plain values from which `resumed` continues."""
        return {
            "alarm": self.alarm,
            "votes": list(self._votes),
            "loud": self._loud,
            "mean": self._mean,
            "before": self._before,
            "newest": self._newest,
        }

    @classmethod
    def resumed(cls, rule: AlarmRule, state: dict[str, Any]) -> Latch:
        """The latch that `state` described."""
        kept = {f"_{name}": value for name, value in state.items() if name != "alarm"}
        kept["_votes"] = deque(kept["_votes"])
        return cls(rule, bool(state["alarm"]), **kept)


def _mean(
    rule: AlarmRule, mean: float, before: float, now: float, score: float
) -> tuple[float, float]:
    """The exponential mean after a score, and the time of the last score that was a number."""
    if math.isnan(score):
        return mean, before
    if math.isnan(mean) or now - before > rule.break_after:
        return score, now
    return mean - math.expm1(-(now - before) / rule.smoothing) * (score - mean), now


def _counted(marks: NDArray[np.bool_], seconds: Floats, reach: float) -> NDArray[np.int64]:
    """(n,) how many marks lie in the `reach` seconds before each time, itself included."""
    total = np.concatenate([[0], np.cumsum(marks)])
    first = np.searchsorted(seconds, np.asarray(seconds) - reach, side="right")
    return np.asarray(total[1:] - total[first], np.int64)
