"""The page of a watch: what it shows, and who may see it."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from browser import Browse, asked_by_a_page, browse
from fmbench.alarms.rule import AlarmRule
from fmbench.format.columns import Currents
from fmbench.types import BENCHMARK
from fmbench.watch.events import Decision, clock_text
from fmbench.watch.page import Page
from fmbench.watch.reader import Picture
from furnace import ROI, write_video
from test_cli import Command, fmbench

__all__ = ["browse", "fmbench"]  # fixtures

BEGIN = 1_903_888_800.0


def decision(k: int, score: float | None, *, alarm: bool = False, reason: str = "") -> Decision:
    state: Any = "NO DECISION" if score is None else "ALARM" if alarm else "OK"
    seconds = BEGIN + k
    return Decision(clock_text(seconds), seconds, 25 * k, score, state, reason, alarm, 0.05)


def filled(page: Page, out: Path) -> None:
    """A watch of three minutes with an alarm and a lost camera."""
    view = np.full((120, 200, 3), (20, 90, 200), np.uint8)
    jpeg = cv2.imencode(".jpg", view)[1].tobytes()
    page.picture(Picture(0, BEGIN, np.zeros((3, 8, 8), np.uint8), 0.0, BEGIN, jpeg))
    rows = 480
    draw = np.random.default_rng(0)
    values = draw.normal(10_000, 500, (rows, 3)).astype(np.float32)
    seconds = (BEGIN + np.arange(rows) // 2 - 60).astype(np.int64)
    for k in range(180):
        blind = 150 <= k < 160
        score = None if blind else 0.9 if 100 <= k < 140 else 0.05
        reason = "video stalled: no picture for 2.0 s" if blind else ""
        alarm = 104 <= k < 150
        page.decision(
            decision(k, score, alarm=alarm, reason=reason), None, Currents(seconds, values)
        )
    found = {"event": "alarm begins", "time": clock_text(BEGIN + 104), "seconds": BEGIN + 104.0}
    when = str(np.datetime64(int(BEGIN + 104), "s")).replace("-", "").replace(":", "")
    (out / f"alarm-{when}.png").write_bytes(b"\x89PNG picture")
    page.event(found)
    lost = {"event": "input lost", "input": "video", "reason": "video <stalled>"}
    page.event(lost | {"time": clock_text(BEGIN + 150), "seconds": BEGIN + 150.0})


def opened(out: Path, address: str = "127.0.0.1:0", token: str | None = None) -> Page:
    rule = AlarmRule(on=0.7, off=0.4, needed=4, of=5, hold_off=10)
    return Page(
        address, token, title="Watch: fmformer", plant=BENCHMARK, rule=rule, simulated=True, out=out
    )


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    served = opened(tmp_path)
    filled(served, tmp_path)
    yield served
    served.close()


def get(page: Page, path: str, host: str | None = None) -> tuple[int, str, str]:
    port = int(page.address.rsplit(":", 1)[1].strip("/"))
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    body = answer.read().decode("utf-8", "replace")
    connection.close()
    return answer.status, answer.headers["Content-Type"], body


def test_the_page_shows_the_newest_state_the_scores_and_the_events(page: Page) -> None:
    status, kind, body = get(page, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "Trained on simulated recordings" in body
    assert '<p class="state ok"><strong>OK</strong>' in body
    assert "Score 0.050; an alarm begins when 4 of 5 scores" in body
    assert body.count('class="trace"') == 3
    assert "data:image/jpeg;base64," in body
    assert "video &lt;stalled&gt;" in body
    page.decision(decision(180, None, alarm=True, reason="black picture"), None, None)
    status, _, now = get(page, "/now")
    assert status == 200
    assert '<p class="state no-decision"><strong>NO DECISION</strong>' in now
    assert "black picture" in now
    assert "an alarm goes on" in now
    assert "<html" not in now


def test_scores_lie_to_scale_and_are_interrupted_where_there_is_none(page: Page) -> None:
    _, _, body = get(page, "/now")
    path = re.search(r'class="score" d="([^"]*)"', body)
    assert path is not None
    assert path[1].count("M") == 2  # before and after the lost camera
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", path[1])
    assert len(points) == 170
    assert float(points[0][1]) == pytest.approx(50 - 48 * 0.05, abs=0.06)
    assert float(points[110][1]) == pytest.approx(50 - 48 * 0.9, abs=0.06)
    assert float(points[-1][0]) == pytest.approx(300, abs=0.1)  # now
    assert float(points[0][0]) == pytest.approx(300 - 179 / 2, abs=0.1)  # 600 s are 300 wide


def test_pictures_of_alarms_are_served_and_nothing_else(page: Page, tmp_path: Path) -> None:
    link = re.search(r'href="(/alarm-[^"]*)"', get(page, "/now")[2])
    assert link is not None
    assert get(page, link[1])[:2] == (200, "image/png")
    (tmp_path / "secret.png").write_bytes(b"x")
    for path in ("/secret.png", "/../secret.png", "/alarm-20300501T060000.png", "/etc/passwd"):
        assert get(page, path)[0] == 404


def test_another_sites_name_for_this_machine_is_refused(page: Page) -> None:
    assert get(page, "/", host="evil.example:80")[0] == 403
    port = page.address.rsplit(":", 1)[1].strip("/")
    assert get(page, "/", host=f"localhost:{port}")[0] == 200


def test_a_page_for_the_network_needs_its_token(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"can be reached from the network: give --page_token"):
        opened(tmp_path, "0.0.0.0:0")
    page = opened(tmp_path, "0.0.0.0:0", "s3cret&é")
    try:
        assert get(page, "/")[0] == 403
        assert get(page, "/?token=wrong")[0] == 403
        assert get(page, "/?token=s3cret%26%C3%A9", host="furnace.plant")[0] == 200
    finally:
        page.close()


@pytest.mark.parametrize("address", ["8080", "127.0.0.1", "127.0.0.1:x", ":80", "127.0.0.1:70000"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        opened(tmp_path, address)


def test_a_port_in_use_is_said_before_watching_begins(
    fmbench: Command, visual: Path, tmp_path: Path
) -> None:
    write_video(tmp_path / "run.mp4", 50)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = fmbench("watch", "--checkpoint", visual, "--video", tmp_path / "run.mp4", "--roi",
                       ROI, "--speed", "max", "--start", "2030-05-01 06:00:00", "--page",
                       f"127.0.0.1:{port}")  # fmt: skip
    assert done.status == 2
    assert f"--page 127.0.0.1:{port}: " in done.err
    assert "choose another port" in done.err
    assert not done.out


@pytest.mark.slow
def test_a_browser_shows_the_page_and_asks_for_nothing_outside(
    page: Page, browse: Browse, tmp_path: Path
) -> None:
    log = tmp_path / "net.json"
    body = get(page, "/")[2]
    (tmp_path / "page.html").write_text(body)
    done: subprocess.CompletedProcess[str] = browse(
        tmp_path / "page.html", "--dump-dom", f"--log-net-log={log}"
    )
    assert "Last events" in done.stdout
    assert not {each for each in asked_by_a_page(log) if not each.startswith("file:")}
