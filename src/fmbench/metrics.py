"""The paper's rates (Sec. V-A); abnormal is the positive class.

Pure functions of counts, and a module that accumulates the counts over a data set. With K > 2
classes, accuracy and mIoU are those of K classes, macro F1, recalls and precisions are added, and
the other rates are those of normal (class 0) against all others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryConfusionMatrix,
    MulticlassConfusionMatrix,
)

from fmbench.types import BENCHMARK, Batch, Prediction

Array = NDArray[np.float64]
LOG_P = "log_p_"
"""Before a class's name: the column of its log-probability (`of_each_window`)."""


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


def class_rates(confusion: NDArray[Any], classes: Sequence[str]) -> dict[str, Array]:
    """Rates of K classes, each NaN where it is undefined.

    Args:
        confusion: (..., K, K) numbers of windows by true class (rows) and decision (columns).
        classes: names of the K classes.

    Returns:
        acc, the share of right decisions; macro_f1, the mean over classes of 2TP / (2TP + FP + FN),
        without those that are neither present nor predicted; recall_NAME, TP / (TP + FN), and
        precision_NAME, TP / (TP + FP), of each class. Each of shape (...).
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)  # (..., K)
    present, decided = confusion.sum(-1), confusion.sum(-2)
    recall, precision = _ratios(right, present), _ratios(right, decided)
    found = {
        "acc": _ratios(right.sum(-1), confusion.sum((-2, -1))),
        "macro_f1": _mean_of_known(_ratios(2 * right, present + decided)),
    }
    for k, name in enumerate(classes):
        found |= {f"recall_{name}": recall[..., k], f"precision_{name}": precision[..., k]}
    return found


def names_of_rates(classes: Sequence[str]) -> list[str]:
    """The keys of `class_rates`, but for acc."""
    shape = (len(classes), len(classes))
    return [name for name in class_rates(np.ones(shape), classes) if name != "acc"]


def class_miou(both: NDArray[Any], either: NDArray[Any]) -> Array:
    """Mean IoU over K classes, of (..., K) pixels that are of a class in truth and prediction, and
    in one of them; a class with none of either is excluded, NaN if all are."""
    return _mean_of_known(_ratios(both, either))


def against_normal(confusion: NDArray[Any]) -> Counts:
    """Normal against all other classes, from a (K, K) confusion matrix."""
    abnormal = confusion[1:]
    return Counts(
        tn=float(confusion[0, 0]),
        fp=float(confusion[0, 1:].sum()),
        fn=float(abnormal[:, 0].sum()),
        tp=float(abnormal[:, 1:].sum()),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _ratios(part: NDArray[Any], whole: NDArray[Any]) -> Array:
    found = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found


def _mean_of_known(values: Array) -> Array:
    known = ~np.isnan(values)
    return _ratios(np.where(known, values, 0).sum(-1), known.sum(-1))


class DetectionMetrics(nn.Module):
    """Accumulates counts over a data set and all processes, and computes the rates.

    Args:
        dense: whether masks are evaluated as well.
        classes: names of the K classes; class 0 is normal.
    """

    def __init__(self, dense: bool, classes: Sequence[str] = BENCHMARK.classes) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.windows = _confusion(len(classes))
        self.auroc = BinaryAUROC()
        self.aupr = BinaryAveragePrecision()
        self.pixels = _confusion(len(classes)) if dense else None

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Add one batch; the decision is the larger logit, for windows and for pixels.

        Raises:
            ValueError: masks are evaluated, but the prediction or the batch has none.
        """
        score = abnormal_probability(prediction.logits)
        self.windows.update(prediction.logits.argmax(1), batch.label)
        abnormal = batch.label.clamp(max=1)
        self.auroc.update(score, abnormal)
        self.aupr.update(score, abnormal)
        if self.pixels is not None:
            if prediction.mask_logits is None or batch.mask is None:
                raise ValueError("masks are to be evaluated, but the model or the data has none")
            self.pixels.update(prediction.mask_logits.argmax(1).flatten(), batch.mask.flatten())

    def compute(self) -> dict[str, float]:
        """The rates as fractions, and the counts of windows.

        Returns:
            acc, f1, fdr, mdr, auroc, aupr, with K > 2 those of `class_rates`, with masks miou (each
            in [0, 1], or NaN where it is undefined); tn, fp, fn, tp.
        """
        confusion = _numbers(self.windows)
        windows = against_normal(confusion)
        normal, abnormal = windows.tn + windows.fp, windows.fn + windows.tp
        result = {
            "acc": accuracy(windows),
            "f1": f1(windows),
            "fdr": fdr(windows),
            "mdr": mdr(windows),
            "auroc": self.auroc.compute().item() if normal and abnormal else math.nan,
            "aupr": self.aupr.compute().item() if abnormal else math.nan,
        }
        if len(self.classes) > 2:
            of_classes = class_rates(confusion, self.classes)
            result |= {name: float(rate) for name, rate in of_classes.items()}
        if self.pixels is not None:
            pixels = _numbers(self.pixels)
            both = np.diagonal(pixels)
            either = pixels.sum(0) + pixels.sum(1) - both
            binary = len(self.classes) == 2
            result["miou"] = (
                miou(against_normal(pixels)) if binary else float(class_miou(both, either))
            )
        return result | {name: float(count) for name, count in windows._asdict().items()}

    def reset(self) -> None:
        """Set all counts to 0."""
        for metric in self.children():
            metric.reset()  # type: ignore[operator]


def abnormal_probability(logits: Tensor) -> Tensor:
    """(B, K) logits to the (B,) probability in [0, 1] that a window is not normal (class 0)."""
    return 1 - logits.softmax(1)[:, 0]


def of_each_window(
    prediction: Prediction, batch: Batch, classes: Sequence[str] = BENCHMARK.classes
) -> dict[str, Tensor]:
    """The values of each window from which every rate can be recomputed.

    Args:
        prediction: of the batch.
        batch: with its labels.
        classes: names of the K classes.

    Returns:
        Columns by name, each (B,), on the CPU: label and decision, int64; score, float32, the
        probability that the window is not normal; log_odds, float32, ln(score / (1 - score)), which
        does not saturate; with masks pixel_tn, pixel_fp, pixel_fn and pixel_tp, int64 counts of
        abnormal and normal pixels. With K > 2, LOG_P and the name of each class, float32, and with
        masks the columns of `class_pixels`, int64.
    """
    logits = prediction.logits.float()
    columns = {
        "label": batch.label,
        "decision": logits.argmax(1),
        "score": abnormal_probability(logits),
        "log_odds": logits[:, 1:].logsumexp(1) - logits[:, 0],
    }
    if len(classes) > 2:
        log_p = logits.log_softmax(1)
        columns |= {f"{LOG_P}{name}": log_p[:, k] for k, name in enumerate(classes)}
    if prediction.mask_logits is not None and batch.mask is not None:
        of_truth = batch.mask.flatten(1)
        of_called = prediction.mask_logits.argmax(1).flatten(1)
        truth, called = of_truth > 0, of_called > 0
        for name, cell in zip(
            Counts._fields,
            (~truth & ~called, ~truth & called, truth & ~called, truth & called),
            strict=True,
        ):
            columns[f"pixel_{name}"] = cell.sum(1)
        for k, (both, either) in enumerate(class_pixels(len(classes))):
            columns[both] = ((of_truth == k) & (of_called == k)).sum(1)
            columns[either] = ((of_truth == k) | (of_called == k)).sum(1)
    return {name: column.cpu() for name, column in columns.items()}


def class_pixels(num_classes: int) -> list[tuple[str, str]]:
    """For each class the columns of `of_each_window` that count its pixels in both of truth and
    prediction, and in either; none for two classes, where those of `Counts` suffice."""
    if num_classes == 2:
        return []
    return [(f"pixel_both_{k}", f"pixel_either_{k}") for k in range(num_classes)]


def classes_of(columns: Iterable[object]) -> tuple[str, ...]:
    """The names of the classes, from the names of the columns of `of_each_window`."""
    found = [str(name).removeprefix(LOG_P) for name in columns if str(name).startswith(LOG_P)]
    return tuple(found) or BENCHMARK.classes


def _confusion(num_classes: int) -> BinaryConfusionMatrix | MulticlassConfusionMatrix:
    return BinaryConfusionMatrix() if num_classes == 2 else MulticlassConfusionMatrix(num_classes)


def _numbers(confusion: BinaryConfusionMatrix | MulticlassConfusionMatrix) -> Array:
    """(K, K) by true class and decision."""
    numbers: Array = confusion.compute().cpu().numpy().astype(np.float64)
    return numbers
