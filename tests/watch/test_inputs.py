"""What a watch says of inputs that fail, and where its inputs may come from."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest

from furnace import ROI, Said, amperes, write_log, write_video, wrong
from test_cli import Command, fmbench
from test_ingest import stamp

__all__ = ["fmbench"]  # a fixture


def watched(fmbench: Command, checkpoint: Path, video: Path, *words: str | Path) -> Said:
    done = fmbench("watch", "--checkpoint", checkpoint, "--video", video, "--roi", ROI,
                   "--speed", "max", "--start", stamp(0), *words)  # fmt: skip
    assert done.status == 0, done.err
    return Said.of(done.out)


def lost(said: Said, text: str) -> list[int]:
    """Seconds of the decisions that could not be made, for this reason only."""
    found = [k for k, reason in enumerate(said.reasons()) if reason]
    assert all(text in said.reasons()[k] for k in found), said.reasons()
    assert all(said.decisions[k]["score"] is None for k in found)
    return found


def test_missing_and_black_pictures_are_no_decisions(
    fmbench: Command, visual: Path, tmp_path: Path
) -> None:
    write_video(tmp_path / "run.mp4", 25 * 14, missing=range(55, 115), dark=range(160, 265))
    said = watched(fmbench, visual, tmp_path / "run.mp4")
    assert len(said.decisions) == 14
    assert [k for k, each in enumerate(said.reasons()) if "stalled" in each] == [2, 3]
    assert "pictures are missing" in said.reasons()[4]  # the clip of frame 124 begins at 109
    black = [k for k, each in enumerate(said.reasons()) if "black" in each]
    assert black == [7, 8, 9, 10]  # within 2 s of frame 160, and its last clip
    assert lost(said, "") == [2, 3, 4, *black]


def test_a_frozen_picture_is_no_decision(fmbench: Command, visual: Path, tmp_path: Path) -> None:
    moving, frozen = tmp_path / "moving.mp4", tmp_path / "cam"
    frozen.mkdir()
    write_video(moving, 25 * 4)
    with av.open(str(moving)) as source:
        shown = next(source.decode(video=0)).to_ndarray(format="rgb24")
    with av.open(str(frozen / "a.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "4"})
        stream.height, stream.width = shown.shape[:2]
        for _ in range(25 * 9):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        out.mux(stream.encode())
    shutil.copy(moving, frozen / "b.mp4")
    said = watched(fmbench, visual, frozen)
    assert lost(said, "frozen") == [4, 5, 6, 7, 8, 9]  # and the second after it


@pytest.mark.slow
def test_currents_that_are_missing_or_impossible_are_no_decisions(
    fmbench: Command, cross: Path, video: Path, tmp_path: Path
) -> None:
    values = amperes(26, 10)
    log = write_log(tmp_path, values, 10)
    lines = log.read_text().splitlines(keepends=True)
    cut = [line for k, line in enumerate(lines) if not 61 <= k < 91]  # from 4 to 7 s
    log.write_text("".join(cut))
    said = watched(fmbench, cross, video, "--current", log)
    assert lost(said, "currents missing") == [4, 5, 6]
    log.write_text("".join(lines[:72]))  # ends at 5 s
    said = watched(fmbench, cross, video, "--current", log)
    assert lost(said, "currents") == [5, 6, 7, 8, 9]
    values[61:91, 1] = 70_000
    said = watched(fmbench, cross, video, "--current", write_log(tmp_path, values, 10))
    assert set(lost(said, "phase")) >= {4, 5, 6}
    values[:] = amperes(26, 10)
    values[20:, 2] = 9000.0  # is stuck from the video's begin on, found after 15 s
    write_video(tmp_path / "long.mp4", 25 * 17)
    log = write_log(tmp_path, values, 10)
    said = watched(fmbench, cross, tmp_path / "long.mp4", "--current", log)
    assert lost(said, "stuck") == [14, 15, 16]


@pytest.mark.parametrize("form", [pytest.param("csv", marks=pytest.mark.full), "json"])
def test_a_log_may_come_by_standard_input(
    fmbench: Command,
    cross: Path,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
) -> None:
    log = write_log(tmp_path, amperes(26, 2), 2)
    expected = watched(fmbench, cross, video, "--current", log).scores
    text = log.read_text()
    if form == "json":
        head, *rows = (line.split(",") for line in text.splitlines())
        found = [[row[0], *map(float, row[1:])] for row in rows]
        text = "".join(json.dumps(dict(zip(head, row, strict=True))) + "\n" for row in found)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert watched(fmbench, cross, video, "--current", "-").scores == expected
    assert len(expected) == 10


@pytest.mark.slow
def test_a_file_that_grows_and_a_folder_that_gets_segments(
    fmbench: Command, visual: Path, tmp_path: Path
) -> None:
    """Live, with --start: frames that come late are judged as those of the whole file, unless a
    second has passed without a picture."""
    write_video(tmp_path / "whole.ts", 25 * 8)
    expected = watched(fmbench, visual, tmp_path / "whole.ts").scores
    data = (tmp_path / "whole.ts").read_bytes()
    growing = tmp_path / "growing.ts"
    growing.write_bytes(data[: len(data) // 2])

    def grow() -> None:
        time.sleep(2)
        with growing.open("ab") as file:
            file.write(data[len(data) // 2 :])

    writer = threading.Thread(target=grow)
    writer.start()
    done = fmbench("watch", "--checkpoint", visual, "--video", growing, "--roi", ROI, "--start",
                   stamp(0), "--give_up", "6", "--every", "1")  # fmt: skip
    writer.join()
    assert done.status == 1, done.err
    assert "the video has given nothing for" in done.err
    scores = Said.of(done.out).scores
    assert {24, 149} <= set(scores) <= set(expected)
    assert len(scores) >= 5
    for frame, score in scores.items():
        assert score == pytest.approx(expected[frame], abs=1e-5)


def test_a_camera_that_never_answers_is_named_again_and_again(
    fmbench: Command, visual: Path
) -> None:
    done = fmbench("watch", "--checkpoint", visual, "--video", "rtsp://127.0.0.1:9/none",
                   "--give_up", "4")  # fmt: skip
    assert done.status == 1
    assert "Connection refused; next attempt in 1 s" in done.err
    assert "next attempt in 2 s" in done.err
    said = Said.of(done.out)
    assert len(said.decisions) >= 2
    assert all(each["state"] == "NO DECISION" for each in said.decisions)
    assert "Connection refused" in said.reasons()[-1]


def test_alarms_are_recorded_reported_and_bounded(
    fmbench: Command, always: Path, video: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for name in ("alarm-20300430T060000.png", "alarm-20300430T060000.mp4"):
        out.mkdir(exist_ok=True)
        (out / name).write_text("older")
    script = f"import sys; open({str(tmp_path / 'event.json')!r}, 'a').write(sys.stdin.read())"
    command = f'{sys.executable} -c "{script}" ; && $(touch {tmp_path}/injected)'
    said = watched(fmbench, always, video, "--out", out, "--on_alarm", command, "--keep", "1")
    assert [each["state"] for each in said.decisions] == ["ALARM"] * 10
    assert json.loads((tmp_path / "event.json").read_text())["event"] == "alarm begins"
    assert not (tmp_path / "injected").exists()
    assert sorted(path.name for path in out.iterdir()) == [
        "alarm-20300501T060001.mp4", "alarm-20300501T060001.png", "events.jsonl", "state.json"
    ]  # fmt: skip
    with av.open(str(out / "alarm-20300501T060001.mp4")) as clip:
        shown = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    assert 20 <= len(shown) <= 40  # 6 s, 5 a second
    assert shown[0].shape == (96, 128, 3)
    assert np.ptp(shown[0]) > 100
    # Started again, the alarm goes on: it does not begin a second time.
    watched(fmbench, always, video, "--out", out)
    begun = (out / "events.jsonl").read_text().count("alarm begins")
    assert begun == 1


def test_a_command_that_fails_and_a_full_disk_stop_nothing(
    fmbench: Command, always: Path, video: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "events.jsonl").symlink_to("/dev/full")
    done = fmbench("watch", "--checkpoint", always, "--video", video, "--roi", ROI, "--speed",
                   "max", "--start", stamp(0), "--out", out, "--on_alarm",
                   f"{sys.executable} -c 'raise SystemExit(3)'")  # fmt: skip
    assert done.status == 0
    assert len(Said.of(done.out).decisions) == 10
    assert done.err.count("No space left on device") == 1
    assert "--on_alarm: status 3" in done.err
    wrong(fmbench("watch", "--checkpoint", always, "--video", video, "--speed", "max", "--start",
                  stamp(0), "--on_alarm", "no-such-command"), "no such command")  # fmt: skip


def test_a_reader_of_the_decisions_that_has_gone_stops_nothing(
    fmbench: Command, visual: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        done = fmbench("watch", "--checkpoint", visual, "--video", video, "--roi", ROI, "--speed",
                       "max", "--start", stamp(0))  # fmt: skip
        monkeypatch.undo()
        assert done.status == 0
        assert "standard output cannot be written" in done.err
