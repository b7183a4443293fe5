"""The offset between two clocks, estimated from changes that both signals show.

Feeding, exhausting and unstable arcs change the picture and the currents at the same time. Both
are described twice a second, slow drift and fast noise are filtered out, and at each lag the
squared canonical correlations of the two are summed (Hotelling, 1936): with enough changes, the sum
peaks at the true lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Array = NDArray[np.float64]
_RATE = 2
"""Descriptions a second."""
FAST, SLOW = 3, 60
"""Standard deviations of the two Gaussians of the band-pass filter, in half seconds."""
NEAR = 12
"""Half seconds around the best lag that are excluded from the other lags."""
SURE = 9.0
"""Confidence from which an offset is used: over 129 sets of mismatched videos and currents, the
highest is 8.0 (benchmarks/offset.md; simulated)."""


class Described(NamedTuple):
    """A signal, twice a second."""

    start: float
    """Seconds since 1970 of the first row."""
    values: Array
    """(n, features)."""


class Offset(NamedTuple):
    """The offset to add to the video's clock.

    Attributes:
        seconds: the best lag.
        confidence: its distance above the other lags, in robust deviations.
        hours: length of both signals compared.
    """

    seconds: float
    confidence: float
    hours: float

    @property
    def sure(self) -> bool:
        """Whether the confidence suffices to use the offset."""
        return self.confidence >= SURE


def describe_frame(frame: NDArray[np.uint8]) -> Array:
    """(H, W, 3) of the furnace -> (5,): brightness, red, blue, the brightest, the spread."""
    grey = frame.mean(axis=2)
    return np.array(
        [
            grey.mean(),
            frame[..., 0].mean(),
            frame[..., 2].mean(),
            np.percentile(grey, 99),
            grey.std(),
        ]
    )


def describe_video(times: Array, frames: Iterable[Array]) -> Described:
    """Means of frame descriptions over each half second, interpolated where there are none.

    Args:
        times: (N,) seconds since 1970.
        frames: N results of `describe_frame`.
    """
    values = np.stack(list(frames))
    first = np.floor(times.min())
    at = np.floor((times - first) * _RATE + 1e-6).astype(np.int64)
    count = np.bincount(at)
    known = np.flatnonzero(count)
    grid = np.arange(len(count))
    columns = []
    for column in values.T:
        mean = np.bincount(at, column)[known] / count[known]
        columns.append(np.interp(grid, known, mean))
    return Described(float(first), np.log(np.stack(columns, axis=1) + 1))


def describe_currents(seconds: NDArray[np.int64], values: Array) -> Described:
    """(S,) consecutive seconds and (S, 2, C) amperes, NaN where nothing was logged -> level,
    fluctuation and spread among the phases."""
    flat = values.reshape(-1, values.shape[2])
    known = np.flatnonzero(np.isfinite(flat).all(axis=1))
    grid = np.arange(len(flat))
    amperes = np.stack([np.interp(grid, known, column[known]) for column in flat.T], axis=1)
    log = np.log(np.maximum(amperes, 1.0))
    fluctuation = np.abs(log - gaussian_filter1d(log, 2, axis=0)).mean(axis=1)
    rows = [
        log.mean(axis=1),
        np.log(gaussian_filter1d(fluctuation, 1) + 1e-4),
        np.log(gaussian_filter1d(log.std(axis=1), 1) + 1e-4),
    ]
    return Described(float(seconds[0]), np.stack(rows, axis=1))


def estimate(pairs: Sequence[tuple[Described, Described]], *, reach: float = 60.0) -> Offset:
    """The lag common to all recordings of one camera and one PLC.

    Args:
        pairs: video and currents of each recording.
        reach: largest offset of the clocks, in seconds.

    Raises:
        ValueError: less than four times `reach` can be compared at every lag.
    """
    lags = np.arange(-round(reach * _RATE), round(reach * _RATE) + 1)
    sums = [_Moments() for _ in lags]
    compared = 0
    for video, current in pairs:
        a, b = _changes(video.values), _changes(current.values)
        # Row i of a is row i - shift of b if the clocks agree, and row i + lag - shift if not.
        shift = round((current.start - video.start) * _RATE)
        first = max(0, shift - lags[0])
        last = min(len(a), len(b) + shift - lags[-1])
        if last <= first:
            continue
        for moments, lag in zip(sums, lags, strict=True):
            moments.add(a[first:last], b[first + lag - shift : last + lag - shift])
        compared += last - first
    if compared < 4 * reach * _RATE:
        raise ValueError(
            f"{compared / _RATE:.0f} s can be compared at every lag up to {reach:g} s, too few to"
            f" find an offset; give --offset in seconds, or at least {6 * reach:.0f} s of both"
        )
    found = np.array([moments.correlation() for moments in sums])
    best = int(found.argmax())
    others = found[np.abs(lags - lags[best]) > NEAR]
    spread = 1.4826 * float(np.median(np.abs(others - np.median(others))))
    confidence = (found[best] - np.median(others)) / max(spread, 1e-12)
    return Offset(
        float(lags[best] + _vertex(found, best)) / _RATE,
        float(confidence),
        compared / _RATE / 3600,
    )


class _Moments:
    """Sums of products at one lag, over all recordings."""

    def __init__(self) -> None:
        self.xy = self.xx = self.yy = np.zeros(())

    def add(self, x: Array, y: Array) -> None:
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        self.xy, self.xx, self.yy = self.xy + x.T @ y, self.xx + x.T @ x, self.yy + y.T @ y

    def correlation(self) -> float:
        """Sum of the squared canonical correlations."""
        half = np.linalg.solve(_root(self.xx), self.xy)
        whole = np.linalg.solve(_root(self.yy), half.T)
        return float((whole**2).sum())


def _root(matrix: Array) -> Array:
    """Cholesky factor, regularised: features may be linearly dependent."""
    small = 1e-6 * np.trace(matrix) + 1e-12
    return np.asarray(np.linalg.cholesky(matrix + small * np.eye(len(matrix))))


def _changes(values: Array) -> Array:
    """Band-pass filtered, in robust deviations, clipped at four."""
    kept = gaussian_filter1d(values, FAST, axis=0) - gaussian_filter1d(values, SLOW, axis=0)
    middle = np.median(kept, axis=0)
    spread = 1.4826 * np.median(np.abs(kept - middle), axis=0) + 1e-9
    return np.asarray(np.clip((kept - middle) / spread, -4, 4))


def _vertex(found: Array, best: int) -> float:
    """Vertex of the parabola through the best lag and its neighbours, in lags from the best."""
    if not 0 < best < len(found) - 1:
        return 0.0
    before, at, after = found[best - 1 : best + 2]
    curvature = before - 2 * at + after
    return float(0.5 * (before - after) / curvature) if curvature < 0 else 0.0
