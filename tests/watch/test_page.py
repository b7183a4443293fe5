"""The page of a watch: what it shows, and who may see it."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from browser import Browse, asked_by_a_page, browse
from fmbench.alarms.rule import AlarmRule
from fmbench.format.columns import Currents
from fmbench.types import BENCHMARK, Modality
from fmbench.watch.events import Decision, Messages, clock_text
from fmbench.watch.page import Page
from fmbench.watch.reader import Picture
from fmbench.watch.shown import CURRENTS, Shown
from furnace import ROI, write_video
from test_cli import Command, fmbench

__all__ = ["browse", "fmbench"]  # fixtures

BEGIN = 1_903_888_800.0


def decision(
    k: int, score: float | None, *, alarm: bool = False, lost: str = "", reason: str = ""
) -> Decision:
    state: Any = "NO DECISION" if score is None else "ALARM" if alarm else "OK"
    seconds = BEGIN + k
    return Decision(clock_text(seconds), seconds, 25 * k, score, state, lost, reason, alarm, 0.05)


def filled(page: Shown, out: Path) -> None:
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


def to_show(out: Path, token: str | None = None) -> Shown:
    rule = AlarmRule(on=0.7, off=0.4, needed=4, of=5, hold_off=10)
    return Shown(
        title="Watch: fmformer",
        plant=BENCHMARK,
        modality=Modality.CROSS,
        rule=rule,
        simulated=True,
        out=out,
        token=token,
    )


def opened(out: Path, address: str = "127.0.0.1:0", token: str | None = None) -> Page:
    return Page(address, token, to_show(out, token), Messages())


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    found = to_show(tmp_path)
    filled(found, tmp_path)
    return found


@pytest.fixture
def page(shown: Shown) -> Iterator[Page]:
    served = Page("127.0.0.1:0", None, shown, Messages())
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


def test_the_page_shows_the_newest_state_the_scores_and_the_events(
    page: Page, shown: Shown
) -> None:
    status, kind, body = get(page, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "Trained on simulated recordings" in body
    assert '<p class="state ok"><strong>OK</strong>' in body
    assert "Score 0.050. An alarm begins when 4 of 5 scores" in body
    assert body.count('class="trace"') == 3
    assert "data:image/jpeg;base64," in body
    assert "video &lt;stalled&gt;" in body
    shown.decision(
        decision(180, None, alarm=True, lost="camera", reason="black picture"), None, None
    )
    status, _, now = get(page, "/now")
    assert status == 200
    assert '<p class="state no-decision"><strong>NO DECISION</strong>' in now
    assert "black picture" in now
    assert "an alarm goes on" in now
    assert "<html" not in now


def inputs(html: str) -> dict[str, str]:
    return dict(re.findall(r"<dt>(\w+)</dt><dd[^>]*>([^<]*)</dd>", html))


def test_each_input_is_ok_has_a_reason_or_was_not_judged(shown: Shown, tmp_path: Path) -> None:
    assert inputs(shown.html("now.html")) == dict.fromkeys(("Video", "Currents", "Model"), "OK")
    for kind, name in (("camera", "Video"), ("clock", "Currents"), ("window", "Model")):
        found = to_show(tmp_path)
        found.decision(decision(0, None, lost=kind, reason="a reason"), None, None)
        others = dict.fromkeys({"Video", "Currents", "Model"} - {name}, "not judged")
        assert inputs(found.html("now.html")) == {name: "a reason", **others}


def test_what_is_old_is_not_shown_as_new(
    shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture says how old it is, samples move away, and a watch that stands is no OK."""
    assert "179 s before the newest decision" in shown.html("now.html")
    assert 'class="old"' in shown.html("now.html")
    last = round(CURRENTS)
    for k, traces in ((179 + last // 2, 3), (179 + last + 1, 0)):
        later = to_show(tmp_path)
        filled(later, tmp_path)
        later.decision(decision(k, None, lost="currents", reason="missing"), None, None)
        html = later.html("now.html")
        assert html.count('class="trace"') == traces
        drawn = [float(x) for x in re.findall(r"M(\d+) [\d.]+h1V", html)]
        assert not drawn or max(drawn) < 300 / 2 + 2  # up to the middle, not up to now
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 30)
    html = shown.html("now.html")
    assert "watching has made no decision for 30 s" in html
    assert '<p class="state no-decision"' in html


def test_many_browsers_get_one_drawing(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    first = shown.html("now.html")
    shown.decision(decision(180, 0.3), None, None)
    assert shown.html("now.html") is first
    now += 1
    assert "Score 0.300" in shown.html("now.html")


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
    assert f'<img src="{link[1]}"' in get(page, "/now")[2]
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
    (tmp_path / "alarm-20300501T060000.png").write_bytes(b"x")
    try:
        assert get(page, "/alarm-20300501T060000.png")[0] == 403
        assert (
            "/alarm-20300501T060000.png?token=s3cret%26%C3%A9"
            in get(page, "/now?token=s3cret%26%C3%A9")[2]
        )
        assert get(page, "/")[0] == 403
        assert get(page, "/?token=wrong")[0] == 403
        assert get(page, "/?token=s3cret%26%C3%A9", host="furnace.plant")[0] == 200
    finally:
        page.close()


def test_the_page_is_served_by_ipv6(tmp_path: Path) -> None:
    page = opened(tmp_path, "[::1]:0")
    try:
        port = int(page.address.rsplit(":", 1)[1].strip("/"))
        assert page.address == f"http://[::1]:{port}/"
        connection = HTTPConnection("::1", port, timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        page.close()


def test_an_answer_that_fails_is_said_once_in_a_line(
    page: Page, shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(template: str) -> str:
        raise RuntimeError(f"{template} is broken")

    with monkeypatch.context() as patch:
        patch.setattr(shown, "html", broken)
        for _ in range(2):
            with pytest.raises((RemoteDisconnected, ConnectionResetError)):
                get(page, "/")
    assert get(page, "/")[0] == 200
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    assert said == ["page: RuntimeError: watch.html is broken; watching goes on"]


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
def test_a_browser_renews_the_page_and_asks_for_nothing_outside(
    page: Page, browse: Browse, tmp_path: Path
) -> None:
    log = tmp_path / "net.json"
    done = browse(
        page.address,
        "--dump-dom",
        f"--log-net-log={log}",
        "--virtual-time-budget=2500",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    )
    assert "Last events" in done.stdout
    asked = asked_by_a_page(log, "http://127.0.0.1")
    picture = re.search(r'<img src="/(alarm-[^"]*)"', done.stdout)
    assert picture is not None
    assert asked == {page.address + name for name in ("", "now", picture[1])}
