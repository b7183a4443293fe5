"""Rates with their uncertainty: windows of one event resemble each other and are not independent.

The independent units (blocks) are recordings or, in a set of few recordings, stretches of a
recording around two events each: stretches of one event share the normal windows between them with
their neighbours and give intervals that are too short. Intervals leave out blocks one by one
(jackknife); comparisons exchange blocks between two detectors (permutation). In simulations the
jackknife covers more than the bootstrap's percentiles, which are too narrow where rare events are
hard.

Seeds are not blocks: every seed is tested on the same blocks. With several seeds, the variance of
their mean has a part from the blocks (the jackknife of the mean) and a part from the seeds (their
variance, divided by their number, less what their different errors in the same blocks explain), as
in a crossed design of two random factors. The degrees of freedom are Satterthwaite's. With one
seed, the interval holds what the same training would have given on other recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t as student

from fmbench import metrics
from fmbench.tables.results import PIXELS

Array = NDArray[np.float64]
Scale = Callable[[Array], Array]
FEW_RECORDINGS = 20
EXCHANGES = 2000
LEVEL = 0.95
COUNTED = {
    "acc": metrics.accuracy,
    "f1": metrics.f1,
    "fdr": metrics.fdr,
    "mdr": metrics.mdr,
}


class Interval(NamedTuple):
    """A value and the ends of its interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def blocks(windows: pd.DataFrame) -> NDArray[np.int64]:
    """(N,) number of the block that each window belongs to: its recording, or with fewer than
    FEW_RECORDINGS of them a stretch around two events (three at the end of an odd number), cut amid
    the normal windows between events."""
    recordings = windows["recording"].to_numpy()
    number = np.unique(recordings, return_inverse=True)[1]
    count = int(number.max(initial=-1)) + 1
    if count >= FEW_RECORDINGS:
        return number
    out = np.zeros(len(windows), np.int64)
    first = 0
    for k in range(count):
        rows = np.flatnonzero(number == k)
        rows = rows[np.argsort(windows["frame"].to_numpy()[rows], kind="stable")]
        label = np.concatenate([[0], windows["label"].to_numpy()[rows] > 0, [0]]).astype(int)
        begins, ends = np.flatnonzero(np.diff(label) > 0), np.flatnonzero(np.diff(label) < 0)
        cuts = ((ends[:-1] + begins[1:] + 1) // 2)[1::2]
        cuts = cuts[:-1] if len(begins) % 2 else cuts
        out[rows] = first + np.searchsorted(cuts, np.arange(len(rows)), side="right")
        first = int(out[rows].max()) + 1
    return out


def named_blocks(windows: pd.DataFrame) -> str:
    """The number and kind of blocks: `40 recordings`, `11 stretches of two events`."""
    count, recordings = int(blocks(windows).max()) + 1, windows["recording"].nunique()
    if recordings >= FEW_RECORDINGS:
        return f"{count} recordings"
    return f"{count} stretches of two events"


def rates(windows: pd.DataFrame, weight: Array | None = None) -> dict[str, Array]:
    """Every rate of `fmbench.metrics`, (R,), with each window counted as often as `weight` says.

    Args:
        windows: label, decision, log_odds, and PIXELS where there are masks; with K > 2 classes all
            columns of `fmbench.metrics.of_each_window` but score.
        weight: (R, N); once each, R = 1, if None.
    """
    weight = np.ones((1, len(windows))) if weight is None else weight
    classes = metrics.classes_of(windows)
    found = _counted(classes, *(weight @ part for part in _counts(windows, classes)))
    return found | _ranked(windows, weight)


def intervals(seeds: Sequence[pd.DataFrame], *, level: float = LEVEL) -> dict[str, Interval]:
    """Each rate's mean over seeds, and the interval that holds `level` of what other recordings
    (or events) and, with several seeds, other seeds would have given: Student's, on the scale of
    log-odds. All seeds are tested on the same windows.

    A rate of 0 or 1 has none on that scale; its open end is the binomial one, a trial a block. One
    block gives values without intervals.

    Raises:
        ValueError: seeds that were tested on different windows.
    """
    _check_same(seeds)
    least = 0.5 / len(seeds[0])  # avoids logit(0) when one block holds all errors

    def log_odds(rate: Array) -> Array:
        return np.asarray(logit(np.clip(rate, least, 1 - least)))

    found = {}
    for name, values in _jackknife(seeds).items():
        value, count = float(values[:, 0].mean()), values.shape[1] - 1
        reach = _reach([_of_blocks(values, log_odds), _of_seeds(values, log_odds)], level)
        middle = log_odds(np.array(value))
        low, high = float(expit(middle - reach)), float(expit(middle + reach))
        if count > 1 and value in (0, 1):
            open_end = 1 - ((1 - level) / 2) ** (1 / count)
            low, high = (0.0, open_end) if value == 0 else (1 - open_end, 1.0)
        found[name] = Interval(value, low, high)
    return found


class Comparison(NamedTuple):
    """How much higher a rate of A is than that of B.

    Attributes:
        difference: A - B, with its interval.
        p: share of exchanges of A and B, block by block, that differ at least as much; NaN for the
            rates that are not counts, and with one block. It takes the seeds as they are.
    """

    difference: Interval
    p: float


def compare(
    a: Sequence[pd.DataFrame],
    b: Sequence[pd.DataFrame],
    *,
    exchanges: int = EXCHANGES,
    level: float = LEVEL,
) -> dict[str, Comparison]:
    """Paired comparison of two detectors on the same windows, seeds averaged.

    Raises:
        ValueError: they were tested on different windows.
    """
    _check_same([*a, *b])
    p = _permuted(a, b, exchanges)
    here, there = _jackknife(a), _jackknife(b)
    found = {}
    for name in here:
        if name not in there:
            continue
        mine, theirs = here[name], there[name]
        gap = mine.mean(0) - theirs.mean(0)
        parts = [_of_blocks(gap[None], _same), _of_seeds(mine, _same), _of_seeds(theirs, _same)]
        reach = _reach(parts, level)
        value = float(gap[0])
        found[name] = Comparison(Interval(value, value - reach, value + reach), p.get(name, np.nan))
    return found


def _jackknife(seeds: Sequence[pd.DataFrame]) -> dict[str, Array]:
    """Each rate, (S, 1 + C): a row a seed; all windows, then without each block."""
    block = blocks(seeds[0])
    without = (np.arange(block.max() + 1)[:, None] != block).astype(np.float64)
    weight = np.concatenate([np.ones((1, len(block))), without])
    of_each = [rates(windows, weight) for windows in seeds]
    common = [name for name in of_each[0] if all(name in found for found in of_each)]
    return {name: np.stack([found[name] for found in of_each]) for name in common}


class _Part(NamedTuple):
    """A part of the variance of a mean, and its degrees of freedom."""

    variance: float
    degrees: int


def _of_blocks(values: Array, scale: Scale) -> _Part:
    """The variance that the blocks give the mean of (S, 1 + C) values of `_jackknife`; NaN where
    the value, or all but one of those without a block, is undefined."""
    known = _known(values)
    if known.shape[1] < 2 or np.isnan(values[:, 0]).any():
        return _Part(np.nan, 1)
    return _Part(_jackknifed(scale(known.mean(0))), known.shape[1] - 1)


def _of_seeds(values: Array, scale: Scale) -> _Part:
    """The variance that S seeds give their mean, beyond what their different errors in the same
    blocks explain: that is a part of `_of_blocks` already. 0 with one seed."""
    count, known = len(values), _known(values)
    if count == 1 or not known.size:
        return _Part(0, 1)
    apart = float(np.mean([_jackknifed(scale(row)) for row in known]))
    shared = _jackknifed(scale(known.mean(0)))
    explained = max(0.0, (apart - shared) / (count - 1))
    found = float(np.var(scale(values[:, 0]), ddof=1)) / count
    return _Part(max(0.0, found - explained), count - 1)


def _known(values: Array) -> Array:
    """The values without a block that every seed has, (S, up to C)."""
    without = values[:, 1:]
    return without[:, ~np.isnan(without).any(0)]


def _jackknifed(without: Array) -> float:
    """The jackknife's variance from C values without a block each."""
    count = len(without)
    return float((count - 1) / count * np.sum((without - without.mean()) ** 2))


def _reach(parts: Sequence[_Part], level: float) -> float:
    """Half the length of Student's interval of a value with these parts of variance."""
    total = sum(part.variance for part in parts)
    if total == 0:
        return 0.0
    degrees = total**2 / sum(part.variance**2 / part.degrees for part in parts)
    return float(student.ppf((1 + level) / 2, degrees) * np.sqrt(total))


def _same(values: Array) -> Array:
    return values


def _counts(windows: pd.DataFrame, classes: Sequence[str]) -> tuple[Array, ...]:
    """(N, K²) windows by truth and decision, and where there are masks (N, 4) pixels of normal and
    abnormal, with K > 2 also (N, 2K) those of `metrics.class_pixels`."""
    top = len(classes) - 1
    label, decision = (windows[name].to_numpy().clip(0, top) for name in ("label", "decision"))
    parts = [np.eye((top + 1) ** 2)[(top + 1) * label + decision]]
    if all(name in windows for name in PIXELS):
        parts.append(windows[list(PIXELS)].to_numpy(np.float64))
        if of_classes := metrics.class_pixels(len(classes)):
            columns = [name for pair in of_classes for name in pair]
            parts.append(windows[columns].to_numpy(np.float64))
    return tuple(parts)


def _counted(
    classes: Sequence[str],
    windows: Array,
    pixels: Array | None = None,
    class_pixels: Array | None = None,
) -> dict[str, Array]:
    """Rates of (R, ...) sums of `_counts`."""
    confusion = windows.reshape(-1, len(classes), len(classes))
    of_windows = [metrics.against_normal(each) for each in confusion]
    found = {name: np.array([rate(row) for row in of_windows]) for name, rate in COUNTED.items()}
    if len(classes) > 2:
        found |= metrics.class_rates(confusion, classes)
    if pixels is not None:
        of_pixels = [metrics.Counts(*row) for row in pixels.tolist()]
        found["miou"] = np.array([metrics.miou(row) for row in of_pixels])
        found["iou"] = np.array([metrics.iou(row) for row in of_pixels])
    if class_pixels is not None:
        found["miou"] = metrics.class_miou(class_pixels[:, ::2], class_pixels[:, 1::2])
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


def _permuted(
    a: Sequence[pd.DataFrame], b: Sequence[pd.DataFrame], exchanges: int
) -> dict[str, float]:
    """Two-sided p of each counted rate, by exchanging A and B in a random half of the blocks."""
    block, classes = blocks(a[0]), metrics.classes_of(a[0])
    count = int(block.max()) + 1
    if count == 1:
        return {}
    swap = (np.random.default_rng(0).random((exchanges, count)) < 0.5).astype(np.float64)
    swap[0] = 0  # the observed assignment

    def by_block(windows: pd.DataFrame) -> list[Array]:
        belongs = np.eye(count)[block].T  # (C, N)
        return [belongs @ part for part in _counts(windows, classes)]

    def exchanged(mine: list[list[Array]], others: list[list[Array]]) -> dict[str, Array]:
        """Rates, (exchanges,), of `mine` with the exchanged blocks from `others`; seeds pair up."""
        pairs = [(each, others[k % len(others)]) for k, each in enumerate(mine)]
        return _mean(
            [
                _counted(classes, *((1 - swap) @ m + swap @ o for m, o in zip(*pair, strict=False)))
                for pair in pairs
            ]
        )

    of_a, of_b = [by_block(each) for each in a], [by_block(each) for each in b]
    first, second = exchanged(of_a, of_b), exchanged(of_b, of_a)
    found = {}
    for name in first.keys() & second.keys():
        gap = np.abs(first[name] - second[name])
        found[name] = float(np.mean(gap >= gap[0] - 1e-12))
    return found


def _mean(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    common = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: np.mean([part[name] for part in parts], axis=0) for name in common}


def _check_same(seeds: Sequence[pd.DataFrame]) -> None:
    first = seeds[0][["recording", "frame", "label"]]
    for other in seeds[1:]:
        if not first.equals(other[["recording", "frame", "label"]]):
            raise ValueError("these rows were tested on different windows; they cannot be paired")
