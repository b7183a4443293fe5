"""Rates of more than two classes against scikit-learn, and what is stored of each window."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from fmbench.metrics import DetectionMetrics, classes_of, of_each_window
from fmbench.tables.intervals import intervals, rates
from fmbench.types import Batch, Prediction

CLASSES = ("normal", "crack", "burn-through", "leak")


def windows(seed: int, size: int = 40, side: int = 4) -> tuple[Prediction, Batch]:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.randint(0, 4, (size, side, side), generator=draw)
    mask *= torch.rand(size, side, side, generator=draw) < 0.1
    logits = torch.randn(size, 4, generator=draw)
    mask_logits = torch.randn(size, 4, side, side, generator=draw)
    return Prediction(logits, mask_logits), Batch(None, None, mask.flatten(1).amax(1), mask)


def gathered(prediction: Prediction, batch: Batch, dense: bool = False) -> dict[str, float]:
    metrics = DetectionMetrics(dense, CLASSES)
    half = len(batch.label) // 2
    for part in (slice(0, half), slice(half, None)):
        metrics.update(
            Prediction(*(None if x is None else x[part] for x in prediction[:2])),
            Batch(*(None if x is None else x[part] for x in batch)),
        )
    return metrics.compute()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_rates_of_classes_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, decided = np.array(pairs).T
    logits = torch.nn.functional.one_hot(torch.tensor(decided), 4).float()
    found = gathered(Prediction(logits), Batch(None, None, torch.tensor(truth)))
    assert found["acc"] == pytest.approx(sklearn_metrics.accuracy_score(truth, decided))
    there = sorted({*truth, *decided})
    f1 = sklearn_metrics.f1_score(truth, decided, labels=there, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(f1)
    for kind, of_class in (
        ("recall", sklearn_metrics.recall_score),
        ("precision", sklearn_metrics.precision_score),
    ):
        expected = of_class(truth, decided, labels=range(4), average=None, zero_division=np.nan)
        here = [found[f"{kind}_{name}"] for name in CLASSES]
        np.testing.assert_allclose(here, expected, rtol=1e-6)
    abnormal, called = truth > 0, decided > 0
    if abnormal.any() or called.any():
        binary = sklearn_metrics.f1_score(abnormal, called, zero_division=0)
        assert found["f1"] == pytest.approx(binary)
    if abnormal.any() and not abnormal.all():
        score = 1 - logits.softmax(1)[:, 0].numpy()
        auroc = sklearn_metrics.roc_auc_score(abnormal, score)
        assert found["auroc"] == pytest.approx(auroc, abs=1e-5)
        assert found["mdr"] == pytest.approx(1 - sklearn_metrics.recall_score(abnormal, called))
    assert found["tn"] + found["fp"] + found["fn"] + found["tp"] == len(pairs)


def test_miou_is_the_mean_over_all_classes() -> None:
    prediction, batch = windows(0)
    assert prediction.mask_logits is not None
    assert batch.mask is not None
    expected = sklearn_metrics.jaccard_score(
        batch.mask.flatten(), prediction.mask_logits.argmax(1).flatten(), average="macro"
    )
    assert gathered(prediction, batch, dense=True)["miou"] == pytest.approx(expected)


def test_a_class_that_is_neither_present_nor_predicted_is_nan_and_left_out() -> None:
    truth = torch.tensor([0, 1, 1, 0])
    logits = torch.nn.functional.one_hot(torch.tensor([0, 1, 0, 0]), 4).float()
    found = gathered(Prediction(logits), Batch(None, None, truth))
    assert math.isnan(found["recall_leak"])
    assert math.isnan(found["precision_leak"])
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_two_classes_have_the_keys_and_columns_of_the_paper() -> None:
    prediction, batch = windows(1)
    assert batch.mask is not None
    two = Prediction(prediction.logits[:, :2], prediction.mask_logits[:, :2])
    binary = batch._replace(label=batch.label.clamp(max=1), mask=batch.mask.clamp(max=1))
    metrics = DetectionMetrics(dense=True, classes=("normal", "leak"))
    metrics.update(two, binary)
    assert [*metrics.compute()] == [
        "acc", "f1", "fdr", "mdr", "auroc", "aupr", "miou", "tn", "fp", "fn", "tp"
    ]  # fmt: skip
    assert [*of_each_window(two, binary)] == [
        "label", "decision", "score", "log_odds", "pixel_tn", "pixel_fp", "pixel_fn", "pixel_tp"
    ]  # fmt: skip


def stored(seed: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """Columns as a result holds them, in four recordings, and the rates of the metrics."""
    prediction, batch = windows(seed)
    columns = of_each_window(prediction, batch, CLASSES)
    count = len(batch.label)
    place = {"recording": [f"r{k % 4}" for k in range(count)], "frame": range(count)}
    table = pd.DataFrame(place | {name: value.numpy() for name, value in columns.items()})
    return table, gathered(prediction, batch, dense=True)


def test_every_rate_can_be_recomputed_from_the_stored_columns() -> None:
    table, expected = stored(2)
    assert classes_of(table.columns) == CLASSES
    found = {name: float(value[0]) for name, value in rates(table).items()}
    counts = ("tn", "fp", "fn", "tp")
    assert found.keys() == {*expected, "iou"} - {*counts}
    for name in found.keys() - {"iou"}:
        assert found[name] == pytest.approx(expected[name], abs=1e-5), name


def test_intervals_of_class_rates_leave_out_recordings_one_by_one() -> None:
    from scipy.special import expit, logit
    from scipy.stats import t as student

    table, expected = stored(3)
    table["recording"] = [f"r{k // 2}" for k in range(40)]  # 20 recordings are the blocks
    found = intervals([table])["macro_f1"]
    assert found.value == pytest.approx(expected["macro_f1"], abs=1e-6)
    without = []
    for name in table["recording"].unique():
        rest = table[table["recording"] != name]
        f1 = sklearn_metrics.f1_score(rest["label"], rest["decision"], average="macro")
        without.append(logit(f1))
    reach = student.ppf(0.975, 19) * np.sqrt(19 / 20 * np.sum((without - np.mean(without)) ** 2))
    assert found.low == pytest.approx(expit(logit(found.value) - reach))
    assert found.high == pytest.approx(expit(logit(found.value) + reach))
