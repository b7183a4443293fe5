"""Failed sensors in real files: what ingest notes, what check and doctor report, and when."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import av
import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from fmbench.data import open_root
from fmbench.data.windows import WindowSpec
from fmbench.health import Failed
from fmbench.prepare.check import check_root
from fmbench.prepare.check_sensors import KINDS
from fmbench.prepare.doctor import examine, page
from fmbench.prepare.faults import Fault, Kind
from fmbench.simulator import Camera, SimConfig, simulate, write_dataset
from recordings import write_mat, write_root
from test_cli import Command, fmbench, refused

__all__ = ["fmbench"]  # a fixture

BEGIN = datetime(2030, 5, 1, 6)
SIDE, SECONDS = 96, 80
SPEC = WindowSpec(frames=2, stride=1, current_samples=4)


def clock(second: float) -> str:
    return (BEGIN + timedelta(seconds=second)).isoformat(" ", timespec="seconds")


def encode(path: Path, pictures: Iterable[NDArray[np.uint8]], rate: int = 25) -> Path:
    """H.264, as cameras write it: little noise is left, and a key picture every 2 s."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=rate)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "28", "g": str(2 * rate), "preset": "veryfast"}
        for picture in pictures:
            packets = stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24"))
            file.mux(packets)
        file.mux(stream.encode())
    return path


@cache
def _rendered() -> NDArray[np.uint8]:
    camera = Camera(simulate(SimConfig(seed=11), 0, SECONDS + 2), size=(SIDE, SIDE))
    shown = camera.frames(np.arange(25 * SECONDS))
    return np.ascontiguousarray(shown.transpose(0, 2, 3, 1))


def pictures(seconds: int = SECONDS, every: int = 1) -> list[NDArray[np.uint8]]:
    return list(_rendered()[: 25 * seconds : every])


def log(path: Path, amperes: NDArray[np.float64]) -> Path:
    rows = [f"{clock(k // 2)},{a:.6g},{b:.6g},{c:.6g}\n" for k, (a, b, c) in enumerate(amperes)]
    path.write_text("time,A,B,C\n" + "".join(rows))
    return path


def amperes(seconds: int = SECONDS) -> NDArray[np.float64]:
    return simulate(SimConfig(seed=11), 0, seconds).currents.copy()


def ingest(fmbench: Command, video: Path, plc: Path, root: Path) -> list[str]:
    """The notes."""
    flags = ["--video", video, "--current", plc, "--start", clock(0), "--out", root]
    done = fmbench("data", "ingest", *flags, "--roi", f"0,0,{SIDE},{SIDE}")
    assert done.status == 0, done.err
    return [line for line in done.out.splitlines() if line.startswith("note: ")]


def test_ingest_notes_failures_of_the_camera_with_their_times(
    tmp_path: Path, fmbench: Command
) -> None:
    shown, rng = pictures(), np.random.default_rng(0)
    grey = np.full((SIDE, SIDE, 3), 128, np.uint8)
    for k in range(10 * 25, 18 * 25):
        shown[k] = 0 * grey
    for k in range(25 * 25, 33 * 25):
        shown[k] = grey
    for k in range(40 * 25, 50 * 25):
        shown[k] = shown[40 * 25]
    for k in range(57 * 25, 64 * 25):  # a flare
        shown[k] = 0 * grey + 255
    for k in range(70 * 25, 78 * 25):
        shown[k] = rng.normal(40, 12, grey.shape).clip(0, 255).astype(np.uint8)
    video = encode(tmp_path / "run.mp4", shown)
    notes = ingest(fmbench, video, log(tmp_path / "plc.csv", amperes()), tmp_path / "root")
    for note, (what, start, stop) in zip(
        notes,
        [
            ("the frames are black (mean 0.", 10, 17),
            ("the frames are uniform, at 128 of 255: no signal", 25, 32),
            ("the picture is frozen: frames repeat", 40, 49),
            ("the frames show noise without structure, at ", 70, 77),
        ],
        strict=True,
    ):
        assert what in note
        assert f", from {clock(start)} to {clock(stop)} ({stop - start + 1} s)" in note
    result = json.loads((tmp_path / "root/unlabelled/sources/run.json").read_text())["remarks"]
    assert [f"note: {remark}" for remark in result] == notes
    found = check_root(tmp_path / "root")
    assert [fault.kind for fault in found] == 4 * [Kind.CAMERA]
    assert [fault.row for fault in found] == [250, 625, 1000, 1750]
    assert all(fault.warning for fault in found)  # nothing of an unlabelled part is trained on
    assert [f"note: {fault.message}" for fault in found] == notes
    result = fmbench("data", "check", tmp_path / "root")
    assert "no faults, 4 warnings" in result.out
    assert "frame 1000: warning: the picture is frozen" in result.out


def test_ingest_notes_failed_phases_with_their_times(tmp_path: Path, fmbench: Command) -> None:
    video = encode(tmp_path / "run.mp4", pictures())
    values = amperes()
    values[20:60, 1] = values[20, 1]
    values[80:110, 0] = 0
    values[120:160, 2] = values[120:160, 0]
    notes = ingest(fmbench, video, log(tmp_path / "plc.csv", values), tmp_path / "root")
    for note, (what, start, stop) in zip(
        notes,
        [
            ("phase 2 is stuck at ", 10, 29),
            ("phase 1 has no current (at most 0 A), others have", 40, 54),
            ("phases 1 and 3 are equal", 60, 79),
        ],
        strict=True,
    ):
        assert what in note
        assert f", from {clock(start)} to {clock(stop)} ({stop - start + 1} s)" in note
    found = check_root(tmp_path / "root")
    assert [(fault.kind, fault.row) for fault in found] == [
        (Kind.PHASE, 22), (Kind.PHASE, 82), (Kind.PHASE, 122),
    ]  # fmt: skip


def test_ingest_tells_kiloamperes_and_a_furnace_that_is_off(
    tmp_path: Path, fmbench: Command
) -> None:
    video = encode(tmp_path / "run.mp4", pictures(20))
    notes = ingest(fmbench, video, log(tmp_path / "k.csv", amperes(20) / 1000), tmp_path / "kilo")
    assert len(notes) == 3
    assert all("It looks like kA; give --unit kA" in note for note in notes)  # of the log
    [fault] = check_root(tmp_path / "kilo")
    assert "the currents look like kiloamperes (median " in fault.message
    assert f"from {clock(0)} to {clock(19)} (all the time)" in fault.message
    assert (fault.kind, fault.warning) == (Kind.AMPERES, False)
    assert fmbench("data", "check", tmp_path / "kilo").status == 1
    [note] = ingest(fmbench, video, log(tmp_path / "o.csv", 0 * amperes(20)), tmp_path / "off")
    assert "no phase has current (below 200 A): the furnace is off" in note
    [fault] = check_root(tmp_path / "off")
    assert (fault.kind, fault.warning) == (Kind.FURNACE_OFF, True)


@pytest.mark.parametrize("rate", [5, 10, 25])
def test_working_sensors_have_no_note_whatever_the_videos_rate(
    tmp_path: Path, fmbench: Command, rate: int
) -> None:
    every = 25 // rate if rate != 10 else 2  # of 25 frames, 12 would be shown; 10 are
    shown = pictures(30, every)[: 25 * rate]
    video = encode(tmp_path / "run.mp4", shown, rate)
    assert ingest(fmbench, video, log(tmp_path / "p.csv", amperes(25)), tmp_path / "root") == []
    assert check_root(tmp_path / "root") == []


# Labelled parts: what is listed counts


def rooted(tmp_path: Path, size: tuple[int, int] = (16, 16)) -> Path:
    """A recording of 30 s of which 10 s, then black frames, are in no list."""
    [written] = write_root(tmp_path, recordings=1, seconds=60, size=size)
    written.frames[500:700] = 0
    part = tmp_path / "pixel-level"
    write_mat(part / "videos" / f"{written.name}.mat", written.frames, written.masks)
    return tmp_path


def listed(root: Path, frames: list[int]) -> list[Fault]:
    for split in ("train", "test"):
        lists = {"furnace-0.mat": frames if split == "train" else [1400]}
        (root / "pixel-level" / f"{split}.json").write_text(json.dumps(lists))
    return [fault for fault in check_root(root, SPEC) if fault.kind is Kind.CAMERA]


@pytest.mark.parametrize(
    ("frames", "harmless"),
    [
        ([400, 499], True),
        ([400, 500], False),
        ([600], False),
        ([700], False),  # its clip holds frame 699
        ([702, 900], True),
    ],
)
def test_a_failure_is_a_fault_where_a_listed_window_holds_it(
    tmp_path: Path, frames: list[int], harmless: bool
) -> None:
    [fault] = listed(rooted(tmp_path), frames)
    assert (fault.row, fault.warning) == (500, harmless)
    assert "the frames are black" in str(fault)
    assert str(fault).endswith(Kind.CAMERA.remedy)


def test_doctor_shows_failed_sensors_on_its_page(tmp_path: Path) -> None:
    root = rooted(tmp_path)
    path = root / "pixel-level/currents/furnace-0.csv"
    lines = path.read_text().splitlines()
    for k in range(21, 81):
        time, first, second, _ = lines[k].split(",")
        lines[k] = f"{time},{first},{second},9000"
    path.write_text("\n".join(lines) + "\n")
    report = examine(root)
    found = {each.what: each for each in report.findings if each.severity == "fault"}
    html = page(report)
    for begin, time in (("The frames are black", "frame 500"), ("Phase 3 is stuck", "line 22")):
        [what] = [each for each in found if each.startswith(begin)]
        assert (found[what].recording, found[what].time) == ("furnace-0", time)
        assert ", from 2023-05-10 21:33:" in what
        assert what in html
        assert found[what].todo in html


def test_a_single_file_of_the_older_layout_is_looked_at(tmp_path: Path) -> None:
    run = simulate(SimConfig(seed=11), 0, 30)
    frames = Camera(run).frames(np.arange(len(run)))
    frames[250:500] = 0
    current = run.currents.repeat(13, axis=0)[: len(run)]
    current[:, 1] = 9000
    with h5py.File(tmp_path / "old.mat", "w") as file:
        file["video"] = frames.swapaxes(2, 3)
        file["current"] = current
        file["label"] = np.zeros((len(run), 1, 1))
        file["train_test_index"] = np.zeros((len(run), 1))
    found = check_root(tmp_path)
    assert [fault.kind for fault in found] == [Kind.PHASE, Kind.CAMERA]
    assert "phase 2 is stuck at 9000 A, from 0:00:00 to 0:00:2" in found[0].message
    assert "black (mean 0.0 of 255), from 0:00:10 to 0:00:19 (10 s)" in found[1].message


def test_rendered_recordings_are_checked_for_their_currents_only(tmp_path: Path) -> None:
    write_dataset(tmp_path / "root", preset="tiny", seed=1, lazy=True)
    assert [fault for fault in check_root(tmp_path / "root") if not fault.warning] == []
    path = next((tmp_path / "root/pixel-level/currents").glob("*.csv"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{line[:19]},0,0,0" for line in lines[1:])]) + "\n")
    kinds = [fault.kind for fault in check_root(tmp_path / "root")]
    assert Kind.FURNACE_OFF in kinds
    assert Kind.CAMERA not in kinds


def test_every_failure_of_a_phase_has_a_kind_of_fault() -> None:
    camera = {Failed.BLACK, Failed.UNIFORM, Failed.CAPPED, Failed.SATURATED, Failed.FROZEN}
    assert KINDS.keys() | camera | {Failed.NOT_FINITE} == set(Failed)


# Frames that MATLAB's im2double has written


@pytest.mark.parametrize("chunked", [False, True])
def test_frames_of_0_to_1_are_refused_where_they_are_read(
    tmp_path: Path, fmbench: Command, chunked: bool
) -> None:
    [written] = write_root(tmp_path / "root", recordings=1, seconds=30, size=(16, 16))
    path = tmp_path / "root/pixel-level/videos/furnace-0.mat"
    write_mat(path, written.frames / 255, written.masks, chunked=chunked)
    result = fmbench("data", "check", tmp_path / "root")
    assert result.status == 1
    assert "'data' holds numbers from 0 to " in result.out
    assert "which would be read as black; write grey levels from 0 to 255" in result.out
    with pytest.raises(ValueError, match="which would be read as black"):
        open_root(tmp_path / "root")
    flags = ["--model", "fmformer", "--modality", "visual", "--config", "smoke"]
    refused(fmbench("fit", *flags, "--data.root", tmp_path / "root"), "im2uint8")
    write_mat(path, written.frames.astype(np.float64), written.masks, chunked=chunked)
    assert open_root(tmp_path / "root").recordings[0].num_frames == len(written.frames)
