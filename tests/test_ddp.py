"""Several processes measure what one does: every window once, whatever their number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fmbench.data.dataset import EvenBatches
from fmbench.lit import interleaved
from fmbench.run import Config, fit
from recordings import write_root


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 7))
def test_every_window_comes_once_and_processes_have_equally_many_batches(
    windows: int, batch_size: int, processes: int
) -> None:
    if windows < processes:
        with pytest.raises(ValueError, match="cannot be shared by"):
            EvenBatches(windows, batch_size, processes, 0)
        return
    shares = [[*EvenBatches(windows, batch_size, processes, rank)] for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    flat = [[window for batch in share for window in batch] for share in shares]
    assert sorted(window for share in flat for window in share) == list(range(windows))
    assert all(batch for share in shares for batch in share)
    if windows >= processes * batch_size > processes:
        assert max(len(batch) for share in shares for batch in share) <= batch_size
    order = interleaved([torch.tensor(share) for share in flat])
    assert order.tolist() == list(range(windows))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    write_root(root, recordings=2, seconds=60, size=(32, 32))
    config = Config(
        model="fmformer",
        modality="cross",
        net={"dim": 24, "depth": 1},
        data={
            "root": str(root),
            "frames": 4,
            "current_samples": 12,
            "batch_size": 8,
            "epoch_windows": 64,
            "val_windows": 49,
            "test_windows": 49,  # 7 batches of 7; 25 and 24; 17, 16 and 16
            "val_fraction": 0.2,
            "guard_seconds": 5,
        },
        trainer={"max_epochs": 1, "accelerator": "cpu"},
    )
    return fit(config, run=tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "val"])
def test_counts_are_the_same_for_one_two_and_three_processes(
    trained: Path, tmp_path: Path, split: str
) -> None:
    results, tables = [], []
    for processes in (1, 2, 3):
        out = tmp_path / str(processes)
        engine = ["--trainer.devices", str(processes), "--trainer.accelerator", "cpu"]
        engine += ["--trainer.strategy", "ddp"] if processes > 1 else []
        words = ["test", "--checkpoint", str(trained), "--split", split, "--out", str(out)]
        done = subprocess.run(
            [sys.executable, "-m", "fmbench", *words, *engine], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("acc ") == 1  # only one of them speaks
        results.append(json.loads((out / f"{split}.json").read_text())["metrics"])
        tables.append(pd.read_csv(out / f"{split}-predictions.csv"))
    assert sum(results[0][count] for count in ("tn", "fp", "fn", "tp")) == 49
    for result, table in zip(results[1:], tables[1:], strict=True):
        assert result == pytest.approx(results[0], abs=1e-6)
        for count in ("tn", "fp", "fn", "tp", "miou"):
            assert result[count] == results[0][count], count
        exact = ["recording", "frame", "label", "decision", "pixel_tp", "pixel_fp", "pixel_fn"]
        assert table[exact].equals(tables[0][exact])
        np.testing.assert_allclose(table["log_odds"], tables[0]["log_odds"], atol=1e-5)
