"""A process with other rates, sensors, frame sizes and classes, from raw files to a prediction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fmbench
from fmbench.cli import main
from fmbench.data import open_root
from weld import CLASSES, FRAME_RATE, ROOT_YAML, SAMPLE_RATE, Seam, write_raw

pytestmark = pytest.mark.slow

SEEDS = {"first": 1, "second": 2, "third": 3, "fourth": 4}
SECONDS = 45


def do(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    capsys.readouterr()
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert status == 0, err
    return out + err


def test_a_weld_seam_goes_from_raw_files_to_a_table_and_a_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    root.mkdir()
    (root / "root.yaml").write_text(ROOT_YAML)
    seams = {}
    log = ["--time", "time"]  # root.yaml names the channels
    where = ["--roi", "0,0,280,200", "--start", "2030-05-01 06:00:00"]
    for name, seed in SEEDS.items():
        seams[name] = write_raw(tmp_path, name, seed=seed, seconds=SECONDS)
        do(capsys, "data", "ingest", "--video", f"{name}.mp4", "--current", f"{name}.csv",
           "--label_column", "state", *log, *where, "--out", root)  # fmt: skip
    agrees(root, seams)

    do(capsys, "data", "select", root, "--by", "recording", "--shares", "0.5,0.25,0.25",
       "--guard_seconds", "8")  # fmt: skip
    assert "no faults" in do(capsys, "data", "check", root)

    data = ["--data.root", root, "--data.part", "class-level", "--data.frames", "2",
            "--data.clip_seconds", "0.5", "--data.current_seconds", "4", "--data.image_size",
            "[96,144]", "--data.fit", "resize", "--data.batch_size", "16"]  # fmt: skip
    small = ["--data.epoch_windows", "960", "--data.val_windows", "100"]
    do(capsys, "fit", "--model", "fmformer", "--modality", "cross", "--config", "smoke", "--run",
       "run", "--net.depth", "1", "--net.dim", "48", "--dense", "false", "--optim.lr", "5e-4",
       "--trainer.max_epochs", "3", *data, *small)  # fmt: skip
    best = Path("run/checkpoints/best.ckpt")
    problem = fmbench.load(best).problem
    assert (problem.num_classes, problem.current_channels) == (3, 5)
    assert (problem.frame_rate, problem.current_rate) == (FRAME_RATE, SAMPLE_RATE)
    assert (problem.current_samples, problem.image_size) == (80, (96, 144))

    do(capsys, "test", "--checkpoint", best, "--data.test_windows", "200")
    metrics = json.loads(Path("run/test.json").read_text())["metrics"]
    assert metrics["acc"] > 0.6  # chance: about 1 / 2, the share of normal
    assert {f"recall_{name}" for name in CLASSES} <= metrics.keys()

    by_name = do(capsys, "predict", "first", "--checkpoint", best, "--every", "10", "--out", "a")
    raw = do(capsys, "predict", "first.mp4", "--checkpoint", best, "--current", "first.csv",
             "--label_column", "state", *log, *where, "--every", "10", "--out", "b")  # fmt: skip
    assert "a/first.csv" in by_name
    assert "b/first.csv" in raw
    named, fresh = (pd.read_csv(f"{folder}/first.csv") for folder in ("a", "b"))
    assert (named["score"] - fresh["score"]).abs().max() < 1e-5
    for column in ("decision", "label"):
        assert list(named[column]) == list(fresh[column])
    assert set(named["decision"]) <= set(CLASSES)

    do(capsys, "data", "doctor", root, "--hours", "0")


def agrees(root: Path, seams: dict[str, Seam]) -> None:
    """Frames, signals and labels are those of the raw files, at their times."""
    for recording in open_root(root, "class-level").recordings:
        seam = seams[recording.name]
        assert recording.size == (100, 140)
        assert recording.num_frames == SECONDS * FRAME_RATE
        values = recording.currents.values
        assert values.shape == (SECONDS * SAMPLE_RATE, 5)
        assert np.abs(values - seam.signals).max() < 0.05
        frames = np.arange(recording.num_frames)
        expected = seam.state[frames * SAMPLE_RATE // FRAME_RATE]
        assert np.array_equal(recording.class_of(frames), expected)
