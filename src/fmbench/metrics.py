"""The paper's rates (Sec. V-A); abnormal is the positive class.

Pure functions of counts, and a module that accumulates the counts over a data set.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision, BinaryConfusionMatrix

from fmbench.types import Batch, Prediction


class Counts(NamedTuple):
    """Numbers of windows (or pixels) by true class and decision: true/false, negative/positive."""

    tn: float
    fp: float
    fn: float
    tp: float


def accuracy(counts: Counts) -> float:
    """(TP + TN) / all; NaN if all counts are 0."""
    return _ratio(counts.tp + counts.tn, sum(counts))


def f1(counts: Counts) -> float:
    """2PR / (P + R) = 2TP / (2TP + FP + FN); NaN if no window is abnormal or classified so."""
    return _ratio(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn)


def fdr(counts: Counts) -> float:
    """FP / (TN + FP); NaN without a normal window.

    The paper's "false detection rate" is the false-positive rate, not the false discovery rate.
    """
    return _ratio(counts.fp, counts.tn + counts.fp)


def mdr(counts: Counts) -> float:
    """FN / (TP + FN), the missed detection rate. NaN without an abnormal window."""
    return _ratio(counts.fn, counts.tp + counts.fn)


def miou(counts: Counts) -> float:
    """Mean over the two classes of TP / (TP + FN + FP), pixels pooled over the data set.

    A class that is neither present nor predicted is excluded; NaN if both are.
    """
    both = [_ratio(counts.tn, counts.tn + counts.fp + counts.fn), iou(counts)]
    known = [iou for iou in both if not math.isnan(iou)]
    return _ratio(sum(known), len(known))


def iou(counts: Counts) -> float:
    """TP / (TP + FN + FP) of the abnormal pixels; NaN if none is abnormal or predicted so."""
    return _ratio(counts.tp, counts.tp + counts.fn + counts.fp)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


class DetectionMetrics(nn.Module):
    """Accumulates counts over a data set and all processes, and computes the rates.

    Args:
        dense: whether masks are evaluated as well.
    """

    def __init__(self, dense: bool) -> None:
        super().__init__()
        self.windows = BinaryConfusionMatrix()
        self.auroc = BinaryAUROC()
        self.aupr = BinaryAveragePrecision()
        self.pixels = BinaryConfusionMatrix() if dense else None

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Add one batch; the decision is the larger logit, for windows and for pixels.

        Raises:
            ValueError: masks are evaluated, but the prediction or the batch has none.
        """
        score = abnormal_probability(prediction.logits)
        self.windows.update(prediction.logits.argmax(1), batch.label)
        self.auroc.update(score, batch.label)
        self.aupr.update(score, batch.label)
        if self.pixels is not None:
            if prediction.mask_logits is None or batch.mask is None:
                raise ValueError("masks are to be evaluated, but the model or the data has none")
            self.pixels.update(prediction.mask_logits.argmax(1).flatten(), batch.mask.flatten())

    def compute(self) -> dict[str, float]:
        """The rates as fractions, and the counts of windows.

        Returns:
            acc, f1, fdr, mdr, auroc, aupr, with masks miou (each in [0, 1], or NaN where it is
            undefined); tn, fp, fn, tp.
        """
        windows = _counts(self.windows)
        normal, abnormal = windows.tn + windows.fp, windows.fn + windows.tp
        result = {
            "acc": accuracy(windows),
            "f1": f1(windows),
            "fdr": fdr(windows),
            "mdr": mdr(windows),
            "auroc": self.auroc.compute().item() if normal and abnormal else math.nan,
            "aupr": self.aupr.compute().item() if abnormal else math.nan,
        }
        if self.pixels is not None:
            result["miou"] = miou(_counts(self.pixels))
        return result | {name: float(count) for name, count in windows._asdict().items()}

    def reset(self) -> None:
        """Set all counts to 0."""
        for metric in self.children():
            metric.reset()  # type: ignore[operator]


def abnormal_probability(logits: Tensor) -> Tensor:
    """(B, K) logits to the (B,) probability in [0, 1] that a window is not normal (class 0)."""
    return 1 - logits.softmax(1)[:, 0]


def of_each_window(prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    """The values of each window from which every rate can be recomputed.

    Returns:
        Columns by name, each (B,), on the CPU: label and decision, int64; score, float32, the
        probability that the window is not normal; log_odds, float32, ln(score / (1 - score)), which
        does not saturate; with masks pixel_tn, pixel_fp, pixel_fn and pixel_tp, int64 counts.
    """
    logits = prediction.logits.float()
    columns = {
        "label": batch.label,
        "decision": logits.argmax(1),
        "score": abnormal_probability(logits),
        "log_odds": logits[:, 1:].logsumexp(1) - logits[:, 0],
    }
    if prediction.mask_logits is not None and batch.mask is not None:
        truth = batch.mask.flatten(1) > 0
        called = prediction.mask_logits.argmax(1).flatten(1) > 0
        for name, cell in zip(
            Counts._fields,
            (~truth & ~called, ~truth & called, truth & ~called, truth & called),
            strict=True,
        ):
            columns[f"pixel_{name}"] = cell.sum(1)
    return {name: column.cpu() for name, column in columns.items()}


def _counts(confusion: BinaryConfusionMatrix) -> Counts:
    return Counts(*confusion.compute().flatten().tolist())
