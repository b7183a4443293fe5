"""`fmbench predict`: raw files, and recordings of any part of a data set."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import h5py
import numpy as np
import pandas as pd
import pytest

from fmbench.config.schema import Config
from fmbench.training.run import fit
from recordings import write_root
from test_cli import Command, Outcome, fmbench, refused
from test_ingest import plc, stamp

__all__ = ["fmbench"]  # a fixture

SECONDS, SIZE = 8, (32, 32)
ROI = "16,8,64,80"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_root(folder, recordings=2, seconds=40, size=SIZE)
    write_root(folder, recordings=1, seconds=40, size=SIZE, part="class-level")
    return folder


def trained(root: Path, modality: str, run: Path, **more: Any) -> Path:
    data = {"root": str(root), "frames": 2, "stride": 5, "current_samples": 8, "batch_size": 8}
    windows = {"epoch_windows": 16, "val_windows": 16, "guard_seconds": 2, "val_fraction": 0.2}
    net = {"dim": 12, "depth": 1}
    trainer = {"max_epochs": 1, "accelerator": "cpu"}
    asked = Config(modality=modality, net=net, data=data | windows | more, trainer=trainer)
    return fit(asked, run=run)


@pytest.fixture(scope="module")
def cross(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, "cross", tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def visual(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, "visual", tmp_path_factory.mktemp("visual"))


@pytest.fixture(scope="module")
def current(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, "current", tmp_path_factory.mktemp("current"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a video of H.264, noise over a spot that grows, and a log."""
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("raw")
    with av.open(str(folder / "run.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "4", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for k in range(25 * SECONDS):
            picture = rng.integers(40, 90, (96, 128, 3)).astype(np.uint8)
            cv2.circle(picture, (50, 50), 5 + k // 10, (250, 120, 20), -1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    amperes = np.random.default_rng(4).normal(9000, 300, (2 * SECONDS + 8, 3))
    rows = [f"{stamp(k / 2 - 2)},{a:.1f},{b:.1f},{c:.1f}" for k, (a, b, c) in enumerate(amperes)]
    plc(folder, rows)
    return folder


@pytest.fixture
def raw(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The video and the log."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path / "run.mp4", tmp_path / "plc.csv"


Predict = Callable[..., Outcome]


@pytest.fixture
def predict(raw: tuple[Path, Path], fmbench: Command) -> Predict:
    def run(checkpoint: Path, *more: str | Path, log: bool = True, roi: bool = True) -> Outcome:
        words: list[str | Path] = ["predict", raw[0], "--checkpoint", checkpoint, "--every", "10"]
        words += ["--current", raw[1]] * log + ["--roi", ROI] * roi
        return fmbench(*words, "--start", stamp(0), *more)

    return run


def test_raw_files_are_predicted_as_their_recording_is(
    predict: Predict, raw: tuple[Path, Path], cross: Path, root: Path, fmbench: Command
) -> None:
    outcome = predict(cross, "--out", "one", "--movie")
    assert outcome.status == 0, outcome.err
    assert sorted(path.name for path in Path("one").iterdir()) == ["run.csv", "run.mp4", "run.png"]
    assert f"run: {25 * SECONDS} frames from {stamp(0)}, {SECONDS} s of current" in outcome.out
    assert "header on line 1, time column time, currents A, B, C" in outcome.out
    assert ".ingest-" not in outcome.out

    shutil.copytree(root, "root")
    done = fmbench("data", "ingest", "--video", raw[0], "--current", raw[1], "--roi", ROI,
                   "--start", stamp(0), "--size", "32", "--out", "root")  # fmt: skip
    assert done.status == 0, done.err
    by_name = fmbench("predict", "run", "--checkpoint", cross, "--data.root", "root",
                      "--every", "10", "--out", "two")  # fmt: skip
    assert by_name.status == 0, by_name.err
    assert Path("one/run.csv").read_text() == Path("two/run.csv").read_text()
    assert Path("one/run.png").read_bytes() == Path("two/run.png").read_bytes()

    table = pd.read_csv("one/run.csv")
    assert table["frame"].tolist() == list(range(0, 25 * SECONDS, 10))
    assert table["time"].tolist() == [stamp(frame // 25) for frame in table["frame"]]
    assert table["score"].between(0, 1).all()
    assert table["score"].nunique() > 5
    assert "label" not in table


def test_scores_can_be_given_seconds_apart(predict: Predict, cross: Path) -> None:
    tables = {}
    for every in ("25", "1s", "0.5s"):
        assert predict(cross, "--every", every, "--out", every).status == 0
        tables[every] = pd.read_csv(f"{every}/run.csv")
    pd.testing.assert_frame_equal(tables["1s"], tables["25"])
    half = tables["0.5s"]["frame"].tolist()  # 12.5 frames: the nearest, without a drift
    assert half == [25 * k // 2 + k % 2 for k in range(2 * SECONDS)]
    less = "--every is 0.03s, less than a frame; at 25 frames a second, it must be at least 0.04s"
    refused(predict(cross, "--every", "0.03s", roi=False), less)
    assert not list(Path().glob("predictions/*"))  # found before the video is opened


def test_the_options_of_ingest_act_on_raw_files(predict: Predict, cross: Path) -> None:
    assert predict(cross, "--offset", "1", "--name", "moved").status == 0
    table = pd.read_csv("predictions/moved.csv")
    assert table["time"].tolist() == [stamp(1 + frame // 25) for frame in table["frame"]]


def test_several_files_are_one_recording(
    predict: Predict, raw: tuple[Path, Path], cross: Path, fmbench: Command
) -> None:
    Path("cam").mkdir()
    for k in range(2):
        shutil.copy(raw[0], f"cam/{k}.mp4")
    words = ["--checkpoint", cross, "--current", raw[1], "--roi", ROI, "--start", stamp(-SECONDS)]
    outcome = fmbench("predict", "--video", "cam/*.mp4", *words, "--every", "50", "--name", "both")
    assert outcome.status == 0, outcome.err
    assert "the log starts at" in outcome.out  # the first file is before it, but for 2 s
    assert len(pd.read_csv("predictions/both.csv")) == 25 * (SECONDS + 2) // 50
    refused(predict(cross, "--video", "cam/0.mp4"), "both", "give one of them")


def test_a_visual_checkpoint_needs_no_log(predict: Predict, visual: Path) -> None:
    outcome = predict(visual, "--out", "without", "--movie", log=False)
    assert outcome.status == 0, outcome.err
    assert "0 s of current" in outcome.out
    assert predict(visual, "--out", "with").status == 0
    without, given = (pd.read_csv(f"{each}/run.csv") for each in ("without", "with"))
    assert without.equals(given)
    pictures = [cv2.imread(f"{each}/run.png") for each in ("without", "with")]
    assert (pictures[0] != pictures[1]).any()  # the currents are drawn
    refused(predict(visual, "--offset", "auto", log=False), "--offset auto", "give --current")


def test_raw_files_get_the_stored_size_of_the_training_then_its_fit(
    predict: Predict, raw: tuple[Path, Path], root: Path, fmbench: Command
) -> None:
    best = trained(root, "visual", Path("run"), image_size=[40, 48], fit="pad")
    assert predict(best, "--out", "one").status == 0
    words = ["--current", raw[1], "--roi", ROI, "--start", stamp(0), "--out", "root"]
    assert fmbench("data", "ingest", "--video", raw[0], *words, "--size", "32").status == 0
    by_name = ["--data.root", "root", "--every", "10", "--out", "two"]
    assert fmbench("predict", "run", "--checkpoint", best, *by_name).status == 0
    one, two = (pd.read_csv(f"{each}/run.csv") for each in ("one", "two"))
    assert one["score"].tolist() == two["score"].tolist()
    assert len(one) > 10


def test_a_current_checkpoint_scores_the_log_at_the_frames_of_the_video(
    predict: Predict, current: Path, raw: tuple[Path, Path], fmbench: Command
) -> None:
    assert predict(current).status == 0
    refused(fmbench("predict", "--checkpoint", current, "--current", raw[1]), "give the video")


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (["--zone", "Europe/Brelin"], ["Europe/Brelin", "Europe/Berlin"]),
        (["--start", "2030-05-02 06:00:00"], ["no second in common", "--start"]),
        (["--phases", "A,B"], ["has 2 phases of current, the checkpoint reads 3", "--phases"]),
        (["--data.root", "root"], ["--data.root has no effect on a raw video"]),
        (["--data.part", "unlabelled"], ["--data.part has no effect"]),
        (["--roi", "0,0,500,50"], ["not inside the picture"]),
        (["--size", "32"], ["no option --size"]),
    ],
)
def test_what_cannot_be_used_is_refused_and_nothing_is_left(
    more: list[str], parts: list[str], predict: Predict, cross: Path
) -> None:
    refused(predict(cross, *more), *parts)
    assert not list(Path().glob("predictions/*"))
    assert not list(Path().glob("predictions/.*"))


def test_a_missing_log_or_region_is_named(predict: Predict, cross: Path) -> None:
    refused(predict(cross, log=False), "--current is missing", "reads cross input")
    refused(predict(cross, roi=False), "--roi is missing", "128 x 96", "contact-sheet.jpg")
    assert cv2.imread("predictions/run-contact-sheet.jpg").shape[1] > 1000


def test_a_file_that_is_no_video_is_refused(
    predict: Predict, raw: tuple[Path, Path], cross: Path
) -> None:
    raw[0].write_bytes(b"no video" * 100)
    refused(predict(cross), "run.mp4")
    raw[0].unlink()
    refused(predict(cross), "run.mp4: no such file")


def test_raw_files_are_not_overwritten(
    predict: Predict, raw: tuple[Path, Path], cross: Path, tmp_path: Path
) -> None:
    before = [path.read_bytes() for path in raw]
    refused(predict(cross, "--out", tmp_path), "run.mp4 would be overwritten", "--out")
    refused(predict(cross, "--out", tmp_path, "--name", "plc"), "plc.csv would be overwritten")
    assert [path.read_bytes() for path in raw] == before


def test_options_of_raw_files_have_no_effect_on_a_recording(
    cross: Path, raw: tuple[Path, Path], fmbench: Command
) -> None:
    words = ["--current", raw[1], "--unit", "kA"]
    refused(fmbench("predict", "furnace-0", "--checkpoint", cross, *words), "--current, --unit")
    Path("a/cam").mkdir(parents=True)
    refused(fmbench("predict", "a/cam", "--checkpoint", cross), "a/cam: no such file", "--video")
    refused(fmbench("predict", "a", "--checkpoint", cross), "no recording is called 'a'")


@pytest.fixture
def parts(root: Path, tmp_path: Path) -> Path:
    """furnace-0 in all three parts, and furnace-9 without labels."""
    folder = tmp_path / "parts"
    shutil.copytree(root, folder)
    write_root(folder, recordings=1, seconds=20, size=SIZE, part="unlabelled")
    unlabelled = folder / "unlabelled"
    for path in [*unlabelled.rglob("furnace-0.*")]:
        shutil.copy(path, path.with_name(f"furnace-9{path.suffix}"))
    for path in (unlabelled / "videos").iterdir():
        with h5py.File(path, "a") as file:
            del file["label"]
    return folder


def test_a_recording_is_found_in_any_part_first_in_that_of_the_training(
    parts: Path, cross: Path, fmbench: Command
) -> None:
    def table(name: str, *more: str) -> pd.DataFrame:
        words: list[Any] = ["--data.root", parts, "--every", "250", *more]
        outcome = fmbench("predict", name, "--checkpoint", cross, *words)
        assert outcome.status == 0, outcome.err
        return pd.read_csv(f"predictions/{name}.csv")

    assert "label" not in table("furnace-9")
    assert "label" in table("furnace-0")
    assert "label" not in table("furnace-0", "--data.part", "unlabelled")
    words = ["--checkpoint", cross, "--data.root", parts]
    refused(
        fmbench("predict", "furnace-8", *words),
        "no recording is called 'furnace-8'",
        "pixel-level: furnace-0, furnace-1; class-level: furnace-0; unlabelled: furnace-0, f",
    )
    by_path = parts / "unlabelled" / "videos" / "furnace-9.mat"
    assert fmbench("predict", by_path, "--checkpoint", cross, "--out", "p").status == 0


def test_a_root_that_has_vanished_is_named(
    cross: Path, root: Path, fmbench: Command, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    root.rename(moved)
    try:
        outcome = fmbench("predict", "furnace-0", "--checkpoint", cross)
        test = fmbench("test", "--checkpoint", cross)
    finally:
        moved.rename(root)
    refused(outcome, f"was trained on {root}, which is no longer there", "--data.root")
    refused(test, "no longer there")
