"""Range-based measures of scores and alarms. None of them is point-adjusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import stretches

Floats = NDArray[np.float64]


def vus_pr(scores: Sequence[Floats], labels: Sequence[NDArray[Any]], longest: int) -> float:
    """VUS-PR (Paparrizos et al., PVLDB 15(11), 2022): the area under the range-based curve of
    precision and recall, averaged over buffers of 0 to `longest` decisions.

    For a buffer of l decisions, a decision at distance d <= l/2 before or after an abnormal range
    has the label sqrt(1 - d/l). With it, TP is the sum of the labels of the decisions called
    abnormal, precision is TP over their number, and recall is TP over the mean of the sums of both
    labels, at most 1, times the share of the ranges, with their buffers, in which a decision is
    called abnormal. Every score is a threshold; the area is the sum of precision times the growth
    of recall.

    Args:
        scores: of each recording, (n,) any scale.
        labels: of each, (n,) 0 or 1.
        longest: L, in decisions.

    Returns:
        A value in [0, 1]; NaN if no decision is abnormal.
    """
    joined = np.concatenate(list(scores))
    truth = [np.asarray(each) > 0 for each in labels]
    positive = float(sum(each.sum() for each in truth))
    if not positive:
        return float("nan")
    order = np.argsort(-joined, kind="stable")
    ranked = joined[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of equal scores
    called = last + 1
    areas = []
    for buffer in range(longest + 1):
        extended = [with_buffer(each, buffer) for each in truth]
        weights = np.concatenate(extended)
        true = np.cumsum(weights[order])[last]
        tops = np.sort(
            [
                own[start:stop].max()
                for own, label in zip(scores, extended, strict=True)
                for start, stop in stretches(label > 0)
            ]
        )
        reached = 1 - np.searchsorted(tops, ranked[last]) / len(tops)
        recall = np.minimum(true / ((positive + weights.sum()) / 2), 1) * reached
        areas.append(float(np.sum(np.diff(recall, prepend=0.0) * true / called)))
    return float(np.mean(areas))


def with_buffer(abnormal: NDArray[np.bool_], buffer: int) -> Floats:
    """(n,) labels of a recording with buffers of `buffer` / 2 decisions at both sides."""
    label = abnormal.astype(np.float64)
    fall = np.sqrt(1 - np.arange(1, buffer // 2 + 1) / max(buffer, 1))
    for start, stop in stretches(abnormal):
        after, before = label[stop : stop + len(fall)], label[max(start - len(fall), 0) : start]
        after += fall[: len(after)]
        before += fall[: len(before)][::-1]
    return np.minimum(label, 1)


def event_f1(onsets: Floats, alarms: Floats, tolerance: float) -> float:
    """F1 of alarms against onsets: 2 hits / (alarms + onsets).

    A hit is a pair of an onset and the beginning of an alarm at most `tolerance` seconds apart;
    each belongs to one pair only.

    Args:
        onsets: (E,) seconds, ascending.
        alarms: (A,) seconds, ascending.
        tolerance: seconds.

    Returns:
        A value in [0, 1]; NaN if there is neither an onset nor an alarm.
    """
    hits = i = k = 0
    while i < len(onsets) and k < len(alarms):
        apart = alarms[k] - onsets[i]
        if abs(apart) <= tolerance:
            hits, i, k = hits + 1, i + 1, k + 1
        elif apart < 0:
            k += 1
        else:
            i += 1
    total = len(onsets) + len(alarms)
    return 2 * hits / total if total else float("nan")
