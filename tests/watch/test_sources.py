"""Live sources: a folder that gets segments while it is watched, an address of HTTP, and a command
that hangs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fmbench.watch import record
from fmbench.watch.events import Messages
from fmbench.watch.record import Command as OnAlarm
from furnace import ROI, Said, write_video
from test_cli import Command, fmbench
from test_ingest import stamp
from test_inputs import watched

__all__ = ["fmbench"]  # a fixture


@pytest.mark.slow
def test_segments_that_come_while_they_are_watched_are_one_recording(
    fmbench: Command, visual: Path, tmp_path: Path
) -> None:
    """Each segment is written in parts, as a recorder does, and begins where the last one ends."""
    names = ("cam_20300501_060000.ts", "cam_20300501_060004.ts", "cam_20300501_060008.ts")
    whole, folder = tmp_path / "whole", tmp_path / "cam"
    for each in (whole, folder):
        each.mkdir()
    for name in names:
        write_video(whole / name, 25 * 4)
    expected = watched(fmbench, visual, whole).scores
    assert len(expected) == 12

    def grow() -> None:
        for name in names:
            data = (whole / name).read_bytes()
            for part in (data[: len(data) // 2], data[len(data) // 2 :]):
                with (folder / name).open("ab") as file:
                    file.write(part)
                time.sleep(0.3)

    writer = threading.Thread(target=grow)
    writer.start()
    done = fmbench("watch", "--checkpoint", visual, "--video", folder, "--roi", ROI, "--start",
                   stamp(0), "--give_up", "4", "--every", "1")  # fmt: skip
    writer.join()
    assert done.status == 1, done.err
    assert "the video has given nothing for" in done.err
    for name in names:
        assert f"video: {name}, 128 x 96" in done.err
    scores = Said.of(done.out).scores
    assert {24, 124, 224} <= set(scores) <= set(expected)  # of each segment
    for frame, score in scores.items():
        assert score == pytest.approx(expected[frame], abs=1e-5)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A .ts of 8 s at an address of HTTP, sent once, at the speed at which it was filmed."""
    write_video(tmp_path / "furnace.ts", 25 * 8)
    sent = threading.Event()

    class Slow(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if sent.is_set():
                self.send_error(404)
            else:
                super().do_GET()

        def copyfile(self, source: object, outputfile: object) -> None:
            sent.set()
            data = (tmp_path / "furnace.ts").read_bytes()
            try:
                for part in np.array_split(np.frombuffer(data, np.uint8), 80):
                    self.wfile.write(part.tobytes())
                    time.sleep(0.1)
            except OSError:
                pass  # the watch has gone

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(tmp_path)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/furnace.ts"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.mark.slow
def test_a_stream_by_http_is_watched_and_asked_for_again_at_its_end(
    fmbench: Command, visual: Path, address: str
) -> None:
    done = fmbench("watch", "--checkpoint", visual, "--video", address, "--roi", ROI, "--every",
                   "0.4", "--give_up", "3")  # fmt: skip
    said = Said.of(done.out)
    decided = [each for each in said.decisions if each["state"] != "NO DECISION"]
    assert len(decided) >= 8
    assert all(0 <= each["score"] <= 1 for each in decided)
    assert "the stream has ended; next attempt in 1 s" in done.err
    assert "404 Not Found; next attempt in 2 s" in done.err
    assert done.status == 1


def test_a_command_that_hangs_is_ended_and_no_more_than_a_few_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(record, "LONGEST", 0.5)
    script = "import os, time; open(str(os.getpid()), 'w').close(); time.sleep(600)"
    monkeypatch.chdir(tmp_path)
    command = OnAlarm(f'{sys.executable} -c "{script}"', Messages())
    for _ in range(record.AT_ONCE + 1):
        command.event({"event": "alarm begins", "time": "2030-05-01 06:00:00"})
    command.close()
    said = capsys.readouterr().err
    assert said.count("--on_alarm: 4 commands still run; it is not run for this event") == 1
    assert said.count("--on_alarm: ended after 0.5 s") == record.AT_ONCE
    for path in tmp_path.iterdir():
        assert not Path("/proc", path.name).exists()  # killed, and waited for
