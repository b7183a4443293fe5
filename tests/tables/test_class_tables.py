"""Tables of data with more than two classes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, recall_score

from fmbench.cli import main
from fmbench.metrics import of_each_window
from fmbench.tables.breakdown import event_rates, events_of_classes
from fmbench.tables.intervals import rates
from fmbench.tables.render import shown
from fmbench.tables.results import read_result
from fmbench.tables.table import joined
from fmbench.types import Batch, Prediction
from test_tables import ROWS, command
from three_classes import CLASSES, write_three_classes

METRICS = ["acc", "macro_f1", "recall_crack", "recall_burn-through", "f1", "miou"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_three_classes(folder, recordings=2, seconds=60, size=(16, 16))
    return folder


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("recall_crac", "mine: metrics: there is no 'recall_crac'; did you mean 'recall_crack'?"),
        ("macrof1", "metrics[1]: there is no 'macrof1'"),
    ],
)
def test_a_metric_that_the_classes_do_not_have_is_refused(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], metric: str, said: str
) -> None:
    assert main(command(tmp_path, root, "--stored", rows=ROWS, metrics=[metric])) == 2
    assert said in capsys.readouterr().err


def test_rates_of_classes_have_names_that_can_be_read() -> None:
    names = [shown(metric) for metric in METRICS]
    assert names == ["Acc", "macro F1", "recall of crack", "recall of burn-through", "F1", "mIoU"]


def test_joined_rows_decide_by_the_sum_of_their_logits() -> None:
    draw = torch.Generator().manual_seed(0)
    label = torch.arange(60) % 3
    first, second = (3 * torch.randn(60, 3, generator=draw) for _ in range(2))
    place = {"recording": ["a"] * 60, "frame": range(60)}

    def windows(logits: torch.Tensor) -> pd.DataFrame:
        columns = of_each_window(Prediction(logits), Batch(None, None, label), CLASSES)
        return pd.DataFrame(place | {name: each.numpy() for name, each in columns.items()})

    found, expected = joined(windows(first), windows(second)), windows(first + second)
    assert found["decision"].tolist() == expected["decision"].tolist()
    for column in ("log_odds", *(f"log_p_{name}" for name in CLASSES)):
        np.testing.assert_allclose(found[column], expected[column], atol=1e-4)


def test_table_one_counts_each_class(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["table", "table1", "--data.root", str(root), "--results", str(tmp_path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    with_names = pd.read_csv(tmp_path / "table1.csv").set_index("class")
    kinds = np.concatenate([h5py_classes(path) for path in (root / "pixel-level").rglob("*.mat")])
    counts = np.bincount(kinds, minlength=3)
    wanted = [counts[0], counts[1:].sum(), counts[1], counts[2], counts.sum()]
    rows = ["normal", "abnormal", "abnormal: crack", "abnormal: burn-through", "total"]
    assert with_names.index.tolist() == rows
    assert with_names["pixel-level"].tolist() == with_names["total"].tolist() == wanted
    assert with_names["pixel-level_paper"].isna().tolist() == [False, False, True, True, False]
    assert f"| abnormal: crack | {counts[1]} |" in out
    assert f"| abnormal | {wanted[1]:,} *140,062* |" in out
    tex = (tmp_path / "table1.tex").read_text()
    assert tex.count("paper}") == 3
    assert "abnormal: burn-through &" in tex


def h5py_classes(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["label"][()].max(axis=(1, 2))


def test_events_count_by_class_as_found_and_as_named() -> None:
    #        a crack, found as one; a crack, called burn-through; one that turns, found late
    label = [0, 1, 1, 0, 1, 1, 0, 1, 1, 2, 2, 0, 2, 0]
    calls = [1, 0, 1, 0, 2, 2, 0, 0, 0, 0, 2, 0, 0, 0]
    since = [None, 0, 10, None, 0, 10, None, 0, 10, 20, 30, None, 0, None]
    windows = pd.DataFrame(
        {
            "recording": "furnace",
            "frame": 250 * np.arange(14),
            "time": [f"2030-01-01 00:0{k // 6}:{k % 6}0" for k in range(14)],
            "label": label,
            "decision": calls,
            "since_onset": np.array(since, float),
            **{f"log_p_{name}": 0.0 for name in CLASSES},
        }
    )
    twice = pd.concat([windows, windows.assign(recording="other", decision=0)], ignore_index=True)
    assert events_of_classes(windows) == {"crack": (3, 2, 1), "burn-through": (2, 1, 1)}
    assert events_of_classes(twice) == {"crack": (6, 2, 1), "burn-through": (4, 1, 1)}
    assert events_of_classes(windows.loc[:, :"since_onset"]) == {}
    assert event_rates(windows)["found"] == 3


@pytest.mark.slow
@pytest.mark.full
def test_an_experiment_on_three_classes_is_trained_and_tabulated(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, root, rows=ROWS, metrics=METRICS)) == 0
    out = capsys.readouterr().out
    assert "| method | input | Acc | macro F1 | recall of crack | recall of burn-through |" in out
    table = pd.read_csv(tmp_path / "results" / "mine.csv").set_index("method")
    assert table["macro_f1"].notna().all()
    assert table["macro_f1_low"].lt(table["macro_f1"]).all()
    kept = [read_result(path) for path in (tmp_path / "results" / "runs").glob("*.json")]
    assert len(kept) == 2
    for result in kept:
        truth, decided = result.windows["label"], result.windows["decision"]
        assert set(truth) == {0, 1, 2}
        metrics = result.facts["metrics"]
        assert metrics["macro_f1"] == pytest.approx(f1_score(truth, decided, average="macro"))
        recall = recall_score(truth, decided, average=None)
        assert metrics["recall_burn-through"] == pytest.approx(recall[2])
        for name, value in rates(result.windows).items():
            if name != "iou":
                np.testing.assert_allclose(value[0], metrics[name], atol=1e-4, err_msg=name)
    events = (tmp_path / "results" / "mine-events.md").read_text()
    assert "| method | input | crack | burn-through |" in events
    assert re.search(r"\| [\d.]+, [\d.]+ of \d+ \|", events)
    described = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/test.json")]
    assert all(each["problem"]["num_classes"] == 3 for each in described)
