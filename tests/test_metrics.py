"""The paper's rates against scikit-learn, and where they are undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from fmbench.metrics import Counts, DetectionMetrics, accuracy, f1, fdr, mdr, miou
from fmbench.types import Batch, Prediction


def batch_of(labels: torch.Tensor, masks: torch.Tensor | None = None) -> Batch:
    return Batch(None, None, labels, masks)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(-4, 4)), min_size=2, max_size=60))
def test_rates_agree_with_scikit_learn(windows: list[tuple[bool, float]]) -> None:
    labels = torch.tensor([label for label, _ in windows]).long()
    margin = torch.tensor([value for _, value in windows])
    logits = torch.stack([-margin, margin], dim=1)
    gathered = DetectionMetrics(dense=False)
    half = len(labels) // 2
    for part in (slice(0, half), slice(half, None)):
        gathered.update(Prediction(logits[part]), batch_of(labels[part]))
    found = gathered.compute()
    truth, decided = labels.numpy(), logits.argmax(1).numpy()
    assert found["acc"] == pytest.approx(sklearn_metrics.accuracy_score(truth, decided))
    if truth.any() or decided.any():
        expected = sklearn_metrics.f1_score(truth, decided, zero_division=0)
        assert found["f1"] == pytest.approx(expected)
    if truth.any():
        assert found["mdr"] == pytest.approx(1 - sklearn_metrics.recall_score(truth, decided))
    if not truth.all():
        recall = sklearn_metrics.recall_score(truth, decided, pos_label=0)
        assert found["fdr"] == pytest.approx(1 - recall)
    if truth.any() and not truth.all():
        score = 1 - logits.softmax(1)[:, 0].numpy()
        area = sklearn_metrics.roc_auc_score(truth, score)
        assert found["auroc"] == pytest.approx(area, abs=1e-5)
        precision = sklearn_metrics.average_precision_score(truth, score)
        assert found["aupr"] == pytest.approx(precision, abs=1e-5)


def test_miou_pools_pixels_over_the_set_as_scikit_learn_does() -> None:
    draw = torch.Generator().manual_seed(0)
    gathered = DetectionMetrics(dense=True)
    truth, decided = [], []
    for size in (5, 2):
        masks = (torch.rand(size, 8, 8, generator=draw) < 0.2).long()
        logits = torch.randn(size, 2, 8, 8, generator=draw)
        gathered.update(
            Prediction(torch.randn(size, 2, generator=draw), logits),
            batch_of(masks.flatten(1).amax(1), masks),
        )
        truth.append(masks.flatten())
        decided.append(logits.argmax(1).flatten())
    expected = sklearn_metrics.jaccard_score(torch.cat(truth), torch.cat(decided), average="macro")
    assert gathered.compute()["miou"] == pytest.approx(expected)


def test_fdr_is_the_false_positive_rate_and_mdr_the_missed_share() -> None:
    counts = Counts(tn=90, fp=10, fn=5, tp=15)
    assert fdr(counts) == pytest.approx(0.1)
    assert mdr(counts) == pytest.approx(0.25)
    assert accuracy(counts) == pytest.approx(105 / 120)
    assert f1(counts) == pytest.approx(30 / 45)
    assert miou(counts) == pytest.approx((90 / 105 + 15 / 30) / 2)


def test_an_undefined_rate_is_nan_and_never_zero() -> None:
    only_normal = Counts(tn=10, fp=0, fn=0, tp=0)
    assert math.isnan(mdr(only_normal))
    assert math.isnan(f1(only_normal))
    assert fdr(only_normal) == 0
    assert miou(only_normal) == 1  # a class neither present nor predicted is excluded
    assert math.isnan(fdr(Counts(tn=0, fp=0, fn=1, tp=1)))
    assert all(math.isnan(rate(Counts(0, 0, 0, 0))) for rate in (accuracy, f1, fdr, mdr, miou))


def test_reset_discards_all_counts() -> None:
    gathered = DetectionMetrics(dense=False)
    prediction = Prediction(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    gathered.update(prediction, batch_of(torch.tensor([0, 1])))
    gathered.reset()
    gathered.update(prediction, batch_of(torch.tensor([1, 0])))
    assert gathered.compute()["acc"] == 1
    assert gathered.compute()["tp"] == 1


def test_masks_that_are_missing_are_named() -> None:
    with pytest.raises(ValueError, match="masks are to be evaluated"):
        DetectionMetrics(dense=True).update(
            Prediction(torch.zeros(2, 2)), batch_of(torch.zeros(2, dtype=torch.long))
        )


def test_table2_rows_agree_with_one_prevalence() -> None:
    """Acc, FDR, MDR of a row fix the share of abnormal windows: about 0.53 for FmFormer's."""
    acc, false, missed = 0.9836, 0.0216, 0.0116
    shares = np.linspace(0.3, 0.7, 4001)
    rows = [
        accuracy(
            Counts(tn=(1 - p) * (1 - false), fp=(1 - p) * false, fn=p * missed, tp=p * (1 - missed))
        )
        for p in shares
    ]
    assert shares[np.argmin(np.abs(np.array(rows) - acc))] == pytest.approx(0.53, abs=0.03)
