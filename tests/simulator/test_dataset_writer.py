"""Simulated data sets on disk: the format, lazy = written, splits, and a killed writer."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from fmbench.data import FurnaceData
from fmbench.data.recording import upright_frames, upright_masks
from fmbench.simulator import (
    FURNACE_BOX,
    PRESETS,
    Camera,
    LazyRecording,
    SimConfig,
    is_lazy,
    open_lazy,
    read_tags,
    simulate,
    write_dataset,
    write_video,
)
from fmbench.simulator.partition import GUARD, official_ranges, strict_ranges
from recordings import write_root

SEED = 10_000


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("sim") / "written"
    write_dataset(root, preset="tiny", seed=SEED)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sim") / "lazy"
    write_dataset(root, preset="tiny", seed=SEED, lazy=True)
    return root


def names(root: Path) -> list[str]:
    return list(json.loads((root / "manifest.json").read_text())["recordings"]["pixel-level"])


def test_files_have_the_names_shapes_and_axes_of_the_benchmark(written: Path) -> None:
    part = written / "pixel-level"
    lists = {kind: json.loads((part / f"{kind}.json").read_text()) for kind in ("train", "test")}
    assert len(lists["train"]) == len(lists["test"]) == 1
    for name in names(written):
        assert name.startswith("SIM-")
        assert "." not in name
        times = pd.read_csv(part / "timestamps" / f"{name}.csv").iloc[:, 0]
        currents = pd.read_csv(part / "currents" / f"{name}.csv")
        with h5py.File(part / "videos" / f"{name}.mat") as file:
            data, label = file["data"], file["label"]
            assert data.shape == (len(times), 3, 64, 64)
            assert label.shape == (len(times), 64, 64)
            assert data.dtype == label.dtype == np.uint8
            assert data.chunks is None
            assert label.chunks == (25, 64, 64)
            assert set(np.unique(label[::50])) == {0, 1}
            assert file.attrs["synthetic"] == 1
        assert list(currents.columns) == ["time", "A", "B", "C"]
        pairs = currents["time"].to_numpy().reshape(-1, 2)
        assert len(pairs) == 300
        assert (pairs[:, 0] == pairs[:, 1]).all()
        assert set(times) <= set(pairs[:, 0])
        assert set(times.value_counts()) == {24, 25, 26}
        kind = "train" if f"{name}.mat" in lists["train"] else "test"
        assert lists[kind][f"{name}.mat"] == list(range(len(times)))


def test_written_files_hold_what_the_camera_sees_with_w_before_h(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    for name, entry in manifest["recordings"]["pixel-level"].items():
        run = simulate(SimConfig(seed=SEED), entry["recording"], 300, start=entry["start"])
        camera = Camera(run)
        index = np.arange(0, len(camera), 97)
        with h5py.File(written / "pixel-level" / "videos" / f"{name}.mat") as file:
            data, label = file["data"][::97], file["label"][::97]
        assert np.array_equal(data, camera.frames(index).transpose(0, 1, 3, 2))
        assert np.array_equal(label, camera.masks(index).transpose(0, 2, 1))
        rows = pd.read_csv(written / "pixel-level" / "currents" / f"{name}.csv")
        assert np.allclose(rows[["A", "B", "C"]], run.currents, rtol=5e-6)
    # the flame burns on top of the picture: rows, not columns, are the second-last axis of ours
    frames = camera.frames(index, noise=False).astype(float)
    assert frames[:, 0, :6].mean() > frames[:, 0, -6:].mean()


def test_lazy_frames_masks_and_labels_equal_the_written_ones(written: Path, lazy: Path) -> None:
    assert is_lazy(lazy / "pixel-level")
    assert not is_lazy(written / "pixel-level")
    assert not (lazy / "pixel-level" / "videos").exists()
    assert names(lazy) == names(written)
    for name in names(lazy):
        recording = open_lazy(lazy / "pixel-level", name)
        index = np.arange(0, recording.num_frames, 53)
        with h5py.File(written / "pixel-level" / "videos" / f"{name}.mat") as file:
            assert len(file["data"]) == recording.num_frames
            frames, masks = upright_frames(recording, index), upright_masks(recording, index)
            assert np.array_equal(file["data"][::53].swapaxes(2, 3), frames)
            assert np.array_equal(file["label"][::53].swapaxes(1, 2), masks)
            assert np.array_equal(file["label"][:].any((1, 2)), labels_of(recording))
        for kind in ("currents", "timestamps"):
            same = [
                (root / "pixel-level" / kind / f"{name}.csv").read_bytes()
                for root in (lazy, written)
            ]
            assert same[0] == same[1]


def labels_of(recording: LazyRecording) -> np.ndarray:
    return recording.labels(np.arange(recording.num_frames))


def _sums(recording: LazyRecording) -> list[int]:
    return [int(upright_frames(recording, np.array([i])).sum()) for i in (5, 100, 7000)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_lazy_recording_is_the_same_in_another_process(lazy: Path, method: str) -> None:
    recording = open_lazy(lazy / "pixel-level", names(lazy)[0])
    want = _sums(recording)
    assert len(pickle.dumps(recording)) < 1000
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.map(_sums, [recording]) == [want]


def test_the_manifest_says_synthetic_and_its_checksums_hold(written: Path) -> None:
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["synthetic"] is True
    assert (manifest["sim_version"], manifest["seed"], manifest["preset"]) == (2, SEED, "tiny")
    assert SimConfig.from_dict(manifest["config"]) == SimConfig(seed=SEED)
    found = {str(p.relative_to(written)) for p in written.rglob("*") if p.is_file()}
    assert found - {"manifest.json"} == set(manifest["files"])
    for path, digest in manifest["files"].items():
        assert hashlib.sha256((written / path).read_bytes()).hexdigest() == digest


def test_a_root_of_version_1_opens_and_says_so(tmp_path: Path) -> None:
    root = tmp_path / "old"
    write_dataset(root, preset="tiny", seed=SEED, version=1, lazy=True)
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["sim_version"] == manifest["config"]["sim_version"] == 1
    del manifest["config"]["process"]["hold"], manifest["config"]["scene"]["glare"]
    (root / "manifest.json").write_text(json.dumps(manifest))  # as fmbench with version 1 wrote it
    assert "simulator v1" in FurnaceData(root=root).description
    name, entry = next(iter(manifest["recordings"]["pixel-level"].items()))
    run = simulate(
        SimConfig.of_version(1, SEED),
        entry["recording"],
        entry["seconds"],
        start=entry["start"],
        frames=entry["exactly"],
    )
    opened = open_lazy(root / "pixel-level", name)
    frames = np.empty((2, 3, 64, 64), np.uint8)
    opened.read_frames(np.array([5, 3000]), frames)
    assert np.array_equal(frames, Camera(run).frames(np.array([5, 3000])))


def test_the_sidecar_holds_tags_latent_state_and_key_frames(written: Path) -> None:
    for name in names(written):
        with h5py.File(written / "sidecar" / f"{name}.h5") as file:
            count = len(file["tags"])
            assert len(file["drive"]) == len(file["temperature"]) == count
            assert 0 <= file["drive"][:].min() <= file["drive"][:].max() <= 1
            events = json.loads(file["events"][()])
        keys = json.loads((written / "sidecar" / f"{name}.keyframes.json").read_text())
        assert [k["onset"] for k in keys] == [e["onset"] for e in events if e["onset"] >= 0]
        with h5py.File(written / "pixel-level" / "videos" / f"{name}.mat") as file:
            for event in keys:
                assert file["label"][event["onset"]].any()
                assert file["label"][event["offset"]].any()


def test_tags_are_the_same_from_the_sidecar_and_from_a_lazy_root(written: Path, lazy: Path) -> None:
    for name in names(written):
        stored = read_tags(written / "pixel-level", name)
        with h5py.File(written / "sidecar" / f"{name}.h5") as file:
            assert np.array_equal(stored, file["tags"])
        assert np.array_equal(stored, read_tags(lazy / "pixel-level", name))
        assert stored.any()


def test_recordings_that_nobody_simulated_have_no_tags(tmp_path: Path) -> None:
    write_root(tmp_path, recordings=1, seconds=10, size=(16, 16))
    assert read_tags(tmp_path / "pixel-level", "furnace-0") is None


def test_position_and_layout_do_not_betray_the_label(written: Path) -> None:
    x, y = [], []
    for name in names(written):
        path = written / "pixel-level" / "videos" / f"{name}.mat"
        with h5py.File(path) as file:
            label = file["label"][:].any((1, 2))
            constant = [path.stat().st_size, file["data"].id.get_offset(), len(name)]
        index = np.arange(len(label))
        x.append(
            np.column_stack([index % 2, index % 25, *(np.full(len(label), c) for c in constant)])
        )
        y.append(label)
    model = HistGradientBoostingClassifier(max_iter=30).fit(x[0], y[0])
    majority = max(y[1].mean(), 1 - y[1].mean())
    assert model.score(x[1], y[1]) < majority + 0.02


def test_progress_counts_frames_up_to_all_of_them(tmp_path: Path) -> None:
    calls: list[tuple[int, int, str]] = []
    write_dataset(
        tmp_path / "d", preset="tiny", lazy=True, progress=lambda *call: calls.append(call)
    )
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1] > 14_000


def test_overrides_reach_the_files(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", preset="tiny", lazy=True, overrides={"process.beta": 0})
    root = tmp_path / "d"
    recording = open_lazy(root / "pixel-level", names(root)[0])
    assert recording.run.config.process.beta == 0
    with pytest.raises(ValueError, match=r"did you mean 'scene\.noise'"):
        write_dataset(tmp_path / "e", preset="tiny", overrides={"scene.nois": 0})
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "smal"}, "did you mean 'small'"),
        ({"split": "oficial"}, "did you mean 'official'"),
        ({"preset": "tiny", "split": "strict"}, "at least 840"),
        ({"preset": "wide", "class_level": True}, "no class-level part"),
        ({"preset": "tiny", "seed": -1}, "seed is -1"),
    ],
)
def test_a_wrong_request_leaves_nothing_behind(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "d", lazy=arguments.get("preset") != "wide", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_root_is_refused_and_left_alone(lazy: Path, tmp_path: Path) -> None:
    before = (lazy / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="already exists and is not empty"):
        write_dataset(lazy, preset="tiny", seed=1, lazy=True)
    assert (lazy / "manifest.json").read_bytes() == before
    (tmp_path / "empty").mkdir()
    write_dataset(tmp_path / "empty", preset="tiny", lazy=True)
    assert (tmp_path / "empty" / "manifest.json").exists()


def test_a_killed_writer_leaves_no_root_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    root = tmp_path / "data"
    code = (
        "import sys; from pathlib import Path; from fmbench.simulator import write_dataset;"
        "write_dataset(Path(sys.argv[1]), preset='small')"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(root)])
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".data.*.partial/pixel-level/videos/*.mat")):
            assert time.monotonic() < deadline
            assert writer.poll() is None
            time.sleep(0.02)
        assert not root.exists()
        # a second writer, while the first is alive, leaves the first one's folder alone
        write_dataset(tmp_path / "other", preset="tiny", lazy=True)
        assert len(list(tmp_path.glob(".data.*.partial"))) == 1
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    assert not root.exists()
    assert len(list(tmp_path.glob(".data.*.partial"))) == 1
    write_dataset(root, preset="tiny", lazy=True)
    assert list(tmp_path.glob(".*.partial")) == []
    assert is_lazy(root / "pixel-level")


def test_writers_that_start_together_leave_one_whole_root(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fmbench.simulator import write_dataset;"
        "write_dataset(Path(sys.argv[1]), preset='tiny', lazy=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "d[1]")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    errors = [writer.communicate(timeout=60)[1] for writer in writers]
    assert [writer.returncode for writer in writers].count(0) == 1
    assert all("ValueError" in error for error in errors if error)
    assert [path.name for path in tmp_path.iterdir()] == ["d[1]"]
    assert is_lazy(tmp_path / "d[1]" / "pixel-level")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot make .*file/d"):
        write_dataset(tmp_path / "file" / "d", preset="tiny", lazy=True)


def test_an_interrupted_writer_removes_its_folder(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "d", preset="tiny", lazy=True, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_open_lazy_says_what_is_wrong(lazy: Path, written: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a lazy simulated root"):
        open_lazy(written / "pixel-level", names(written)[0])
    with pytest.raises(ValueError, match="did you mean 'SIM-"):
        open_lazy(lazy / "pixel-level", names(lazy)[0] + "x")
    assert not is_lazy(tmp_path / "pixel-level")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match="not a simulator's manifest"):
        is_lazy(tmp_path / "pixel-level")


@pytest.mark.slow
def test_the_class_level_part_keeps_the_class_without_the_mask(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", preset="tiny", class_level=True, overrides={"process.sub": 0})
    root = tmp_path / "d"
    manifest = json.loads((root / "manifest.json").read_text())
    numbers = [
        {e["recording"] for e in manifest["recordings"][part].values()}
        for part in ("pixel-level", "class-level")
    ]
    assert not numbers[0] & numbers[1]
    for path in (root / "class-level" / "videos").iterdir():
        with h5py.File(path) as file:
            assert file["label"].shape == (len(file["data"]), 1, 1)
            assert 0.2 < file["label"][:].mean() < 0.8
    shutil.rmtree(root)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_official_split_has_the_counts_of_the_release(place: int) -> None:
    plan = PRESETS["paper"]
    run = simulate(SimConfig(), place, plan.seconds[place], frames=plan.frames[place])
    parts = official_ranges(run, place)
    counts = (len(run), len(parts["train"]), len(parts["test"]))
    assert (
        counts
        == [
            (31_826, 20_826, 10_000),
            (89_937, 73_437, 15_000),
            (148_158, 120_658, 25_000),
        ][place]
    )
    assert parts["test"][0] - parts["train"][-1] - 1 == len(parts["test"]) // 10


@pytest.mark.parametrize("recording", range(6))
def test_the_strict_split_keeps_guards_and_cuts_no_event_in_two(recording: int) -> None:
    run = simulate(SimConfig(seed=SEED), recording, 3600, start=300)
    parts = list(strict_ranges(run).values())
    labels = Camera(run).labels(np.arange(len(run)))
    seconds = run.frame_times
    for before, after in pairwise(parts):
        assert seconds[after[0]] - seconds[before[-1]] >= GUARD
        assert not labels[before[-1] : after[0] + 1].all()
        for event in run.events:
            inside = [
                ((seconds[p] > event.start) & (seconds[p] < event.end)).any()
                for p in (before, after)
            ]
            assert not all(inside)
    assert min(map(len, parts)) > 25 * 30


@pytest.mark.slow
@pytest.mark.full
def test_wide_is_made_within_a_minute_and_shares_no_recording_between_parts(
    tmp_path: Path,
) -> None:
    begin = time.perf_counter()
    root = tmp_path / "wide"
    write_dataset(root, preset="wide")
    assert time.perf_counter() - begin < 60
    entries = json.loads((root / "manifest.json").read_text())["recordings"]["pixel-level"]
    lists = {
        kind: json.loads((root / "pixel-level" / f"{kind}.json").read_text())
        for kind in ("train", "val", "test")
    }
    assert {kind: len(found) for kind, found in lists.items()} == {
        "train": 240,
        "val": 40,
        "test": 120,
    }
    assert len({e["recording"] for e in entries.values()}) == 400
    assert len(entries) == len(set().union(*lists.values())) == 400
    opened = [open_lazy(root / "pixel-level", name) for name in list(entries)[::8]]
    shares = [labels_of(recording).mean() for recording in opened]
    assert 0.42 < np.mean(shares) < 0.58


def test_a_raw_video_shows_the_furnace_where_the_box_says(tmp_path: Path) -> None:
    run = simulate(SimConfig(seed=SEED), 0, 4, start=330)
    write_video(tmp_path / "raw.mp4", run)
    capture = cv2.VideoCapture(str(tmp_path / "raw.mp4"))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][:, :, ::-1])
    capture.release()
    assert len(frames) == len(run)
    top, left, height, width = (
        round(f * s) for f, s in zip(FURNACE_BOX, (360, 640) * 2, strict=True)
    )
    direct = Camera(run).frames(np.arange(len(run)), noise=False).transpose(0, 2, 3, 1)
    errors = []
    for frame, true in zip(frames, direct, strict=True):
        crop = frame[top : top + height, left : left + width]
        small = cv2.resize(crop, (64, 64), interpolation=cv2.INTER_AREA)
        errors.append(((small[16:60, 10:54].astype(float) - true[16:60, 10:54]) ** 2).mean())
    assert 10 * np.log10(255**2 / np.mean(errors)) > 28
    with pytest.raises(ValueError, match="16:9"):
        write_video(tmp_path / "b.mp4", run, size=(64, 64))
