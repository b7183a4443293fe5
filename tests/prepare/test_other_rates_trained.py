"""Trainings on other sensors: a sample every 5 s, and 50 a second of 8 channels in mixed units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmbench.data import FurnaceData, open_root
from fmbench.training.checkpoint import load
from test_cli import Command, fmbench
from weld import FRAME_RATE, write_raw

__all__ = ["fmbench"]  # a fixture

NAMES = ("first", "second", "third")
START = "2030-05-01 06:00:00"
CHANNELS = {
    "voltage": "V",
    "current": "A",
    "wire feed": "m/min",
    "travel speed": "mm/s",
    "gas flow": "l/min",
    "power": "kW",
    "supply": "A",
    "plate": "°C",
}
"""Of the slow root the first two; the fast one has all 8."""


def made(folder: Path, fmbench: Command, *, rate: float, log: int, seconds: int, most: int) -> Path:
    """A root of three seams at `rate`, from logs of `log` rows a second, with splits."""
    root = folder / "root"
    root.mkdir()
    channels = [f'  - {{name: {name}, unit: "{unit}"}}' for name, unit in CHANNELS.items()][:most]
    yaml = [f"frame_rate: {FRAME_RATE}", f"current_rate: {rate}", "channels:", *channels]
    yaml += ["classes: [normal, porosity, burn-through]"]
    (root / "root.yaml").write_text("\n".join(yaml) + "\n", encoding="utf-8")
    for seed, name in enumerate(NAMES):
        write_raw(folder, name, seed=seed, seconds=seconds, rate=log, size=(64, 80))
        table = pd.read_csv(folder / f"{name}.csv")
        table["power [kW]"] = (table["voltage [V]"] * table["current [A]"] / 1000).round(4)
        table["supply [kA]"] = (0.5 + 0.05 * table["wire feed [m/min]"]).round(5)
        table["plate [°C]"] = 180.0  # a set-point, as it may be constant
        table.to_csv(folder / f"{name}.csv", index=False, encoding="utf-8")
        done = fmbench(
            "data", "ingest", "--video", folder / f"{name}.mp4", "--current",
            folder / f"{name}.csv", "--label_column", "state", "--time", "time", "--roi",
            "0,0,80,64", "--size", "16", "--start", START, "--out", root,
        )  # fmt: skip
        assert done.status == 0, done.err
    done = fmbench("data", "select", root, "--by", "recording", "--shares", "0.4,0.3,0.3")
    assert done.status == 0, done.err
    done = fmbench("data", "check", root)
    assert done.status == 0, done.out
    return root


def fit_test_predict(root: Path, fmbench: Command, *window: str) -> tuple[Path, pd.DataFrame]:
    run = root.parent / "run"
    done = fmbench(
        "fit", "--model", "fmformer", "--modality", "cross", "--config", "smoke", "--run", run,
        "--net.depth", "1", "--net.dim", "24", "--dense", "false", "--trainer.max_epochs", "1",
        "--data.root", root, "--data.part", "class-level", "--data.frames", "2",
        "--data.clip_seconds", "0.5", "--data.batch_size", "8", "--data.epoch_windows", "32",
        "--data.val_windows", "16", "--data.test_windows", "16", *window,
    )  # fmt: skip
    assert done.status == 0, done.err
    best = run / "checkpoints" / "best.ckpt"
    assert fmbench("test", "--checkpoint", best).status == 0
    assert np.isfinite(pd.read_csv(run / "test-predictions.csv")["score"]).all()
    done = fmbench("predict", "first", "--checkpoint", best, "--every", "1s", "--out", run)
    assert done.status == 0, done.err
    table = pd.read_csv(run / "first.csv")
    assert table["score"].between(0, 1).all()
    assert table["frame"].tolist() == list(range(0, len(table) * FRAME_RATE, FRAME_RATE))
    return best, table


def seen(root: Path, frame: int, **window: float) -> np.ndarray:
    """(L, C) currents of the window that ends at a frame of the first recording."""
    data = FurnaceData(root=root, part="class-level", frames=2, clip_seconds=0.5, **window)
    loader, _ = data.windows_of("first", frames=[frame])
    return next(iter(loader)).current[0].numpy()


def test_a_sample_every_five_seconds_is_trained_tested_and_predicted(
    tmp_path: Path, fmbench: Command
) -> None:
    root = made(tmp_path, fmbench, rate=0.2, log=20, seconds=55, most=2)
    best, _ = fit_test_predict(root, fmbench, "--data.current_seconds", "30")
    problem = load(best).problem
    assert (problem.current_rate, problem.current_samples, problem.current_channels) == (0.2, 6, 2)
    log = pd.read_csv(tmp_path / "first.csv")[["voltage [V]", "current [A]"]].to_numpy()
    for second in (44, 45, 49):
        last = second // 5 * 5  # no later sample than that of the frame's own period
        groups = [log[20 * (s - 4) : 20 * (s + 1)].mean(0) for s in range(last - 25, last + 1, 5)]
        window = seen(root, second * FRAME_RATE + 3, current_seconds=30)
        np.testing.assert_allclose(window, groups, rtol=1e-5)
    mean = FurnaceData(root=root, part="class-level", current_samples=6).statistics().current_mean
    assert mean is not None
    part = open_root(root, "class-level")
    lists = part.splits["train"]
    periods = [
        each.currents.values[np.unique(lists[each.name] // (5 * FRAME_RATE))]
        for each in part.recordings
        if each.name in lists
    ]
    assert mean.numpy() == pytest.approx(np.concatenate(periods).mean(0))


def test_fifty_samples_a_second_of_eight_channels_are_trained_tested_and_predicted(
    tmp_path: Path, fmbench: Command
) -> None:
    root = made(tmp_path, fmbench, rate=50, log=50, seconds=40, most=8)
    best, _ = fit_test_predict(root, fmbench, "--data.current_seconds", "2")
    detector = load(best)
    problem = detector.problem
    assert (problem.current_rate, problem.current_samples, problem.current_channels) == (50, 100, 8)
    log = pd.read_csv(tmp_path / "first.csv").drop(columns=["time", "state"])
    assert [*log] == [
        f"{name} [{'kA' if name == 'supply' else unit}]" for name, unit in CHANNELS.items()
    ]
    wanted = log.to_numpy(copy=True)
    wanted[:, 6] *= 1000  # the channel supply is in A, its column in kA; the others are copied
    second = 21
    whole = seen(root, second * FRAME_RATE + 4, current_seconds=2)
    np.testing.assert_allclose(whole, wanted[50 * (second - 1) : 50 * (second + 1)], rtol=1e-5)
    causal = seen(root, second * FRAME_RATE + 4, current_seconds=2, causal=True)
    end = 50 * second + 4 * 50 // FRAME_RATE + 1  # frame 4 of 10 lies 20 samples into its second
    np.testing.assert_allclose(causal, wanted[end - 100 : end], rtol=1e-5)
    moments = [
        (name, buffer)
        for name, buffer in detector.state_dict().items()
        if buffer.shape == (8,) and name.endswith(("mean", "std"))
    ]
    assert len(moments) >= 2
    assert all(buffer.isfinite().all() for _, buffer in moments)
    assert [buffer[7].item() for name, buffer in moments if name.endswith("std")] == [1.0]
