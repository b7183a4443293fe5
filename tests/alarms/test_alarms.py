"""`fmbench alarms`, and `--alarms` of test and predict, on recordings in files."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from fmbench.alarms.file import calibrated, read_alarms
from fmbench.alarms.footage import decision_frames, footage_of, runs_between, scored
from fmbench.alarms.rule import Latch
from fmbench.config.schema import Config
from fmbench.pictures import ALARM
from fmbench.training.checkpoint import load
from fmbench.training.measure import open_data
from fmbench.training.run import fit
from footages import write_plant
from recordings import write_root
from test_cli import Command, fmbench

__all__ = ["fmbench"]  # a fixture

ROOT = Path(__file__).parents[2]
SPANS = [(80, 110), (180, 200)]
SPLITS = {"train": [SPANS, SPANS], "val": [SPANS, [(90, 120)]], "test": [SPANS, [], [(60, 90)]]}
FILES = {"alarms.yaml", "alarms.md", "events.csv", "timeline.png", "delays.png", "tradeoff.png"} | {
    "reliability.png"
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "plant"
    write_plant(folder, SPLITS)
    return folder


def trained(root: Path, run: Path, model: str, **options: object) -> Path:
    data = {"root": str(root), "current_samples": 8, "batch_size": 64, **options}
    trainer = {"max_epochs": 1, "accelerator": "cpu"}
    return fit(Config(model=model, modality="current", data=data, trainer=trainer), run=run)


@pytest.fixture(scope="module")
def checkpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, tmp_path_factory.mktemp("run"), "rms_current")


@pytest.fixture(scope="module")
def chosen(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fmbench.alarms.budget import parse_budget
    from fmbench.alarms.run import choose_alarms

    out = tmp_path_factory.mktemp("out") / "alarms"
    choose_alarms(checkpoint, out, budget=parse_budget("1/day"))
    return out


def test_a_rule_is_written_with_what_it_belongs_to(
    chosen: Path, checkpoint: Path, root: Path
) -> None:
    assert {each.name for each in chosen.iterdir()} == FILES
    alarms = read_alarms(chosen / "alarms.yaml", checkpoint)
    assert alarms.checkpoint_sha256 == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert (alarms.budget, alarms.simulated, alarms.rule.every) == ("1/day", False, 1.0)
    assert alarms.budget_met
    normal = sum(  # margins of 10 s and 30 s around events, a decision a second
        not any(a - 10 <= now <= b - 0.2 + 30 for a, b in spans)
        for spans in SPLITS["val"]
        for now in range(240)
    )
    assert alarms.normal_hours == pytest.approx(normal / 3600, abs=1e-4)
    assert alarms.supports_at_best == pytest.approx(3 * 86400 / normal, rel=0.01)
    assert "Simulated" not in (chosen / "alarms.md").read_text()


def test_every_event_and_false_alarm_has_a_row(chosen: Path, checkpoint: Path, root: Path) -> None:
    """Against a latch that takes the decisions one by one."""
    alarms = read_alarms(chosen / "alarms.yaml", checkpoint)
    rows = pd.read_csv(chosen / "events.csv")
    events = rows[rows["kind"] == "event"]
    assert len(events) == 3
    assert set(rows["kind"]) <= {"event", "false alarm"}
    detector = load(checkpoint)
    data = open_data(detector, {"root": root})
    for each in scored(detector, data, footage_of(data, "test"), 1.0, lambda *_: None):
        latch = Latch(alarms.rule)
        probability = calibrated(each.logits, alarms.temperature)
        on = [latch.step(*pair) for pair in zip(each.seconds.tolist(), probability, strict=True)]
        for row in events[events["recording"] == each.recording].itertuples():
            during = each.seconds[np.array(on) & (each.label > 0)]
            during = during[(during >= row.onset) & (during <= row.end)]
            assert bool(row.found) == (len(during) > 0)
            if row.found:
                assert row.alarm == during[0]
                assert row.delay == pytest.approx(during[0] - row.onset)
    assert events["found"].all()
    assert events["onset"].tolist() == [80, 180, 60]


def test_test_recordings_choose_nothing(
    chosen: Path, checkpoint: Path, root: Path, tmp_path: Path, fmbench: Command
) -> None:
    other = tmp_path / "plant"
    shutil.copytree(root, other)
    for path in (other / "pixel-level" / "videos").glob("test-*.mat"):
        with h5py.File(path, "r+") as file:
            file["label"][:] = 1 - file["label"][:]
    words = ("--checkpoint", checkpoint, "--data.root", other, "--out", "out")
    assert fmbench("alarms", *words).status == 0
    before, after = (
        yaml.safe_load(path.read_text())
        for path in (chosen / "alarms.yaml", tmp_path / "out" / "alarms.yaml")
    )
    assert before == {**after, "data": before["data"]}
    assert (tmp_path / "out" / "events.csv").read_text() != (chosen / "events.csv").read_text()


def test_what_the_footage_supports_is_said(
    checkpoint: Path, tmp_path: Path, fmbench: Command
) -> None:
    """Also where the test part has no event."""
    write_plant(tmp_path / "plant", {**SPLITS, "test": [[]]})
    words = ("--checkpoint", checkpoint, "--data.root", tmp_path / "plant", "--out", "out")
    done = fmbench("alarms", *words, "--every", "2")
    assert done.status == 0
    assert "expected calibration error: " in done.out
    assert "test: 0 of 0 events" in done.out
    assert "a budget of 1/day needs 3.0 days without a false alarm" in done.out
    assert "val: 0 of" in done.out
    assert (tmp_path / "out" / "alarms.yaml").is_file()


def test_a_budget_that_cannot_be_met_is_said_loudly(
    root: Path, tmp_path: Path, fmbench: Command
) -> None:
    checkpoint = trained(root, tmp_path / "run", "always_abnormal")
    done = fmbench("alarms", "--checkpoint", checkpoint, "--out", "out")
    assert done.status == 0
    assert "NO RULE MEETS THE BUDGET of 1/day" in done.out
    assert "No rule meets the budget" in (tmp_path / "out" / "alarms.md").read_text()
    assert not read_alarms(tmp_path / "out" / "alarms.yaml", checkpoint).budget_met  # nor finds any


@pytest.mark.parametrize(
    ("spans", "message"),
    [([], "the validation part (0.067 h) has no event"), ([(0, 240)], "has no normal operation")],
)
def test_a_validation_part_that_cannot_choose_is_refused(
    checkpoint: Path, tmp_path: Path, fmbench: Command, spans: list[tuple[int, int]], message: str
) -> None:
    write_plant(tmp_path / "plant", {**SPLITS, "val": [spans]})
    words = ("--checkpoint", checkpoint, "--data.root", tmp_path / "plant", "--out", "out")
    done = fmbench("alarms", *words)
    assert done.status == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_mistakes_are_found_before_the_work(
    checkpoint: Path, chosen: Path, tmp_path: Path, fmbench: Command
) -> None:
    words = ("alarms", "--checkpoint", checkpoint, "--out")
    for more, message in (
        (("out", "--budget", "daily"), "--budget is 'daily'"),
        (("out", "--every", "0"), "--every is 0"),
        (("out", "--every", "0.1"), "it must be from 0.2, the time of a frame, to 60 seconds"),
        ((chosen,), "already exists and is not empty"),
    ):
        done = fmbench(*words, *more)
        assert done.status == 2
        assert message in done.err
        assert "val:" not in done.out
    no_val = tmp_path / "plant"
    write_plant(no_val, {"train": SPLITS["train"], "test": SPLITS["test"]})
    done = fmbench(*words, "out", "--data.root", no_val, "--data.val_fraction", "0")
    assert done.status == 2
    assert "has no val recordings" in done.err


def test_test_prints_the_measures_of_the_rule(
    chosen: Path, checkpoint: Path, tmp_path: Path, fmbench: Command
) -> None:
    file = chosen / "alarms.yaml"
    done = fmbench("test", "--checkpoint", checkpoint, "--alarms", file, "--out", tmp_path)
    found = dict(line.split() for line in done.out.splitlines() if len(line.split()) == 2)
    assert (found["events"], found["events_found"]) == ("3", "3")
    rows = pd.read_csv(chosen / "events.csv")
    assert float(found["delay_median"]) == pytest.approx(rows["delay"].median(), abs=1e-3)
    assert int(found["false_alarms"]) == (rows["kind"] == "false alarm").sum()
    assert 0 < float(found["vus_pr"]) <= 1


def test_predict_has_the_alarms_of_the_rule(
    chosen: Path, checkpoint: Path, tmp_path: Path, fmbench: Command
) -> None:
    words = ("predict", "test-4", "--checkpoint", checkpoint, "--alarms", chosen / "alarms.yaml")
    done = fmbench(*words, "--every", "5", "--out", tmp_path)
    assert done.status == 0
    table = pd.read_csv(tmp_path / "test-4.csv")
    rows = pd.read_csv(chosen / "events.csv")
    at = rows.loc[(rows["recording"] == "test-4") & (rows["kind"] == "event"), "alarm"]
    began = table.index[(table["alarm"] == 1) & (table["alarm"].shift(fill_value=0) == 0)]
    assert set(at) <= set(began)  # one row a second
    plain = fmbench("predict", "test-4", "--checkpoint", checkpoint, "--out", tmp_path / "plain")
    assert plain.status == 0
    assert "alarm" not in pd.read_csv(tmp_path / "plain" / "test-4.csv")
    assert orange(tmp_path / "test-4.png") > 100 > orange(tmp_path / "plain" / "test-4.png")
    done = fmbench(*words, "--out", tmp_path)
    assert done.status == 2
    assert "give --every 1s" in done.err


def orange(path: Path) -> int:
    """Pixels of the bar of alarms."""
    colour = [int(ALARM[k : k + 2], 16) for k in (5, 3, 1)]
    return int((cv2.imread(str(path)) == colour).all(axis=2).sum())


def test_the_rule_of_another_checkpoint_is_refused(
    chosen: Path, checkpoint: Path, tmp_path: Path, fmbench: Command
) -> None:
    other = tmp_path / "other.ckpt"
    other.write_bytes(checkpoint.read_bytes() + b" ")
    for words in (("test",), ("predict", "test-4")):
        done = fmbench(*words, "--checkpoint", other, "--alarms", chosen / "alarms.yaml")
        assert done.status == 2
        assert "belongs to another checkpoint" in done.err
        for path in (other, checkpoint):
            assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] in done.err
        assert len(done.err.splitlines()) == 1


def test_a_shared_recording_gives_the_footage_of_its_split_only(tmp_path: Path) -> None:
    write_root(tmp_path, recordings=1, seconds=40, size=(32, 32))
    run = tmp_path / "run"
    options = {"val_fraction": 0.2, "guard_seconds": 2}
    checkpoint = trained(tmp_path, run, "random_score", **options)
    data = open_data(load(checkpoint), None)
    lists = {"train": data.table("train"), "val": data.table("val"), "test": data.table("test")}
    (val,), (test,) = footage_of(data, "val"), footage_of(data, "test")
    assert (val.start, val.stop - 1) == (lists["val"]["frame"].min(), lists["val"]["frame"].max())
    assert test.start == lists["test"]["frame"].min() > val.stop > lists["train"]["frame"].max()


def test_runs_end_where_another_split_begins() -> None:
    own, others = np.array([5, 6, 9, 20, 21, 30]), np.array([1, 10, 15, 25])
    assert runs_between(own, others) == [(5, 10), (20, 22), (30, 31)]


def test_a_decision_is_the_first_frame_of_each_second_also_after_a_stall() -> None:
    counts = [25, 24, 0, 0, 26, 25]
    second = np.repeat(np.arange(6), counts)
    times = second + np.concatenate([np.arange(n) / 25 for n in counts])
    frames = decision_frames(times, 0, len(times), 1.0)
    assert second[frames].tolist() == [0, 1, 4, 4]  # the 26th frame is at 5.0 s
    assert times[frames].tolist() == [0, 1, 4, 5]
    assert times[decision_frames(times, 30, len(times), 2.0)].tolist() == [1.2, 4.0, 5.2]


def test_the_documented_commands_are_those_of_the_command_line(fmbench: Command) -> None:
    text = (ROOT / "docs/control-room.md").read_text(encoding="utf-8")
    own = text.partition("## Choose an alarm rule")[2].partition("\n## ")[0]
    lines = [line for line in own.splitlines() if line.startswith("fmbench ")]
    assert len(lines) == 4
    for line in lines:  # parsed in full; only the checkpoint is not there
        done = fmbench(*line.split()[1:])
        assert "best.ckpt: no such file" in done.err
