"""Repetition, worker processes and the batch size of a test change no result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from fmbench.config.schema import Config
from fmbench.metrics import DetectionMetrics
from fmbench.training.checkpoint import read_checkpoint
from fmbench.training.measure import measure
from fmbench.training.run import fit
from fmbench.types import Batch, Prediction

ROW = "same seed twice; 0, 2 and 4 workers"


@pytest.fixture(scope="module")
def once(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(root, tmp_path_factory.mktemp("once"), workers=0)


def train(root: Path, folder: Path, *, workers: int) -> Path:
    config = Config(
        net={"dim": 12, "depth": 1},
        data={
            "root": str(root),
            "frames": 2,
            "stride": 5,
            "current_samples": 12,
            "batch_size": 8,
            "epoch_windows": 32,
            "val_windows": 24,
            "guard_seconds": 5,
            "val_fraction": 0.2,
            "num_workers": workers,
        },
        trainer={"max_epochs": 2, "accelerator": "cpu"},
    )
    return fit(config, run=folder / "run")


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("workers", [0, 2, pytest.param(4, marks=pytest.mark.slow)])
def test_weights_and_predictions_are_the_same(
    root: Path, once: Path, tmp_path: Path, fault: Callable[..., Any], workers: int
) -> None:
    row = fault(ROW, promise="bit-equal weights, equal predictions")
    again = train(root, tmp_path, workers=workers)
    first, second = read_checkpoint(once)["state_dict"], read_checkpoint(again)["state_dict"]
    row.trial(all(torch.equal(first[name], second[name]) for name in first), "weights differ")
    stored = [each.parents[1] / "val-predictions.csv" for each in (once, again)]
    row.trial(stored[0].read_bytes() == stored[1].read_bytes(), "predictions differ")


@pytest.mark.parametrize("size", [1, 5, 60])
def test_batches_of_a_measurement_make_no_difference(
    once: Path, tmp_path: Path, fault: Callable[..., Any], size: int
) -> None:
    row = fault("other batch size in a test", promise="the same counts and decisions")
    tables, counts = [], []
    for batch_size in (8, size):
        out = tmp_path / str(batch_size)
        found = measure(once, data={"test_windows": 60, "batch_size": batch_size}, out=out)
        counts.append([found[name] for name in ("tn", "fp", "fn", "tp")])
        tables.append(pd.read_csv(out / "test-predictions.csv"))
    exact = ["recording", "frame", "label", "decision"]
    row.trial(counts[0] == counts[1] and tables[0][exact].equals(tables[1][exact]), f"{counts}")


def test_another_order_of_windows_gives_the_same_rates(
    fault: Callable[..., Any], trials: Callable[[int, int], int]
) -> None:
    row = fault("other order of windows in a test", promise="identical rates")
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(97, 2, generator=draw)
    label = torch.randint(0, 2, (97,), generator=draw)
    rates = []
    for _ in range(trials(5, 100)):
        order = torch.randperm(97, generator=draw)
        metrics = DetectionMetrics(dense=False)
        for part in order.split(int(torch.randint(1, 40, (1,), generator=draw))):
            batch = Batch(None, None, label[part])
            metrics.update(Prediction(logits[part], None), batch)
        rates.append(metrics.compute())
        row.trial(rates[-1] == rates[0], f"{rates[-1]}, not {rates[0]}")
