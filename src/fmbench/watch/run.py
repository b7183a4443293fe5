"""The loop of a watch: pictures and rows in, decisions out."""

from __future__ import annotations

import math
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from fmbench.format.columns import Currents, format_second
from fmbench.watch.currents import CLOCK, LiveCurrents
from fmbench.watch.events import Decision, EventLog, Memory, Output, Told, clock_text
from fmbench.watch.grid import HOLD, Pictures
from fmbench.watch.health import APART, Camera, CurrentRange, currents_failure
from fmbench.watch.judge import Judge
from fmbench.watch.latch import Alarm
from fmbench.watch.reader import Back, End, Item, Lost, Picture, Reader

TICK = 0.02
"""Seconds to wait for a picture before the log is looked at."""
LATE = 1.0
"""Seconds after which an instant has no picture."""


class Reason(NamedTuple):
    """Why there is no decision: which input, and what is said."""

    kind: str
    text: str


class Due(NamedTuple):
    """A decision to be made; without an arrival, its picture is missing, and `newest` is the time
    of the last one before."""

    k: int
    arrival: float | None
    noticed: float
    newest: float = math.inf


class Witness(Protocol):
    """What else sees pictures and decisions: the recorder of alarms, a page."""

    def picture(self, picture: Picture) -> None:
        """Each picture."""

    def decision(self, decision: Decision, picture: Any, currents: Currents | None) -> None:
        """Each decision, with the (3, H, W) picture and the samples of its window, if known."""

    def event(self, event: dict[str, Any]) -> None:
        """Each event."""


class Watch:
    """Watches one furnace.

    Args:
        judge: the detector.
        alarm: the rule, perhaps with the state of an earlier watch.
        reader: of the video, not started yet.
        currents: None for a detector of video alone.
        every: seconds from decision to decision.
        replay: whether inputs are files that are read as fast as possible.
        arriving: whether frames have the time of their arrival.
        now: the time of the log's clock.
        wait: seconds to wait for the log's rows.
        give_up: seconds without an input after which watching ends; None: never.
        output, log, memory, tell: where decisions, events, the state and lines for people go.
        witnesses: see pictures, decisions and events.
    """

    def __init__(
        self,
        judge: Judge,
        alarm: Alarm,
        reader: Reader,
        currents: LiveCurrents | None,
        *,
        every: float,
        replay: bool,
        arriving: bool,
        now: Callable[[], float],
        wait: float,
        give_up: float | None,
        output: Output,
        log: EventLog,
        memory: Memory,
        tell: Told,
        witnesses: list[Witness],
        lost: str | None = None,
    ) -> None:
        self._judge, self._alarm, self._reader, self._currents = judge, alarm, reader, currents
        self._plan = judge.plan(every)
        self._every, self._replay, self._arriving, self._now = every, replay, arriving, now
        self._wait, self._give_up = wait, give_up
        self._output, self._log, self._memory, self._tell = output, log, memory, tell
        self._witnesses = witnesses
        second = self._plan.second
        self._pictures = Pictures(self._plan.span + self._plan.step + round(12 + wait) * second)
        self._camera = Camera(self._plan.span / self._plan.rate)
        phases = judge.detector.problem.current_channels
        self._range = CurrentRange(judge.detector.model, phases)
        self._origin: float | None = None
        self._begin: int | None = None  # instant of frame 0
        self._last: Picture | None = None
        self._next = self._plan.step - 1
        self._due: deque[Due] = deque()
        self._video_lost = "no picture yet"
        self._lost_kind = lost
        self._started = self._row_at = time.monotonic()
        self._idle_at = -math.inf
        self._ended = False
        self.counts = {"decisions": 0, "NO DECISION": 0, "alarms": 0}

    def run(self) -> int:
        """Watch until the files end; 0, or 1 after `give_up`.

        Raises:
            ValueError: an input that no new attempt can make right.
        """
        self._reader.start()
        try:
            while not (self._ended and not self._due):
                self._take()
                self._poll()
                while self._due and self._made(self._due[0]):
                    self._due.popleft()
                if not self._replay:
                    self._mind_the_time()
                    if self._gave_up():
                        return 1
        finally:
            self._reader.stop()
            self._save(now=True)
        return 0

    def _take(self) -> None:
        """Handle the pictures that wait; wait for one at most a moment."""
        try:
            item = self._reader.items.get(timeout=TICK)
            while True:
                self._handle(item)
                if self._due and self._replay:
                    return
                item = self._reader.items.get_nowait()
        except queue.Empty:
            pass

    def _handle(self, item: Item) -> None:
        match item:
            case Picture():
                self._see(item)
            case Lost(why, waits):
                self._video_lost = why
                self._tell(f"video: {why}; next attempt in {waits:g} s")
            case Back((tall, wide), name):
                self._tell(f"video: {name}, {wide} x {tall}")
            case End(error):
                if error is not None:
                    raise error
                self._ended = True

    def _see(self, picture: Picture) -> None:
        if self._origin is None:
            self._origin = picture.origin
        gap = 0.0 if self._last is None else (picture.k - self._last.k) / self._plan.rate
        if gap > 1 + HOLD:
            self._camera.forget()
        if self._last is None or picture.k > self._last.k:
            self._pictures.add(picture.k, picture.small)
            if self._plan.looks(picture.k):
                self._camera.see(picture.small)
        while self._next < picture.k:
            self._miss()
        self._last, self._video_lost = picture, ""
        for witness in self._witnesses:
            witness.picture(picture)
        if picture.k == self._next:
            self._due.append(Due(self._next, picture.arrival, time.monotonic()))
            self._next += self._plan.step

    def _miss(self) -> None:
        newest = -math.inf if self._last is None else self._last.seconds
        self._due.append(Due(self._next, None, time.monotonic(), newest))
        self._next += self._plan.step

    def _poll(self) -> None:
        if self._currents is None:
            return
        before = self._currents.newest
        if not self._replay:
            self._currents.poll()
        if self._currents.newest > before:
            self._row_at = time.monotonic()

    def _mind_the_time(self) -> None:
        """Decisions that are due by the clock, although no picture came."""
        now = time.monotonic()
        late = max(LATE, 2 * self._reader.step)
        if self._last is None or self._origin is None:
            if now - max(self._started, self._idle_at) >= max(self._every, LATE):
                self._idle_at = now
                self._emit(None, self._now(), None, Reason("video", self._video_lost), None)
            return
        seconds = self._last.seconds + now - self._last.arrival
        while self._origin + self._next / self._plan.rate < seconds - late:
            self._miss()

    def _gave_up(self) -> bool:
        if self._give_up is None:
            return False
        now = time.monotonic()
        video = self._started if self._last is None else self._last.arrival
        silent = {"the video": now - video}
        if self._currents is not None:
            silent["the log"] = now - self._row_at
        for what, since in silent.items():
            if since > self._give_up:
                self._tell(f"{what} has given nothing for {since:.0f} s (--give_up): watching ends")
                return True
        return False

    def _made(self, due: Due) -> bool:
        """Make a decision, unless it has to wait for the log."""
        assert self._origin is not None
        seconds = self._origin + due.k / self._plan.rate
        currents, waited = self._currents, time.monotonic() - due.noticed
        if currents is not None and due.arrival is not None:
            until = self._judge.needs_until(due.k, self._origin)
            if self._replay:
                currents.until(until)
            short = currents.newest < until - CLOCK and not currents.ended
            if short and waited < (10.0 if self._replay else self._wait):
                if self._replay:
                    time.sleep(TICK)
                return False
        score, reason, samples = None, None, None
        if due.arrival is None:
            reason = self._no_picture(seconds - due.newest)
        elif currents is not None:
            reason = self._no_currents(due.k, seconds)
        if self._begin is None and currents is None:
            self._begin = 0
        if reason is None:
            assert self._begin is not None
            if currents is not None:
                first = math.floor(self._origin + self._begin / self._plan.rate + 1e-6)
                samples = currents.since(first, math.floor(seconds + 1e-6))
                currents.forget(seconds)
            score, reason = self._judged(due.k, samples)
        self._emit(due.k, seconds, score, reason, due.arrival, samples)
        return True

    def _judged(self, k: int, samples: Currents | None) -> tuple[float | None, Reason | None]:
        assert self._origin is not None
        assert self._begin is not None
        video = self._judge.modality.has_video
        if video and (failure := self._camera.failure()):
            return None, Reason("camera", failure)
        if video and not self._pictures.has(self._judge.clip(k, self._begin)):
            span = self._plan.span / self._plan.rate
            return None, Reason("clip", f"pictures are missing in the last {span:.2f} s, a clip")
        if self._currents is not None:
            last = math.floor(self._origin + k / self._plan.rate + 1e-6)
            if samples is None or samples.seconds[-1] <= last - self._judge.plant.period:
                return None, Reason("currents", f"currents missing at {format_second(last)}")
            known = np.isfinite(samples.values).all(axis=1)
            found = Currents(samples.seconds[known], samples.values[known])
            if failure := currents_failure(found, self._judge.plant, self._range):
                return None, Reason("currents", failure)
        score = self._judge.score(k, self._begin, self._origin, self._pictures, samples)
        if score is None:
            return None, Reason("window", "the window is not complete yet (early, history, gaps)")
        if not math.isfinite(score):
            return None, Reason("model", "the model's score is no finite number")
        return score, None

    def _no_picture(self, since: float) -> Reason:
        if self._video_lost:
            return Reason("video", f"video lost: {self._video_lost}")
        if self._reader.dropped:
            self._reader.dropped = 0
            return Reason("video", "pictures come faster than they can be judged")
        if math.isinf(since):
            return Reason("video", "no picture yet")
        return Reason("video", f"video stalled: no picture for {since:.1f} s")

    def _no_currents(self, k: int, seconds: float) -> Reason | None:
        """Why the log does not suffice for instant k; sets the recording's begin."""
        assert self._currents is not None
        assert self._origin is not None
        currents = self._currents
        until = self._judge.needs_until(k, self._origin)
        behind = until - currents.newest
        if not math.isfinite(behind):
            return Reason("currents", f"currents missing: {currents.fault or 'no row yet'}")
        if behind > CLOCK:
            fresh = time.monotonic() - self._row_at < max(LATE, self._wait)
            if fresh and behind > APART and not self._replay:
                return Reason(
                    "clock", f"clocks apart: the log's newest row is {behind:.1f} s behind"
                )
            why = f" ({currents.fault})" if currents.fault else ""
            return Reason(
                "currents", f"currents missing: the newest row is {behind:.1f} s behind{why}"
            )
        if self._arriving and currents.newest > seconds + APART + max(LATE, self._wait):
            ahead = currents.newest - seconds
            return Reason("clock", f"clocks apart: the log's newest row is {ahead:.1f} s ahead")
        if self._begin is None and (first := currents.first()) is not None:
            begin = (first - self._origin) * self._plan.rate
            self._begin = max(0, math.ceil(begin - 1e-6))
        if self._begin is None or k < self._begin:
            return Reason("currents", "currents missing: the log begins later")
        return None

    def _emit(
        self,
        k: int | None,
        seconds: float,
        score: float | None,
        reason: Reason | None,
        arrival: float | None,
        samples: Currents | None = None,
    ) -> None:
        """Hand out a decision, and the events that it makes."""
        before = self._alarm.on
        self._alarm.step(seconds, score)
        frame = None if k is None or self._begin is None or k < self._begin else k - self._begin
        decision = Decision(
            time=clock_text(seconds),
            seconds=seconds,
            frame=frame,
            score=score,
            state="NO DECISION" if reason else "ALARM" if self._alarm.on else "OK",
            reason="" if reason is None else reason.text,
            alarm=self._alarm.on,
            latency=None
            if arrival is None or self._replay
            else round(time.monotonic() - arrival, 4),
        )
        self.counts["decisions"] += 1
        self.counts["NO DECISION"] += reason is not None
        self._output.write(decision)
        small = None
        if k is not None and self._pictures.has(np.array([k])):
            small = self._pictures[k]
        for witness in self._witnesses:
            witness.decision(decision, small, samples)
        kind = None if reason is None else reason.kind
        if reason is not None and kind != self._lost_kind:
            self._event("input lost", seconds, input=kind, reason=reason.text)
        elif reason is None and self._lost_kind is not None:
            self._event("input back", seconds, input=self._lost_kind)
        self._lost_kind = kind
        if self._alarm.on != before:
            self.counts["alarms"] += self._alarm.on
            name = "alarm begins" if self._alarm.on else "alarm ends"
            self._event(name, seconds, score=score, frame=frame)
        self._save(now=self._alarm.on != before)

    def _event(self, event: str, seconds: float, **more: Any) -> None:
        found = self._log.write(event, seconds, **more)
        for witness in self._witnesses:
            witness.event(found)

    def _save(self, *, now: bool) -> None:
        self._memory.save({"latch": self._alarm.state(), "lost": self._lost_kind}, now=now)
