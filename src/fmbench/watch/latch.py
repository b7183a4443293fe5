"""Scores to alarms: the rule's latch, restored after a restart."""

from __future__ import annotations

import math
from typing import Any

from fmbench.alarms.rule import AlarmRule, Latch


class Alarm:
    """Whether there is an alarm.

    Args:
        rule: the rule.
        state: of `state`, from which it goes on.

    Attributes:
        on: whether there is an alarm now.
    """

    def __init__(self, rule: AlarmRule, state: dict[str, Any] | None = None) -> None:
        self.rule = rule
        self._latch = Latch(rule) if state is None else Latch.resumed(rule, state)
        self._newest = -math.inf if state is None else float(state["newest"])

    @property
    def on(self) -> bool:
        return self._latch.alarm

    def step(self, seconds: float, score: float | None) -> None:
        """Take a decision; None is one that could not be made. After a clock that was set back, the
        rule counts anew, and an alarm goes on."""
        if seconds <= self._newest:
            self._latch = Latch(self.rule, self._latch.alarm)
        self._newest = seconds
        self._latch.step(seconds, math.nan if score is None else score)

    def state(self) -> dict[str, Any]:
        """Plain values."""
        return self._latch.state()
