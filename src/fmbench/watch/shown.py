"""What the page of a watch shows: picture, state, score, currents, events, pictures of alarms."""

from __future__ import annotations

import re
import threading
import time
from base64 import b64encode
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fmbench.alarms.rule import AlarmRule
from fmbench.format.columns import Currents
from fmbench.page import render, svg
from fmbench.page.traces import channel_traces
from fmbench.types import Channel, Modality, Plant
from fmbench.watch.events import Decision, clock_text
from fmbench.watch.reader import Picture

TRAINED_ON_SIMULATED = "Trained on simulated recordings: it has not learnt from a real furnace."
SCORES, CURRENTS = 600.0, 120.0
"""Seconds of scores and of currents that are shown."""
EVENTS, ALARMS = 12, 4
"""Events, and pictures of alarms, that are shown."""
MOST = 4096
"""Decisions held for the page."""
OFTEN = 0.5
"""Seconds for which all browsers get the same page, so that many of them cost as one."""
SILENT = 5.0
"""Seconds without a decision, or three spacings if that is more, after which watching stands."""
IMAGE = re.compile(r"alarm-\d{8}T\d{6}\.png")
INPUTS = {
    "Video": ("video", "camera", "clip"),
    "Currents": ("currents", "clock"),
    "Model": ("window", "model"),
}
"""Kinds of reasons by what an operator can look after."""


class Input(NamedTuple):
    """The state of an input: OK, NO DECISION with a reason, or not judged behind another one."""

    name: str
    state: str
    reason: str


class Shown:
    """Holds the newest of a watch, and draws it.

    Args:
        title: of the page.
        plant: channels of the currents.
        modality: the inputs.
        rule: whose thresholds are drawn.
        simulated: whether the detector was trained on simulated recordings.
        out: folder of the alarms' pictures, if they are written.
        token: of links.
    """

    def __init__(
        self,
        *,
        title: str,
        plant: Plant,
        modality: Modality,
        rule: AlarmRule,
        simulated: bool,
        out: Path | None,
        token: str | None,
    ) -> None:
        self._title, self._plant, self._modality, self._rule = title, plant, modality, rule
        self._simulated, self._out, self._token = simulated, out, token
        self._lock, self._drawing = threading.Lock(), threading.Lock()
        self._view: tuple[float, bytes] | None = None
        self._decisions: deque[Decision] = deque(maxlen=MOST)
        self._decided = time.monotonic()
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._currents: Currents | None = None
        self._drawn: dict[str, tuple[float, str]] = {}

    def picture(self, picture: Picture) -> None:
        """Keep the newest view."""
        if picture.view is not None:
            with self._lock:
                self._view = picture.seconds, picture.view

    def decision(
        self, decision: Decision, picture: NDArray[np.uint8] | None, currents: Currents | None
    ) -> None:
        """Keep the decisions and the newest samples."""
        with self._lock:
            self._decisions.append(decision)
            self._decided = time.monotonic()
            if currents is not None:
                self._currents = currents
            if self._view is None and picture is not None:
                pixels = np.ascontiguousarray(picture.transpose(1, 2, 0)[:, :, ::-1])
                self._view = decision.seconds, cv2.imencode(".jpg", pixels)[1].tobytes()

    def event(self, event: dict[str, Any]) -> None:
        """Keep the last events."""
        with self._lock:
            self._events.append(event)

    def html(self, template: str) -> str:
        """The page (watch.html) or its changing part (now.html), of the last half second."""
        with self._drawing:
            at, text = self._drawn.get(template, (-np.inf, ""))
            if time.monotonic() - at >= OFTEN:
                text = self._html(template)
                self._drawn[template] = time.monotonic(), text
            return text

    def image(self, name: str) -> bytes | None:
        """An alarm's picture; None if there is none of this name."""
        if self._out is None or not IMAGE.fullmatch(name):
            return None
        try:
            return (self._out / name).read_bytes()
        except OSError:
            return None

    def _html(self, template: str) -> str:
        with self._lock:
            decisions, events = list(self._decisions), list(self._events)[::-1]
            currents, view, decided = self._currents, self._view, self._decided
        newest = decisions[-1] if decisions else None
        now = newest.seconds if newest else 0.0
        silent = time.monotonic() - decided
        return render(
            "fmbench.watch",
            template,
            title=self._title,
            banner=TRAINED_ON_SIMULATED if self._simulated else "",
            token=self._token or "",
            newest=newest,
            silent=f"{silent:.0f}" if silent > max(SILENT, 3 * self._rule.every) else "",
            inputs=[] if newest is None else self._inputs(newest),
            score="–" if newest is None or newest.score is None else f"{newest.score:.3f}",
            view=None if view is None else f"data:image/jpeg;base64,{b64encode(view[1]).decode()}",
            seen="" if view is None else clock_text(view[0])[:-4],
            behind=f"{now - view[0]:.0f}" if view and now - view[0] >= 2 else "",
            scores=self._scores(decisions, now),
            span=f"{SCORES / 60:g}",
            currents=[] if currents is None else self._traces(currents, now),
            events=[_event_row(each) for each in events],
            alarms=self._alarms(),
            rule=self._rule,
        )

    def _inputs(self, newest: Decision) -> list[Input]:
        """The state of each input: a reason tells of one, and the others were not judged then."""
        has = {"Video": self._modality.has_video, "Currents": self._modality.has_current}
        found = []
        for name, kinds in INPUTS.items():
            if not has.get(name, True):
                continue
            if newest.input in kinds:
                found.append(Input(name, "NO DECISION", newest.reason))
            else:
                found.append(Input(name, "not judged" if newest.reason else "OK", ""))
        return found

    def _alarms(self) -> list[tuple[str, str]]:
        """Name and time of the last alarms' pictures, those of an earlier watch included."""
        if self._out is None:
            return []
        names = sorted(path.name for path in self._out.glob("alarm-*T*.png"))
        last = [name for name in names if IMAGE.fullmatch(name)][-ALARMS:]
        return [(name, _time_of(name)) for name in reversed(last)]

    def _scores(self, decisions: list[Decision], now: float) -> Markup:
        near = [each for each in decisions if now - SCORES <= each.seconds <= now]
        times = np.array([each.seconds for each in near])
        values = np.array([np.nan if each.score is None else each.score for each in near])
        alarm = np.array([each.alarm for each in near], np.bool_)
        marks = (self._rule.on, self._rule.off)
        return svg.scores(times, values, alarm, (now - SCORES, now), marks, "scores over time")

    def _traces(self, currents: Currents, now: float) -> list[tuple[Markup, Markup]]:
        plant, values = self._plant, np.asarray(currents.values, np.float64)
        step = 1 / plant.current_rate
        end = float(currents.seconds[-1]) + plant.period
        times = np.asarray(end - step * np.arange(len(values), 0, -1), np.float64)
        span = now - CURRENTS, now  # so that samples that are old move away
        inside = (times >= span[0]) & (times <= span[1])
        times, values = times[inside], values[inside]

        def described(channel: Channel, column: NDArray[np.float64]) -> tuple[str, str]:
            words = _reading(column[-1], channel.unit)
            return words, f"{channel.name}: {words}"

        return channel_traces(times, values, plant, span, described)


def _event_row(event: dict[str, Any]) -> dict[str, str]:
    """Time, what and why."""
    what = event["event"] + (f": {event['input']}" if event.get("input") else "")
    why = str(event.get("reason") or "")
    return {"time": str(event["time"])[:-4], "what": what, "why": why}


def _reading(value: float, unit: str) -> str:
    """The newest sample in words; large currents in kA."""
    if unit == "A" and abs(value) >= 1000:
        return f"{value / 1000:.2f} kA"
    return f"{value:,.4g} {unit}"


def _time_of(name: str) -> str:
    """alarm-YYYYMMDDTHHMMSS.png -> YYYY-MM-DD HH:MM:SS."""
    day, clock = name[6:14], name[15:21]
    return f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}:{clock[4:]}"
