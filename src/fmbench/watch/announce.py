"""What a decision sets off: the alarm rule, a line of output, events, the saved state."""

from __future__ import annotations

import time
from typing import Any, Protocol

from numpy.typing import NDArray

from fmbench.format.columns import Currents
from fmbench.watch.events import Decision, EventLog, Memory, Output, clock_text
from fmbench.watch.latch import Alarm
from fmbench.watch.reader import Picture
from fmbench.watch.reasons import Reason


class Witness(Protocol):
    """What else sees pictures and decisions: the recorder of alarms, a page."""

    def picture(self, picture: Picture) -> None:
        """Each picture."""

    def decision(self, decision: Decision, picture: Any, currents: Currents | None) -> None:
        """Each decision, with the (3, H, W) picture and the samples of its window, if known."""

    def event(self, event: dict[str, Any]) -> None:
        """Each event."""


class Announcer:
    """Takes scores, in the order of time, and tells of alarms and of inputs that are lost.

    Args:
        alarm: the rule, perhaps with the state of an earlier watch.
        output, log, memory: where decisions, events and the state go.
        witnesses: see pictures, decisions and events.
        lost: the input that an earlier watch had lost when it ended.

    Attributes:
        counts: decisions, those that could not be made, and alarms so far.
    """

    def __init__(
        self,
        alarm: Alarm,
        *,
        output: Output,
        log: EventLog,
        memory: Memory,
        witnesses: list[Witness],
        lost: str | None = None,
    ) -> None:
        self._alarm, self._output, self._log, self._memory = alarm, output, log, memory
        self._witnesses, self._lost = witnesses, lost
        self.counts = {"decisions": 0, "NO DECISION": 0, "alarms": 0}

    def picture(self, picture: Picture) -> None:
        """Show the witnesses a picture."""
        for witness in self._witnesses:
            witness.picture(picture)

    def decision(
        self,
        seconds: float,
        score: float | None,
        reason: Reason | None,
        *,
        frame: int | None,
        arrival: float | None,
        picture: NDArray[Any] | None = None,
        samples: Currents | None = None,
    ) -> None:
        """Apply the rule, and tell of the decision and of the events that it makes.

        Args:
            seconds: its time, since 1970.
            score: in [0, 1]; None where there is a reason.
            reason: why there is no decision; None where there is one.
            frame: its index.
            arrival: monotonic time at which the frame was there; None without one, or in a replay.
            picture: (3, H, W), if known.
            samples: of its window, if known.
        """
        before = self._alarm.on
        self._alarm.step(seconds, score)
        decision = Decision(
            time=clock_text(seconds),
            seconds=seconds,
            frame=frame,
            score=score,
            state="NO DECISION" if reason else "ALARM" if self._alarm.on else "OK",
            input="" if reason is None else reason.kind,
            reason="" if reason is None else reason.text,
            alarm=self._alarm.on,
            latency=None if arrival is None else round(time.monotonic() - arrival, 4),
        )
        self.counts["decisions"] += 1
        self.counts["NO DECISION"] += reason is not None
        self._output.write(decision)
        for witness in self._witnesses:
            witness.decision(decision, picture, samples)
        self._inputs(seconds, reason)
        if self._alarm.on != before:
            self.counts["alarms"] += self._alarm.on
            name = "alarm begins" if self._alarm.on else "alarm ends"
            self._event(name, seconds, score=score, frame=frame)
        self.save(now=self._alarm.on != before)

    def save(self, *, now: bool) -> None:
        """Keep the state, at most once a second unless `now`."""
        self._memory.save({"latch": self._alarm.state(), "lost": self._lost}, now=now)

    def _inputs(self, seconds: float, reason: Reason | None) -> None:
        """An event if an input is lost, or back."""
        kind = None if reason is None else reason.kind
        if reason is not None and kind != self._lost:
            self._event("input lost", seconds, input=kind, reason=reason.text)
        elif reason is None and self._lost is not None:
            self._event("input back", seconds, input=self._lost)
        self._lost = kind

    def _event(self, event: str, seconds: float, **more: Any) -> None:
        found = self._log.write(event, seconds, **more)
        for witness in self._witnesses:
            witness.event(found)
