"""A watch beside a camera that speaks RTSP and a log that grows, both of which fail."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from furnace import ROI, TALL, WIDE, picture
from rtsp import Camera

PATIENCE = 120.0
"""Seconds after which what is waited for is taken not to come."""


class Plc:
    """Appends a row every tenth of a second, by the wall clock."""

    def __init__(self, path: Path) -> None:
        self.path, self.delay = path, timedelta(0)
        self.paused, self._stop = threading.Event(), threading.Event()
        self._rng = np.random.default_rng(5)
        path.write_text("time,A,B,C\n")
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while not self._stop.wait(0.1):
            if not self.paused.is_set():
                with self.path.open("a") as file:
                    file.write(self.row())

    def row(self) -> str:
        a, b, c = self._rng.normal(9000, 300, 3)
        now = datetime.now() + self.delay
        return f"{now:%Y-%m-%d %H:%M:%S.%f},{a:.1f},{b:.1f},{c:.1f}\n"

    def rotate(self) -> None:
        self.path.rename(self.path.with_suffix(".1"))
        self.path.write_text("time,A,B,C\n")

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)


class Watching:
    """`fmbench watch` in a process of its own."""

    def __init__(self, *words: str | Path, folder: Path) -> None:
        self.decisions: list[dict[str, Any]] = []
        self.errors = folder / "err.txt"
        self._err = self.errors.open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fmbench", "watch", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=self._err,
            text=True,
            cwd=folder,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.decisions.append(json.loads(line))

    def wait_for(self, found: Callable[[dict[str, Any]], bool], count: int = 1) -> dict[str, Any]:
        """The last of `count` further decisions of a kind."""
        begin, place, left = time.monotonic(), len(self.decisions), count
        while time.monotonic() - begin < PATIENCE:
            for decision in self.decisions[place:]:
                place += 1
                left -= found(decision)
                if not left:
                    return decision
            assert self.process.poll() is None, self.errors.read_text()
            time.sleep(0.02)
        raise AssertionError((self.decisions[-5:], self.errors.read_text()))

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._err.close()


def because(text: str) -> Callable[[dict[str, Any]], bool]:
    return lambda decision: decision["state"] == "NO DECISION" and text in decision["reason"]


def decided(decision: dict[str, Any]) -> bool:
    return decision["state"] in ("OK", "ALARM") and 0 <= decision["score"] <= 1


@pytest.fixture
def camera() -> Iterator[Camera]:
    rng = np.random.default_rng(6)
    camera = Camera(lambda k: picture(k, rng), (TALL, WIDE))
    camera.start()
    yield camera
    camera.stop()


@pytest.fixture
def plc(tmp_path: Path) -> Iterator[Plc]:
    plc = Plc(tmp_path / "plc.csv")
    yield plc
    plc.close()


def events(out: Path) -> list[tuple[str, str | None]]:
    lines = (out / "events.jsonl").read_text().splitlines()
    return [(each["event"], each.get("input")) for each in map(json.loads, lines)]


@pytest.mark.slow
def test_a_camera_and_a_log_fail_and_come_back(camera: Camera, plc: Plc, cross: Path) -> None:
    folder = plc.path.parent
    words = ["--checkpoint", cross, "--video", camera.address, "--current", plc.path, "--roi", ROI]
    words += ["--out", folder / "out", "--every", "0.4"]
    watch = Watching(*words, folder=folder)
    try:
        first = watch.wait_for(decided, 3)
        assert abs(datetime.fromisoformat(first["time"]) - datetime.now()) < timedelta(seconds=30)
        assert first["latency"] >= 0

        camera.stop()
        watch.wait_for(because("video"))
        camera.start()
        watch.wait_for(decided, 2)

        lit = camera.show
        camera.show = lambda k: np.zeros((TALL, WIDE, 3), np.uint8)
        watch.wait_for(because("black"))
        camera.show = lit
        watch.wait_for(decided)

        plc.paused.set()
        watch.wait_for(because("currents missing"))
        plc.paused.clear()
        watch.wait_for(decided)
        plc.rotate()
        watch.wait_for(decided, 4)
        plc.delay = timedelta(seconds=60)
        watch.wait_for(because("clocks apart"))
        before = events(folder / "out")
    finally:
        watch.end()
    assert [each for each in before if each[0].startswith("input")][:2] == [
        ("input lost", "video"),
        ("input back", "video"),
    ]
    assert {("input lost", "camera"), ("input lost", "currents"), ("input lost", "clock")} <= {
        *before
    }

    plc.delay = timedelta(0)  # killed amid a loss, and started again
    plc.rotate()
    watch = Watching(*words, folder=folder)
    try:
        watch.wait_for(decided)
        after = events(folder / "out")
    finally:
        watch.end()
    assert after[: len(before)] == before
    assert ("input back", "clock") in after[len(before) :] or ("input back", "video") in after
