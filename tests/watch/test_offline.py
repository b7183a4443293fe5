"""A watch of raw files has the scores of `fmbench predict`, and its alarms."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmbench.alarms.file import Alarms, write_alarms
from fmbench.alarms.rule import AlarmRule, states
from furnace import ROI, Said, amperes, trained, write_log, write_video, wrong
from test_cli import Command, fmbench
from test_ingest import stamp

__all__ = ["fmbench"]  # a fixture


def offline(fmbench: Command, checkpoint: Path, video: Path, *words: str | Path) -> pd.DataFrame:
    done = fmbench("predict", video, "--checkpoint", checkpoint, "--every", "1", "--roi", ROI,
                   "--data.causal", "true", *words)  # fmt: skip
    assert done.status == 0, done.err
    return pd.read_csv(f"predictions/{video.stem}.csv").set_index("frame")


def online(fmbench: Command, checkpoint: Path, video: Path, *words: str | Path) -> Said:
    done = fmbench("watch", "--checkpoint", checkpoint, "--video", video, "--roi", ROI,
                   "--speed", "max", *words)  # fmt: skip
    assert done.status == 0, done.err
    return Said.of(done.out)


@pytest.mark.parametrize(
    ("rate", "begin", "every"),
    [
        (2, -2, 1),
        pytest.param(10, 3.4, 1, marks=pytest.mark.slow),
        pytest.param(10, -1.7, 1, marks=pytest.mark.full),
        pytest.param(1, -4, 1, marks=pytest.mark.full),
        pytest.param(10, -2, 0.48, marks=pytest.mark.full),
        pytest.param(2, -2, 2, marks=pytest.mark.full),
    ],
)
def test_scores_are_those_of_predict_and_alarms_those_of_the_rule(
    fmbench: Command,
    cross: Path,
    video: Path,
    tmp_path: Path,
    rate: float,
    begin: float,
    every: float,
) -> None:
    log = write_log(tmp_path, amperes(26, rate), rate, begin)
    words = ["--current", log, "--start", stamp(0)]
    expected = offline(fmbench, cross, video, *words)
    said = online(fmbench, cross, video, *words, "--every", str(every))
    assert not any(said.reasons())
    assert len(said.scores) == len(expected) // round(every * 25)
    assert len(said.scores) >= 5
    for frame, score in said.scores.items():
        assert score == pytest.approx(expected["score"][frame], abs=1e-5)
    assert expected["score"].std() > 1e-4  # so that another window's score would be noticed
    times = {each["frame"]: each["time"][:19] for each in said.decisions}
    assert times == expected["time"][list(times)].to_dict()
    frames = np.array(list(said.scores))
    alarms = states(AlarmRule(every=every), frames / 25, expected["score"][frames].to_numpy())
    assert [each["alarm"] for each in said.decisions] == alarms.tolist()


@pytest.mark.parametrize(
    "rate",
    [pytest.param(30, marks=pytest.mark.slow)]
    + [pytest.param(rate, marks=pytest.mark.full) for rate in (10, 24, 60)],
)
def test_other_frame_rates_take_the_frames_that_ingest_takes(
    fmbench: Command, visual: Path, tmp_path: Path, rate: float
) -> None:
    video = tmp_path / "other.mp4"
    write_video(video, round(6.3 * rate), rate)
    expected = offline(fmbench, visual, video, "--start", stamp(0.26))
    said = online(fmbench, visual, video, "--start", stamp(0.26))
    assert len(said.scores) == len(expected) // 25 == 5
    for frame, score in said.scores.items():
        assert score == pytest.approx(expected["score"][frame], abs=1e-5)


@pytest.mark.full
def test_a_folder_of_segments_is_one_recording(
    fmbench: Command, cross: Path, video: Path, tmp_path: Path
) -> None:
    log = write_log(tmp_path, amperes(50, 2), 2)
    folder = tmp_path / "cam"
    folder.mkdir()
    for name in ("cam_20300501_060000.mp4", "cam_20300501_060010.mp4"):
        shutil.copy(video, folder / name)
    done = fmbench("predict", "--video", folder, "--checkpoint", cross, "--every", "1", "--roi",
                   ROI, "--current", log, "--data.causal", "true", "--name", "both")  # fmt: skip
    assert done.status == 0, done.err
    expected = pd.read_csv("predictions/both.csv").set_index("frame")["score"]
    said = online(fmbench, cross, folder, "--current", log)
    assert len(said.scores) == 20
    for frame, score in said.scores.items():
        assert score == pytest.approx(expected[frame], abs=1e-5)


@pytest.mark.slow
def test_windows_that_are_not_causal_are_watched_causally_and_this_is_said(
    fmbench: Command, root: Path, video: Path, tmp_path: Path
) -> None:
    checkpoint = trained(root, "cross", tmp_path / "run", causal=False)
    log = write_log(tmp_path, amperes(26, 2), 2)
    words = ["--current", log, "--start", stamp(0)]
    expected = offline(fmbench, checkpoint, video, *words)
    done = fmbench("watch", "--checkpoint", checkpoint, "--video", video, "--roi", ROI,
                   "--speed", "max", *words)  # fmt: skip
    assert "WARNING: this checkpoint was trained on windows that show up to a second" in done.err
    assert "validation windows, scores change by 0." in done.err
    for frame, score in Said.of(done.out).scores.items():
        assert score == pytest.approx(expected["score"][frame], abs=1e-5)


def test_what_cannot_be_watched_is_refused_in_a_line(
    fmbench: Command, cross: Path, visual: Path, video: Path, tmp_path: Path
) -> None:
    log = write_log(tmp_path, amperes(26, 2), 2)
    base = ["watch", "--checkpoint", cross, "--video", video, "--speed", "max"]
    usual = ["--start", stamp(0), "--current", log]
    wrong(fmbench(*base, *usual, "--roi", "100,0,64,64"), "not inside the picture", "128 wide")
    wrong(fmbench(*base, "--start", stamp(0)), "--current is missing", "cross")
    wrong(fmbench(*base, "--current", log), "carries no clock", "--start")
    wrong(fmbench(*base, *usual, "--phases", "A,B"), "2 phases", "the checkpoint reads 3")
    wrong(fmbench(*base, *usual, "--phases", "A,B,X"), "no column 'X'")
    wrong(fmbench(*base, "--start", stamp(0), "--current", "none.csv"), "no such file")
    wrong(fmbench(*base, *usual, "--every", "0.001"), "--every", "0.04")
    wrong(fmbench("watch", "--checkpoint", "none.ckpt", "--video", video), "no such file")
    seen = ["watch", "--checkpoint", visual, "--video"]
    wrong(fmbench(*seen, tmp_path / "none.mp4"), "no such file or folder")
    wrong(fmbench(*seen, "rtsp://127.0.0.1/x", "--speed", "max"), "is no file")
    wrong(fmbench(*seen, log, "--speed", "max", "--start", stamp(0)), "plc.csv")
    wrong(fmbench(*seen, video, "--current", log), "no effect", "video alone")


def test_the_rule_of_a_file_judges_calibrated_scores(
    fmbench: Command, cross: Path, visual: Path, video: Path, tmp_path: Path
) -> None:
    rule = AlarmRule(on=0.53, off=0.52, needed=2, of=3, hold_off=2.0, every=0.4)
    alarms = Alarms(
        rule=rule,
        temperature=2.5,
        checkpoint_sha256=sha256(cross.read_bytes()).hexdigest(),
        budget="1/day",
        budget_met=False,
        normal_hours=1.5,
        false_alarms=3,
        supports_at_best=59.0,
        data="test",
        data_fingerprint="none",
        simulated=True,
    )
    write_alarms(tmp_path / "alarms.yaml", alarms)
    words = ["--current", write_log(tmp_path, amperes(26, 2), 2), "--start", stamp(0)]
    raw = np.array(list(online(fmbench, cross, video, *words, "--every", "0.4").scores.values()))
    base = ["watch", "--checkpoint", cross, "--video", video, "--roi", ROI, "--speed", "max"]
    done = fmbench(*base, *words, "--alarms", "alarms.yaml")
    assert "3 false alarms in 1.5 h of validation, simulated; budget 1/day, NOT met" in done.err
    said = Said.of(done.out)
    frames = np.array(list(said.scores))
    assert frames.tolist() == list(range(9, 250, 10))
    # Two classes: a logit is divided by the temperature.
    wanted = 1 / (1 + np.exp(-np.log(raw / (1 - raw)) / 2.5))
    assert list(said.scores.values()) == pytest.approx(wanted, abs=1e-5)
    assert [each["alarm"] for each in said.decisions] == states(rule, frames / 25, wanted).tolist()
    wrong(fmbench(*base, *words, "--alarms", "alarms.yaml", "--every", "1"), "every 0.4 s")
    other = ["watch", "--checkpoint", visual, "--video", video, "--alarms", "alarms.yaml"]
    wrong(fmbench(*other), "belongs to another checkpoint")
