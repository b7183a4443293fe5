"""The page of a watch: picture, state, score, currents, last alarms; served on this machine."""

from __future__ import annotations

import hmac
import re
import threading
from base64 import b64encode
from collections import deque
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fmbench.alarms.rule import AlarmRule
from fmbench.format.columns import Currents
from fmbench.page import render, svg
from fmbench.types import Channel, Plant
from fmbench.watch.events import Decision
from fmbench.watch.reader import Picture

SCORES, CURRENTS = 600.0, 120.0
"""Seconds of scores and of currents that are shown."""
TRAINED_ON_SIMULATED = "Trained on simulated recordings: it has not learnt from a real furnace."
EVENTS = 12
MOST = 4096
"""Decisions held for the page."""
IMAGE = re.compile(r"alarm-\d{8}T\d{6}\.png")


class Page:
    """Serves the page from threads of its own; it never stops watching.

    Args:
        address: HOST:PORT.
        token: what a request must carry as ?token=…; needed unless the host is of this machine.
        title: of the page.
        plant: channels of the currents.
        rule: whose thresholds are drawn.
        simulated: whether the detector was trained on simulated recordings.
        out: folder of the alarms' pictures, if they are written.

    Raises:
        ValueError: no such address, one that is in use, or one of the network without a token.

    Attributes:
        address: the address that is served, `http://HOST:PORT/`.
    """

    def __init__(
        self,
        address: str,
        token: str | None,
        *,
        title: str,
        plant: Plant,
        rule: AlarmRule,
        simulated: bool,
        out: Path | None,
    ) -> None:
        host, port = _parsed(address)
        self._token, self._title, self._plant, self._rule = token, title, plant, rule
        self._simulated, self._out = simulated, out
        self._lock = threading.Lock()
        self._view: bytes | None = None
        self._decisions: deque[Decision] = deque(maxlen=MOST)
        self._events: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._currents: Currents | None = None
        local = _is_local(host)
        if not local and not token:
            raise ValueError(
                f"--page {address} can be reached from the network: give --page_token SECRET, which"
                f" a browser then adds to the address (?token=SECRET), or --page 127.0.0.1:{port}"
            )
        page = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_GET(self) -> None:
                page.answer(self)

            def log_message(self, *_: object) -> None:
                """Nothing: standard error is for people."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"--page {address}: {why}; choose another port") from None
        self._server.daemon_threads = True
        port = self._server.server_port
        self.address = f"http://{host}:{port}/"
        self._hosts = {f"{name}:{port}" for name in (host, "localhost", "127.0.0.1")}
        self._checks_host = local
        threading.Thread(target=self._server.serve_forever, daemon=True, name="page").start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def picture(self, picture: Picture) -> None:
        """Keep the newest view."""
        if picture.view is not None:
            with self._lock:
                self._view = picture.view

    def decision(
        self, decision: Decision, picture: NDArray[np.uint8] | None, currents: Currents | None
    ) -> None:
        """Keep the decisions and the newest samples."""
        with self._lock:
            self._decisions.append(decision)
            if currents is not None:
                self._currents = currents
            if self._view is None and picture is not None:
                pixels = np.ascontiguousarray(picture.transpose(1, 2, 0)[:, :, ::-1])
                self._view = cv2.imencode(".jpg", pixels)[1].tobytes()

    def event(self, event: dict[str, Any]) -> None:
        """Keep the last events."""
        with self._lock:
            self._events.append(event)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer a GET: the page, its changing part, or a picture of an alarm."""
        asked = urlsplit(request.path)
        given = parse_qs(asked.query).get("token", [""])[0]
        if self._token and not hmac.compare_digest(given.encode(), self._token.encode()):
            _send(request, HTTPStatus.FORBIDDEN, b"?token=... is missing or wrong", "text/plain")
            return
        # Another site whose name leads to this machine must not read the page.
        if self._checks_host and request.headers.get("Host") not in self._hosts:
            _send(request, HTTPStatus.FORBIDDEN, b"another host's name", "text/plain")
            return
        if asked.path in ("/", "/now"):
            template = "watch.html" if asked.path == "/" else "now.html"
            _send(request, HTTPStatus.OK, self.html(template).encode(), "text/html; charset=utf-8")
            return
        name = asked.path.removeprefix("/")
        if self._out is not None and IMAGE.fullmatch(name) and (self._out / name).is_file():
            _send(request, HTTPStatus.OK, (self._out / name).read_bytes(), "image/png")
            return
        _send(request, HTTPStatus.NOT_FOUND, b"no such page", "text/plain")

    def html(self, template: str) -> str:
        """The page (watch.html) or its changing part (now.html)."""
        with self._lock:
            decisions, events = list(self._decisions), list(self._events)[::-1]
            currents, view = self._currents, self._view
        newest = decisions[-1] if decisions else None
        return render(
            "fmbench.watch",
            template,
            title=self._title,
            banner=TRAINED_ON_SIMULATED if self._simulated else "",
            token=self._token or "",
            newest=newest,
            score="–" if newest is None or newest.score is None else f"{newest.score:.3f}",
            view=None if view is None else f"data:image/jpeg;base64,{b64encode(view).decode()}",
            scores=self._scores(decisions),
            span=f"{SCORES / 60:g}",
            currents=[] if currents is None else self._traces(currents),
            events=[self._shown(each) for each in events],
            rule=self._rule,
        )

    def _scores(self, decisions: list[Decision]) -> Markup:
        now = decisions[-1].seconds if decisions else 0.0
        near = [each for each in decisions if now - SCORES <= each.seconds <= now]
        times = np.array([each.seconds for each in near])
        values = np.array([np.nan if each.score is None else each.score for each in near])
        alarm = np.array([each.alarm for each in near], np.bool_)
        marks = (self._rule.on, self._rule.off)
        return svg.scores(times, values, alarm, (now - SCORES, now), marks, "scores over time")

    def _traces(self, currents: Currents) -> list[tuple[Markup, Markup]]:
        plant, values = self._plant, np.asarray(currents.values, np.float64)
        step = 1 / plant.current_rate
        end = float(currents.seconds[-1]) + plant.period
        times = np.asarray(end - step * np.arange(len(values), 0, -1), np.float64)
        inside = times >= end - CURRENTS
        times, values = times[inside], values[inside]
        channels = plant.channels or [Channel(f"phase {k + 1}") for k in range(values.shape[1])]
        found = []
        for k, channel in enumerate(channels):
            known = np.isfinite(values[:, k])
            if not known.any():
                continue
            alike = [other.unit == channel.unit for other in channels]
            limits = float(np.nanmin(values[:, alike])), float(np.nanmax(values[:, alike]))
            last = values[known, k][-1]
            number = f"{last:,.0f}" if abs(last) >= 1000 else f"{last:.4g}"
            words = f"{number} {channel.unit}"
            drawing = svg.trace(
                times[known],
                values[known, k],
                (end - CURRENTS, end),
                limits,
                f"phase{k % 3 + 1}",
                f"{channel.name}: {words}",
                plant.current_rate,
            )
            found.append((Markup("{}<br>{}").format(channel.name, words), drawing))
        return found

    def _shown(self, event: dict[str, Any]) -> dict[str, str]:
        """Time, what, why, and the name of an alarm's picture."""
        name = ""
        if event["event"] == "alarm begins" and self._out is not None:
            when = str(np.datetime64(round(float(event["seconds"])), "s"))
            name = f"alarm-{when.replace(':', '').replace('-', '')}.png"
            name = name if (self._out / name).is_file() else ""
        what = event["event"]
        if event.get("input"):
            what = f"{what}: {event['input']}"
        return {
            "time": str(event["time"]),
            "what": what,
            "why": str(event.get("reason") or ""),
            "picture": name,
        }


def _parsed(address: str) -> tuple[str, int]:
    """HOST:PORT.

    Raises:
        ValueError: it is not.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"--page {address}: expected HOST:PORT, such as 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _send(request: BaseHTTPRequestHandler, status: HTTPStatus, body: bytes, kind: str) -> None:
    try:
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Cache-Control", "no-store")
        request.send_header("Referrer-Policy", "no-referrer")
        request.end_headers()
        request.wfile.write(body)
    except OSError:
        pass  # the browser has gone
