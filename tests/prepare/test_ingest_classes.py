"""A log's column of states becomes the class of each frame."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import av
import h5py
import numpy as np
import pandas as pd
import pytest

from fmbench.data import FurnaceData, open_root
from fmbench.prepare.check import check_root
from fmbench.prepare.select import select, write_lists
from test_cli import Command, fmbench, refused
from test_ingest import stamp
from three_classes import CLASSES, write_classes

__all__ = ["fmbench"]  # a fixture

STATES = [(0, "normal"), (4.3, "crack"), (7, "normal"), (9.75, "burn-through"), (13, "")]
SECONDS = 16


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen seconds of H.264."""
    path = tmp_path_factory.mktemp("video") / "run.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        for _ in range(25 * SECONDS):
            picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def log(folder: Path, states: list[tuple[float, str]], step: float = 0.25) -> Path:
    """A row every quarter of a second, at times of its own: 0.05, 0.30, …"""
    rows, rng = [], np.random.default_rng(1)
    for k in range(-4, int(SECONDS / step) + 8):
        at = 0.05 + k * step
        state = states[max(0, bisect_right([begin for begin, _ in states], at) - 1)][1]
        a, b, c = rng.normal(9000, 300, 3)
        rows.append(f"{stamp(at)};{a:.1f};{b:.1f};{state};{c:.1f}")
    path = folder / "plc.csv"
    path.write_text("when;Ia;Ib;state;Ic\n" + "\n".join(rows) + "\n")
    return path


def ingest(fmbench: Command, root: Path, video: Path, plc: Path, *more: str) -> object:
    flags = ["data", "ingest", "--video", video, "--current", plc, "--start", stamp(0)]
    return fmbench(*flags, "--roi", "0,0,64,64", "--out", root, "--size", "16", *more)


def test_a_frame_has_the_class_of_the_last_row_at_or_before_it(
    fmbench: Command, tmp_path: Path, video: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_classes(root, CLASSES)
    plc = log(tmp_path, STATES)
    done = ingest(fmbench, root, video, plc, "--label_column", "state", "--offset", "0.5")
    assert done.status == 0, done.err
    assert "class-level/videos/run.mat: " in done.out
    assert not (root / "unlabelled").exists()
    with h5py.File(root / "class-level" / "videos" / "run.mat") as file:
        labels, count = file["label"][:], len(file["data"])
    assert labels.shape == (count, 1, 1)

    rows = pd.read_csv(plc, sep=";", keep_default_na=False)  # a slow loop over the log itself
    begin = pd.Timestamp(stamp(0))
    times = [(pd.Timestamp(when) - begin).total_seconds() for when in rows["when"]]
    first = pd.read_csv(root / "class-level" / "timestamps" / "run.csv")["time"].iloc[0]
    first_second = (pd.Timestamp(first) - begin).total_seconds()
    expected = []
    for k in range(count):
        instant, state = first_second + k / 25, None
        for time, name in zip(times, rows["state"], strict=True):
            if time <= instant + 1e-6 and name:
                state = name
        expected.append(CLASSES.index(state))
    assert labels[:, 0, 0].tolist() == expected
    assert set(expected) == {0, 1, 2}
    currents = pd.read_csv(root / "class-level" / "currents" / "run.csv")
    assert currents.shape[1] == 4  # the time and three phases: the states are no current


def test_labelled_recordings_are_checked_selected_and_read(
    fmbench: Command, tmp_path: Path, video: Path
) -> None:
    write_classes(tmp_path, CLASSES)
    for name in ("a", "b", "c"):
        plc = log(tmp_path, STATES)
        done = ingest(fmbench, tmp_path, video, plc, "--label_column", "state", "--name", name)
        assert done.status == 0, done.err
    root = open_root(tmp_path, "class-level")
    found = select(root, by="recording", guard_seconds=1)
    assert not [note for note in found.notes if "HAS NO FRAME" in note]
    write_lists(root.folder, found)
    assert not [fault for fault in check_root(tmp_path) if not fault.warning]
    data = FurnaceData(root=tmp_path, part="class-level", frames=2, current_samples=8)
    assert data.problem(False).num_classes == 3
    assert set(data.dataset("train").label.tolist()) == {0, 1, 2}


def test_without_root_yaml_the_states_are_normal_and_abnormal(
    fmbench: Command, tmp_path: Path, video: Path
) -> None:
    plc = log(tmp_path, [(0, "normal"), (6, "abnormal")])
    done = ingest(fmbench, tmp_path, video, plc, "--label_column", "state")
    assert done.status == 0, done.err
    [recording] = open_root(tmp_path, "class-level").recordings
    labels = recording.labels(np.arange(recording.num_frames))
    assert np.flatnonzero(np.diff(labels)).tolist() == [151]  # 6.05 s is the first such row


@pytest.mark.parametrize(
    ("states", "column", "said"),
    [
        ([(0, "normal"), (5, "crak")], "state", "'crak' in the column 'state' is no class"),
        ([(0, "normal"), (5, "crak")], "state", "Allowed: normal, crack, burn-through"),
        (STATES, "stat", "no column 'stat'; did you mean 'state'?"),
        ([(0, "")], "state", "the column 'state' is empty"),
        ([(0, ""), (3, "crack")], "state", "the log names no class before 2030-05-01 06:00:03"),
    ],
)
def test_states_that_cannot_be_used_are_refused(
    fmbench: Command,
    tmp_path: Path,
    video: Path,
    states: list[tuple[float, str]],
    column: str,
    said: str,
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_classes(root, CLASSES)
    refused(ingest(fmbench, root, video, log(tmp_path, states), "--label_column", column), said)
    assert [path.name for path in root.iterdir()] == ["root.yaml"]
