"""The loop of a watch: pictures and rows in, decisions out."""

from __future__ import annotations

import math
import queue
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fmbench.format.columns import Currents, format_second
from fmbench.watch.announce import Announcer
from fmbench.watch.currents import CLOCK, LiveCurrents
from fmbench.watch.events import Messages
from fmbench.watch.grid import HOLD, Pictures
from fmbench.watch.health import Camera, CurrentRange, currents_failure
from fmbench.watch.judge import Judge
from fmbench.watch.reader import Back, End, Item, Lost, Picture, Reader
from fmbench.watch.reasons import APART, Reason, no_currents, no_picture

TICK = 0.02
"""Seconds to wait for a picture before the log is looked at."""
LATE = 1.0
"""Seconds after which an instant has no picture."""


class Due(NamedTuple):
    """A decision to be made; without an arrival, its picture is missing, and `newest` is the time
    of the last one before."""

    k: int
    arrival: float | None
    noticed: float
    newest: float = math.inf


class Watch:
    """Watches one furnace.

    Args:
        judge: the detector.
        reader: of the video, not started yet.
        currents: None for a detector of video alone.
        every: seconds from decision to decision.
        replay: whether inputs are files that are read as fast as possible.
        arriving: whether frames have the time of their arrival.
        now: the time of the log's clock.
        wait: seconds to wait for the log's rows.
        give_up: seconds without an input after which watching ends; None: never.
        announcer: takes the decisions.
        tell: says lines for people.
    """

    def __init__(
        self,
        judge: Judge,
        reader: Reader,
        currents: LiveCurrents | None,
        *,
        every: float,
        replay: bool,
        arriving: bool,
        now: Callable[[], float],
        wait: float,
        give_up: float | None,
        announcer: Announcer,
        tell: Messages,
    ) -> None:
        self._judge, self._reader, self._currents = judge, reader, currents
        self._plan = judge.plan(every)
        self._every, self._replay, self._arriving, self._now = every, replay, arriving, now
        self._wait, self._give_up = wait, give_up
        self._announcer, self._tell = announcer, tell
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
        self._started = self._row_at = time.monotonic()
        self._idle_at = -math.inf
        self._ended = False

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
            self._announcer.save(now=True)
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
        self._announcer.picture(picture)
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
            reason = no_picture(seconds - due.newest, self._video_lost, self._reader.dropped)
            self._reader.dropped = 0
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

    def _no_currents(self, k: int, seconds: float) -> Reason | None:
        """Why the log does not suffice for instant k; sets the recording's begin."""
        assert self._currents is not None
        assert self._origin is not None
        late, currents = max(LATE, self._wait), self._currents
        found = no_currents(
            currents,
            seconds,
            self._judge.needs_until(k, self._origin),
            fresh=not self._replay and time.monotonic() - self._row_at < late,
            ahead=APART + late if self._arriving else math.inf,
        )
        if found is not None:
            return found
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
        """Hand over a decision with what is known of its window."""
        frame = None if k is None or self._begin is None or k < self._begin else k - self._begin
        small = None
        if k is not None and self._pictures.has(np.array([k])):
            small = self._pictures[k]
        self._announcer.decision(
            seconds,
            score,
            reason,
            frame=frame,
            arrival=None if self._replay else arrival,
            picture=small,
            samples=samples,
        )
