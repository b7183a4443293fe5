"""Data sets with other rates and channels than the benchmark's: root.yaml, ingest, check, select,
pack, doctor, training."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import av
import h5py
import numpy as np
import pandas as pd
import pytest

from fmbench.data import FurnaceData
from fmbench.data.root import open_root
from fmbench.format.plant import read_plant
from fmbench.prepare.check import check_root
from fmbench.prepare.faults import Kind
from fmbench.training.predict import elapsed
from fmbench.types import Channel, Plant
from test_cli import Command, fmbench

__all__ = ["fmbench"]  # a fixture

BEGIN = datetime(2030, 5, 1, 6)
PRESS = """\
frame_rate: 10
current_rate: 20
channels:
  - {name: force, unit: kN}
  - {name: speed, unit: m/s}
  - {name: setpoint, unit: "°C"}
  - {name: motor, unit: A}
  - {name: oil, unit: "°C"}
"""
OVEN = """\
frame_rate: 10
current_rate: 0.2
channels: [{name: oil, unit: "°C"}, {name: setpoint, unit: "°C"}]
"""


def grey_of(frame: int) -> int:
    """Of a frame's picture; neighbours differ by more than a codec's error."""
    return 40 + frame * 37 % 160


def write_video(path: Path, seconds: int, rate: int = 10) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        noise = np.random.default_rng(0).integers(0, 30, (64, 64, 1))
        for k in range(seconds * rate):
            picture = np.broadcast_to(grey_of(k) + noise, (64, 64, 3)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def write_log(path: Path, table: pd.DataFrame, step: float) -> pd.DataFrame:
    """A row every `step` s; the first column is the time."""
    times = [BEGIN + timedelta(seconds=step * k) for k in range(len(table))]
    text = [time.isoformat(sep=" ", timespec="milliseconds") for time in times]
    table = table.copy()
    table.insert(0, "when", text)
    table.to_csv(path, index=False, sep=";")
    return table


def channels_of(rows: int, rate: float) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    time = np.arange(rows) / rate
    return pd.DataFrame(
        {
            "oil": np.round(-5 + 3 * np.sin(time) + rng.normal(0, 0.1, rows), 3),
            "pump [bar]": 4.0,
            "force [kN]": np.round(20 + rng.normal(0, 2, rows), 3),
            "speed [m/s]": np.round(rng.normal(0, 1, rows), 4),
            "setpoint [°C]": 180.0,
            "motor [kA]": np.round(1 + 0.2 * rng.normal(size=rows).clip(-3, 3), 4),
        }
    )


def ingest(fmbench: Command, root: Path, video: Path, log: Path, *more: object) -> str:
    done = fmbench(
        "data", "ingest", "--video", video, "--current", log, "--out", root, "--roi", "0,0,64,64",
        "--size", "16", "--start", BEGIN.isoformat(sep=" "), *more,
    )  # fmt: skip
    assert done.status == 0, done.err
    return done.out


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "press.mp4"
    write_video(path, 30)
    return path


@pytest.fixture
def press(tmp_path: Path, clip: Path, fmbench: Command) -> tuple[Path, pd.DataFrame, str]:
    """A root of 10 frames and 20 samples of 5 channels a second, its log, and what was printed."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "root.yaml").write_text(PRESS, encoding="utf-8")
    log = write_log(tmp_path / "log.csv", channels_of(600, 20), 1 / 20)
    return root, log, ingest(fmbench, root, clip, tmp_path / "log.csv")


def label(root: Path, spans: list[tuple[int, int]]) -> None:
    """Move the recording to class-level, with these abnormal frames."""
    part = root / "class-level"
    shutil.move(root / "unlabelled", part)
    with h5py.File(part / "videos" / "press.mat", "r+") as file:
        labels = np.zeros((len(file["data"]), 1, 1), np.uint8)
        for start, stop in spans:
            labels[start:stop] = 1
        file["label"] = labels


def test_ten_frames_and_twenty_samples_a_second_are_taken_as_they_are(
    press: tuple[Path, pd.DataFrame, str],
) -> None:
    root, log, out = press
    [recording] = open_root(root, "unlabelled").recordings
    assert recording.plant == read_plant(root)
    assert recording.num_frames == 300
    assert (
        "300 frames from 2030-05-01 06:00:00, 30 s of current (0 frames repeated, 0 of 300" in out
    )
    assert "10 frames a second, 20 samples a second of force, speed, setpoint, motor, oil" in out
    assert "force [kN] = force [kN]" not in out
    assert "motor [A] = motor [kA]" in out
    shown = np.empty((300, 3, 16, 16), np.uint8)
    recording.read_frames(np.arange(300), shown)
    greys = shown.mean(axis=(1, 2, 3)) - 15
    assert np.abs(greys - [grey_of(k) for k in range(300)]).max() < 5
    assert (np.bincount(recording.seconds - recording.seconds[0]) == 10).all()
    header, first = (root / "unlabelled/currents/press.csv").read_text().splitlines()[:2]
    assert header == "time,force,speed,setpoint,motor,oil"
    wanted = log[["force [kN]", "speed [m/s]", "setpoint [°C]", "motor [kA]", "oil"]].to_numpy(
        copy=True
    )
    wanted[:, 3] *= 1000  # currents become amperes; the others are copied
    assert recording.currents.values == pytest.approx(wanted, rel=1e-5)
    assert first.startswith("2030-05-01 06:00:00,")
    report = json.loads((root / "unlabelled/sources/press.json").read_text())
    assert (report["frame_rate"], report["current_rate"], report["repeated"]) == (10, 20, 0)
    assert report["remarks"] == []  # a constant set-point and a negative temperature are no faults


def test_a_slow_root_has_the_mean_of_the_seconds_up_to_each_sample(
    tmp_path: Path, clip: Path, fmbench: Command
) -> None:
    root = tmp_path / "root"
    (root / "unlabelled").mkdir(parents=True)
    (root / "root.yaml").write_text(OVEN, encoding="utf-8")
    log = write_log(tmp_path / "log.csv", channels_of(600, 20), 1 / 20)
    ingest(fmbench, root, clip, tmp_path / "log.csv", "--name", "fast")
    [fast] = open_root(root, "unlabelled").recordings
    seconds, values = fast.currents
    assert (seconds - seconds[0]).tolist() == [0, 5, 10, 15, 20, 25]
    oil = log["oil"].to_numpy()
    groups = [oil[:20], *(oil[20 * (s - 4) : 20 * (s + 1)] for s in (5, 10, 15, 20, 25))]
    assert values[:, 0] == pytest.approx([group.mean() for group in groups], rel=1e-5)
    assert fast.num_frames == 300
    rows = channels_of(7, 0.2)
    write_log(tmp_path / "slow.csv", rows, 5)
    out = ingest(fmbench, root, clip, tmp_path / "slow.csv", "--name", "slow", "--slot", "last")
    assert "10 frames a second, a sample every 5 s of oil, setpoint" in out
    slow = {each.name: each for each in open_root(root, "unlabelled").recordings}["slow"]
    assert slow.currents.values[:, 0] == pytest.approx(rows["oil"][:6].to_numpy())  # as logged
    assert check_root(root) == []


def test_a_log_slower_than_the_root_is_joined_by_lines(
    tmp_path: Path, clip: Path, fmbench: Command
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "root.yaml").write_text("frame_rate: 10\ncurrent_rate: 50\n")
    ramp = pd.DataFrame({"Ia [A]": 9000.0 + 100 * np.arange(31)})
    write_log(tmp_path / "log.csv", ramp, 1)
    out = ingest(fmbench, root, clip, tmp_path / "log.csv")
    assert "the log has a row every 1 s; samples between rows are on a line" in out
    [recording] = open_root(root, "unlabelled").recordings
    assert len(recording.currents.values) == 30 * 50
    between = recording.currents.values[:, 0].reshape(30, 50)[:, 1:]
    middle = np.add.outer(np.arange(30), (np.arange(50) + 0.5) / 50)[:, 1:]
    assert between == pytest.approx(9000 + 100 * middle, rel=1e-5)


@pytest.mark.parametrize(
    ("yaml", "options", "said"),
    [
        (PRESS.replace("kN", "N"), [], "'force [kN]' is in kN, but root.yaml has 'force' in N;"),
        (
            PRESS.replace("oil", "water"),
            [],
            "no column is named as the channel 'water' of root.yaml",
        ),
        (
            PRESS,
            ["--phases", "oil,motor"],
            "--phases names 2 columns, but root.yaml has 5 channels",
        ),
        (OVEN, ["--unit", "kA"], "--unit kA is of currents, but no channel of root.yaml is in A"),
        (OVEN, ["--offset", "auto"], "currents in A, and root.yaml names none; give --offset in"),
        ("frame_rate: -1", [], "root.yaml: frame_rate is -1; it must be above 0"),
    ],
)
def test_a_log_that_does_not_fit_root_yaml_is_refused(
    tmp_path: Path, clip: Path, fmbench: Command, yaml: str, options: list[str], said: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "root.yaml").write_text(yaml, encoding="utf-8")
    write_log(tmp_path / "log.csv", channels_of(200, 20), 1 / 20)
    done = fmbench(
        "data", "ingest", "--video", clip, "--current", tmp_path / "log.csv", "--out", root,
        "--roi", "0,0,64,64", "--start", BEGIN.isoformat(sep=" "), *options,
    )  # fmt: skip
    assert done.status != 0
    assert said in done.err
    assert "Traceback" not in done.err
    assert not list(root.rglob("*.mat"))


def test_phases_name_the_columns_of_the_channels_in_order(
    tmp_path: Path, clip: Path, fmbench: Command
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "root.yaml").write_text(OVEN, encoding="utf-8")
    table = channels_of(600, 20).rename(columns={"oil": "T2", "setpoint [°C]": "T1 [°C]"})
    write_log(tmp_path / "log.csv", table, 1 / 20)
    ingest(fmbench, root, clip, tmp_path / "log.csv", "--phases", "T2,T1")
    [recording] = open_root(root, "unlabelled").recordings
    assert recording.currents.values[:, 1].tolist() == [180.0] * 6
    assert (recording.currents.values[:, 0] < 0).all()


def test_a_mark_of_a_missing_value_in_another_unit_is_refused(
    tmp_path: Path, clip: Path, fmbench: Command
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "root.yaml").write_text(OVEN, encoding="utf-8")
    table = channels_of(600, 20)
    table.loc[100, "oil"] = -9999
    write_log(tmp_path / "log.csv", table, 1 / 20)
    done = fmbench(
        "data", "ingest", "--video", clip, "--current", tmp_path / "log.csv", "--out", root,
        "--roi", "0,0,64,64", "--start", BEGIN.isoformat(sep=" "),
    )  # fmt: skip
    assert done.status != 0
    assert "'oil' is -9999 in line 102" in done.err
    assert "°C). Does it mark a missing value? Then give --missing=-9999" in done.err


def test_check_finds_another_rate_and_other_columns(press: tuple[Path, pd.DataFrame, str]) -> None:
    root, _, _ = press
    assert check_root(root) == []
    file, times = (root / "unlabelled" / kind / "press.csv" for kind in ("currents", "timestamps"))
    good = file.read_text().splitlines()
    file.write_text("\n".join([good[0], *good[1:100], *good[101:]]) + "\n")
    odd, short = check_root(root)
    assert (odd.kind, short.kind) == (Kind.ODD_ROWS, Kind.INCOMPLETE_CURRENT)
    assert "599 rows of current are no multiple of 20" in odd.message
    assert "second 2030-05-01 06:00:04 has 19 rows of current, not 20" in short.message
    file.write_text("\n".join([good[0], *good[1::2]]) + "\n")
    [rate] = check_root(root)
    assert rate.kind is Kind.RATE
    assert "has 10 samples a second, but root.yaml says 20 samples a second" in rate.message
    with pytest.raises(ValueError, match=r"has 10 samples a second, but root\.yaml says 20"):
        _ = open_root(root, "unlabelled").recordings[0].currents
    file.write_text("\n".join(["time,speed,force,setpoint,motor,oil", *good[1:]]) + "\n")
    [columns] = check_root(root)
    assert columns.kind is Kind.CHANNELS
    assert "root.yaml says force, speed, set" in columns.message
    with pytest.raises(ValueError, match="has the columns speed, force, setpoint, motor, oil, but"):
        _ = open_root(root, "unlabelled").recordings[0].currents
    file.write_text("\n".join(good) + "\n")
    (root / "root.yaml").write_text(PRESS.replace("frame_rate: 10", "frame_rate: 30"), "utf-8")
    [frames] = check_root(root)
    assert (frames.file, frames.kind) == (str(times), Kind.RATE)
    assert "has 10 frames a second, but root.yaml says 30" in frames.message
    with pytest.raises(ValueError, match=r"has 10 frames a second, but root\.yaml says 30"):
        _ = open_root(root, "unlabelled").recordings[0].seconds


def test_only_currents_in_amperes_are_judged_as_phases(
    press: tuple[Path, pd.DataFrame, str],
) -> None:
    root, _, _ = press
    file = root / "unlabelled/currents/press.csv"
    table = pd.read_csv(file)
    table.loc[100:500, ["force", "speed", "oil"]] = [7.5, 7.5, -273.0]
    table.to_csv(file, index=False)
    assert check_root(root) == []
    table.loc[100:500, "motor"] = 900.0
    table.to_csv(file, index=False)
    [stuck] = check_root(root)
    assert stuck.kind is Kind.PHASE
    assert "phase motor is stuck at 900 A" in stuck.message


def test_slow_samples_with_a_gap_are_found(tmp_path: Path, clip: Path, fmbench: Command) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "root.yaml").write_text(OVEN, encoding="utf-8")
    write_log(tmp_path / "log.csv", channels_of(600, 20), 1 / 20)
    ingest(fmbench, root, clip, tmp_path / "log.csv")
    file = root / "unlabelled/currents/press.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:3] + lines[4:]) + "\n")  # without 06:00:10
    gap, lost = sorted(check_root(root), key=lambda each: each.kind.name)
    assert "5 seconds of current are missing after 2030-05-01 06:00:05" in gap.message
    assert "06:00:10 has no current (50 such frames in all)" in lost.message


def test_packing_and_the_doctor_keep_the_rates(
    press: tuple[Path, pd.DataFrame, str], tmp_path: Path, fmbench: Command
) -> None:
    root, _, _ = press
    assert fmbench("data", "pack", root, "--out", tmp_path / "packed").status == 0
    [recording] = open_root(tmp_path / "packed", "unlabelled").recordings
    assert recording.plant == read_plant(root)
    with av.open(str(recording.source)) as container:
        assert container.streams.video[0].average_rate == 10
        assert container.duration / 1e6 == pytest.approx(30, abs=0.2)
    done = fmbench("data", "doctor", root, "--out", tmp_path / "doctor.html")
    assert done.status == 0, done.err
    page = (tmp_path / "doctor.html").read_text()
    assert "force<br>" in page
    assert "kN" in page
    assert "<span>2030-05-01 06:00:30</span>" in page
    assert elapsed(recording.seconds, int(recording.seconds[0]), 10)[[0, 15, 299]].tolist() == [
        0, 1.5, 29.9,
    ]  # fmt: skip


def test_windows_can_be_given_in_seconds(press: tuple[Path, pd.DataFrame, str]) -> None:
    root, _, _ = press
    label(root, [(100, 150)])
    shared = {"root": root, "part": "class-level", "frames": 4}
    data = FurnaceData(**shared, clip_seconds=1.5, current_seconds=3)
    assert (data.spec.stride, data.spec.current_samples) == (5, 60)
    assert data.spec.seconds == pytest.approx(1.5 + 3)
    problem = data.problem(dense=False)
    assert (problem.frame_rate, problem.current_rate, problem.current_channels) == (10, 20, 5)
    replaced = FurnaceData(**shared, clip_seconds=1.5, stride=7, current_seconds=3)
    assert replaced.spec == data.spec  # a profile sets the stride
    with pytest.raises(ValueError, match="current_seconds is -1; it must be above 0"):
        FurnaceData(**shared, current_seconds=-1)


def test_the_fingerprint_has_the_rates(press: tuple[Path, pd.DataFrame, str]) -> None:
    root, _, _ = press
    before = open_root(root, "unlabelled").fingerprint
    (root / "root.yaml").write_text(PRESS.replace("kN", "N"), encoding="utf-8")
    assert open_root(root, "unlabelled").fingerprint != before


@pytest.mark.parametrize(
    ("model", "modality"),
    [("small_cnn", "visual"), ("boosted_current", "current"), ("fmformer", "cross")],
)
def test_such_a_root_trains_tests_and_predicts_and_others_are_refused(
    press: tuple[Path, pd.DataFrame, str], fmbench: Command, model: str, modality: str
) -> None:
    root, _, _ = press
    label(root, [(40, 70), (110, 140), (240, 270)])
    assert fmbench("data", "select", root, "--guard_seconds", "4").status == 0
    run = root / "run"
    flags = ["--model", model, "--modality", modality, "--config", "smoke", "--run", run]
    flags += ["--data.root", root, "--data.part", "class-level", "--data.epoch_windows", "4"]
    done = fmbench("fit", *flags, "--data.stride", "2", "--data.num_workers", "0")
    assert done.status == 0, done.err
    [checkpoint] = (run / "checkpoints").glob("best*.ckpt") or (run / "checkpoints").glob("*.ckpt")
    done = fmbench("predict", "press", "--checkpoint", checkpoint, "--out", root / "out")
    assert done.status == 0, done.err
    written = (root / "root.yaml").read_text("utf-8")
    (root / "root.yaml").write_text(written.replace("kN", "N"), "utf-8")
    done = fmbench("test", "--checkpoint", checkpoint)
    assert (done.status == 0) == (modality == "visual")
    if modality != "visual":
        assert "the recordings have the channels force [N]" in done.err
        assert "the checkpoint was trained on force [kN]" in done.err
    (root / "root.yaml").write_text("frame_rate: 9.5\n", encoding="utf-8")
    table = pd.read_csv(root / "class-level/currents/press.csv").iloc[::10]
    table.to_csv(root / "class-level/currents/press.csv", index=False)  # two a second
    done = fmbench("test", "--checkpoint", checkpoint)
    assert done.status != 0
    assert "the checkpoint was trained on" in done.err
    assert len(done.err.strip().splitlines()) == 1
    rates = "9.5 frames a second" if modality != "current" else "2 samples a second"
    assert rates in done.err
    assert "root.yaml), or train anew" in done.err


def test_the_documented_root_yaml_is_read(tmp_path: Path, clip: Path, fmbench: Command) -> None:
    text = (Path(__file__).parents[2] / "docs/your-own-data.md").read_text(encoding="utf-8")
    section = text.split("## Other cameras and sensors")[1].split("\n## ")[0]
    root = tmp_path / "root"
    root.mkdir()
    (root / "root.yaml").write_text(section.split("```yaml\n")[1].split("```")[0], "utf-8")
    write_log(tmp_path / "log.csv", channels_of(600, 20), 1 / 20)
    ingest(fmbench, root, clip, tmp_path / "log.csv")
    [recording] = open_root(root, "unlabelled").recordings
    assert recording.plant == Plant(
        frame_rate=10,
        current_rate=20,
        channels=(Channel("force", "kN"), Channel("speed", "m/s"), Channel("motor")),
    )
    label(root, [(40, 70), (110, 140), (240, 270)])
    fit = section.split("```sh\nfmbench ")[1].split("```")[0].split()
    options = dict(zip(fit[1::2], fit[2::2], strict=True))
    data = FurnaceData(
        root=root,
        part="class-level",
        clip_seconds=float(options["--data.clip_seconds"]),
        current_seconds=float(options["--data.current_seconds"]),
    )
    assert (data.spec.stride, data.spec.current_samples) == (2, 240)


def test_a_simulated_data_set_has_no_other_rates(tmp_path: Path, fmbench: Command) -> None:
    root = tmp_path / "sim"
    assert fmbench("data", "simulate", "--preset", "tiny", "--lazy", "--out", root).status == 0
    (root / "root.yaml").write_text("current_rate: 20\n")
    with pytest.raises(ValueError, match="simulated recordings have 25 frames and 2 samples of"):
        open_root(root)


def test_seconds_need_a_data_set_to_measure_a_speed(fmbench: Command) -> None:
    flags = ["--model", "small_cnn", "--modality", "visual", "--image_size", "[16, 16]"]
    done = fmbench("speed", *flags, "--data.clip_seconds", "1.5")
    assert done.status != 0
    assert "data.clip_seconds needs the rates of a data set" in done.err
