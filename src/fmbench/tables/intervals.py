"""Rates with their uncertainty: windows of one event resemble each other and are not independent.

What is independent are recordings, or, where a set has few, stretches of a recording around one
event each. These blocks are drawn again with replacement (bootstrap) or exchanged between two
detectors (permutation), with all their windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench import metrics
from fmbench.tables.results import PIXELS

Array = NDArray[np.float64]
FEW_RECORDINGS = 20
RESAMPLES = 2000
LEVEL = 0.95
COUNTED = ("acc", "f1", "fdr", "mdr", "miou")
RANKED = ("auroc", "aupr")


class Interval(NamedTuple):
    """A value and the ends of its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def blocks(windows: pd.DataFrame) -> NDArray[np.int64]:
    """(N,) number of the block that each window belongs to: its recording, or with fewer than
    FEW_RECORDINGS of them the stretch around one event, cut amid the normal windows between two."""
    recordings = windows["recording"].to_numpy()
    number = np.unique(recordings, return_inverse=True)[1]
    if number.max(initial=-1) + 1 >= FEW_RECORDINGS:
        return number
    out = np.zeros(len(windows), np.int64)
    first = 0
    for k in range(number.max(initial=-1) + 1):
        rows = np.flatnonzero(number == k)
        rows = rows[np.argsort(windows["frame"].to_numpy()[rows], kind="stable")]
        label = np.concatenate([[0], windows["label"].to_numpy()[rows] > 0, [0]]).astype(int)
        begins, ends = np.flatnonzero(np.diff(label) > 0), np.flatnonzero(np.diff(label) < 0)
        cuts = (ends[:-1] + begins[1:] + 1) // 2
        out[rows] = first + np.searchsorted(cuts, np.arange(len(rows)), side="right")
        first = int(out[rows].max()) + 1
    return out


def named_blocks(windows: pd.DataFrame) -> str:
    """What the blocks are: `40 recordings`, `23 events`."""
    count = int(blocks(windows).max()) + 1
    return f"{count} recordings" if count == windows["recording"].nunique() else f"{count} events"


def rates(windows: pd.DataFrame, weight: Array | None = None) -> dict[str, Array]:
    """Every rate of `fmbench.metrics`, (R,), with each window counted as often as `weight` says.

    Args:
        windows: label, decision, log_odds, and PIXELS where there are masks.
        weight: (R, N); once each, R = 1, if None.
    """
    weight = np.ones((1, len(windows))) if weight is None else weight
    found = _counted(*(weight @ part for part in _counts(windows)))
    return found | _ranked(windows, weight)


def intervals(
    seeds: Sequence[pd.DataFrame], *, resamples: int = RESAMPLES, level: float = LEVEL
) -> dict[str, Interval]:
    """Each rate's mean over seeds, and the interval that holds `level` of what other recordings
    (or events) would have given. All seeds are tested on the same windows.

    Raises:
        ValueError: seeds that were tested on different windows.
    """
    _check_same(seeds)
    values = _mean([rates(windows) for windows in seeds])
    drawn = _mean_of_resamples(seeds, resamples)
    tails = ((1 - level) / 2, (1 + level) / 2)
    return {
        name: Interval(float(values[name][0]), *(_quantile(drawn[name], tail) for tail in tails))
        for name in values
    }


class Comparison(NamedTuple):
    """How much higher a rate of A is than that of B.

    Attributes:
        difference: A - B, with its interval.
        p: share of exchanges of A and B, block by block, that differ at least as much; NaN for the
            rates that are not counts.
    """

    difference: Interval
    p: float


def compare(
    a: Sequence[pd.DataFrame],
    b: Sequence[pd.DataFrame],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Comparison]:
    """Paired comparison of two detectors on the same windows, seeds averaged.

    Raises:
        ValueError: they were tested on different windows.
    """
    _check_same([*a, *b])
    here, there = _mean([rates(w) for w in a]), _mean([rates(w) for w in b])
    drawn_a, drawn_b = _mean_of_resamples(a, resamples), _mean_of_resamples(b, resamples)
    p = _permuted(a, b, resamples)
    tails = ((1 - level) / 2, (1 + level) / 2)
    found = {}
    for name in here.keys() & there.keys():
        gap = drawn_a[name] - drawn_b[name]
        ends = [_quantile(gap, tail) for tail in tails]
        value = float(here[name][0] - there[name][0])
        found[name] = Comparison(Interval(value, *ends), p.get(name, np.nan))
    order = (*COUNTED, *RANKED)
    return {name: found[name] for name in order if name in found}


def _counts(windows: pd.DataFrame) -> tuple[Array, ...]:
    """(N, 4) windows by truth and decision, and where there are masks (N, 4) pixels."""
    cell = 2 * (windows["label"].to_numpy() > 0) + (windows["decision"].to_numpy() > 0)
    parts = [np.eye(4)[cell]]
    if all(name in windows for name in PIXELS):
        parts.append(windows[list(PIXELS)].to_numpy(np.float64))
    return tuple(parts)


def _counted(windows: Array, pixels: Array | None = None) -> dict[str, Array]:
    """Rates of (R, 4) counts tn, fp, fn, tp."""
    of_windows = [metrics.Counts(*row) for row in windows.tolist()]
    names = ("acc", "f1", "fdr", "mdr")
    found = {
        name: np.array([rate(counts) for counts in of_windows])
        for name, rate in zip(
            names, (metrics.accuracy, metrics.f1, metrics.fdr, metrics.mdr), strict=True
        )
    }
    if pixels is not None:
        found["miou"] = np.array([metrics.miou(metrics.Counts(*row)) for row in pixels.tolist()])
    return found


def _ranked(windows: pd.DataFrame, weight: Array) -> dict[str, Array]:
    """AUROC and average precision of weighted windows; scores that are equal count together."""
    score = windows["log_odds"].to_numpy()
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=np.inf))
    positive = windows["label"].to_numpy()[order] > 0
    auroc, aupr = [], []
    for row in weight:
        w = row[order]
        tp = np.cumsum(np.add.reduceat(w * positive, starts))
        fp = np.cumsum(np.add.reduceat(w * ~positive, starts))
        with np.errstate(invalid="ignore", divide="ignore"):
            hit, false = np.append(0, tp) / tp[-1], np.append(0, fp) / fp[-1]
            precision = np.where(tp + fp > 0, tp / (tp + fp), 0)
            auroc.append(np.sum(np.diff(false) * (hit[1:] + hit[:-1]) / 2))
            aupr.append(np.sum(np.diff(hit) * precision))
    return {"auroc": np.array(auroc), "aupr": np.array(aupr)}


def _drawn(count: int, resamples: int) -> Iterator[Array]:
    """(r, count) how often each block is drawn, some resamples at a time; always the same."""
    rng = np.random.default_rng(0)
    for start in range(0, resamples, 100):
        size = min(100, resamples - start)
        yield rng.multinomial(count, np.full(count, 1 / count), size).astype(np.float64)


def _mean_of_resamples(seeds: Sequence[pd.DataFrame], resamples: int) -> dict[str, Array]:
    """Each rate's mean over seeds in every resample, (resamples,)."""
    block = blocks(seeds[0])
    parts = [
        _mean([rates(windows, times[:, block]) for windows in seeds])
        for times in _drawn(int(block.max()) + 1, resamples)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _permuted(
    a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], resamples: int
) -> dict[str, float]:
    """Two-sided p of each counted rate, by exchanging A and B in a random half of the blocks."""
    block = blocks(a[0])
    count = int(block.max()) + 1
    rng = np.random.default_rng(0)
    swap = rng.random((resamples, count)) < 0.5
    swap[0] = False  # as it was
    weight = swap.astype(np.float64)[:, :, None]

    def by_block(windows: pd.DataFrame) -> list[Array]:
        return [
            np.stack([np.bincount(block, part[:, k], count) for k in range(4)], 1)
            for part in _counts(windows)
        ]

    def sums(mine: list[Array], other: list[Array]) -> list[Array]:
        return [((1 - weight) * m + weight * o).sum(1) for m, o in zip(mine, other, strict=False)]

    of_a, of_b = [by_block(w) for w in a], [by_block(w) for w in b]
    pairs = [(m, of_b[k % len(of_b)]) for k, m in enumerate(of_a)]
    first = _mean([_counted(*sums(m, o)) for m, o in pairs])
    pairs = [(o, of_a[k % len(of_a)]) for k, o in enumerate(of_b)]
    second = _mean([_counted(*sums(o, m)) for o, m in pairs])
    found = {}
    for name in first.keys() & second.keys():
        gap = np.abs(first[name] - second[name])
        found[name] = float(np.mean(gap >= gap[0] - 1e-12))
    return found


def _mean(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    common = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.mean([part[name] for part in parts], axis=0) for name in common}


def _quantile(values: Array, share: float) -> float:
    known = values[~np.isnan(values)]
    return float(np.quantile(known, share)) if len(known) else float("nan")


def _check_same(seeds: Sequence[pd.DataFrame]) -> None:
    first = seeds[0][["recording", "frame", "label"]]
    for other in seeds[1:]:
        if not first.equals(other[["recording", "frame", "label"]]):
            raise ValueError("these rows were tested on different windows; they cannot be paired")
