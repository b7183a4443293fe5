"""Pictures within the page: frames, histograms, currents, spans of time."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fmbench.format.columns import stretches
from fmbench.types import BENCHMARK

COLUMNS = 300
"""Columns of a timeline or a trace: bounded by the screen and by the size of the page."""
LADDER = ((160, 85), (112, 80), (80, 70), (64, 50))
"""Longer side in pixels and JPEG quality, best first."""


def jpegs(frames: Sequence[NDArray[np.uint8]], most: int) -> list[str]:
    """Data URIs of (H, W, 3) frames, as good as `most` bytes in all allow."""
    for side, quality in LADDER:
        encoded = [_jpeg(frame, side, quality) for frame in frames]
        if sum(len(each) for each in encoded) <= most:
            break
    return encoded


def _jpeg(frame: NDArray[np.uint8], side: int, quality: int) -> str:
    height, width = frame.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return f"data:image/jpeg;base64,{b64encode(data.tobytes()).decode()}"


def histogram(counts: NDArray[np.int64], label: str) -> Markup:
    """(256,) counts of grey levels as 32 bars."""
    bars = counts.reshape(32, 8).sum(axis=1)
    high = np.round(20 * bars / max(1, bars.max())).astype(int)
    path = "".join(f"M{k} 20v-{h}h1v{h}" for k, h in enumerate(high) if h)
    return _svg("histogram", 32, 20, "bars", path, label)


def lane(spans: NDArray[np.bool_], kind: str, label: str) -> Markup:
    """(COLUMNS,) marked columns as bars along time."""
    path = "".join(f"M{a} 0H{b}V10H{a}z" for a, b in stretches(spans))
    return _svg("lane", COLUMNS, 10, kind, path, label)


def trace(
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    span: tuple[float, float],
    limits: tuple[float, float],
    kind: str,
    label: str,
    rate: float = BENCHMARK.current_rate,
) -> Markup:
    """A current as the band between the lowest and the highest value of each column.

    Args:
        times: (S,) seconds.
        values: (S,) amperes, or another unit.
        span: first and last second of the picture.
        limits: lowest and highest value of the picture.
        rate: samples a second.
    """
    count = int(np.clip((span[1] - span[0]) * rate, 1, COLUMNS))
    column = columns_of(times, span, count)
    low = np.full(count, np.inf)
    high = np.full(count, -np.inf)
    np.minimum.at(low, column, values)
    np.maximum.at(high, column, values)
    scale = 40 / max(limits[1] - limits[0], 1e-9)
    path = []
    for k in np.flatnonzero(np.isfinite(low)):
        least, most = low[k], high[k]
        if k and np.isfinite(low[k - 1]):  # bands of neighbours touch
            least, most = min(least, high[k - 1]), max(most, low[k - 1])
        top, bottom = ((limits[1] - each) * scale for each in (most, least))
        path.append(f"M{k} {max(top - 0.4, 0):.1f}h1V{min(bottom + 0.4, 40):.1f}h-1z")
    return _svg("trace", count, 40, kind, "".join(path), label)


def scores(
    times: NDArray[np.float64],
    values: NDArray[np.float64],
    alarm: NDArray[np.bool_],
    span: tuple[float, float],
    marks: Sequence[float],
    label: str,
) -> Markup:
    """Scores over time as a line that NaN interrupts, alarms as bars below, thresholds as lines.

    Args:
        times: (S,) seconds, ascending.
        values: (S,) in [0, 1], or NaN.
        alarm: (S,) whether there is an alarm.
        span: first and last second of the picture.
        marks: the thresholds.
        label: for readers who do not see it.
    """
    across = COLUMNS / max(span[1] - span[0], 1e-9)
    path, pen = [], "M"
    for time, value in zip(times, values, strict=True):
        if not np.isfinite(value):
            pen = "M"
            continue
        path.append(f"{pen}{(time - span[0]) * across:.1f} {50 - 48 * value:.1f}")
        pen = "L"
    lines = "".join(f"M0 {50 - 48 * mark:.1f}H{COLUMNS}" for mark in marks)
    marked_columns = marked(columns_of(times[alarm], span))
    bars = "".join(f"M{a} 53H{b}V60H{a}z" for a, b in stretches(marked_columns))
    return Markup(
        '<svg class="scores" viewBox="0 0 {} 60" preserveAspectRatio="none" role="img"'
        ' aria-label="{}"><path class="marks" d="{}"/><path class="score" d="{}"/>'
        '<path class="alarmed" d="{}"/></svg>'
    ).format(COLUMNS, label, lines, "".join(path), bars)


def columns_of(
    times: NDArray[np.float64], span: tuple[float, float], count: int = COLUMNS
) -> NDArray[np.int64]:
    """(n,) column, of `count`, of each time; times outside `span` are at the border."""
    share = (times - span[0]) / max(span[1] - span[0], 1e-9)
    return np.asarray((share * count).clip(0, count - 1), dtype=np.int64)


def marked(columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(COLUMNS,) true at `columns`."""
    found = np.zeros(COLUMNS, np.bool_)
    found[columns] = True
    return found


def _svg(picture: str, width: int, height: int, kind: str, path: str, label: str) -> Markup:
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-label="{}"><path class="{}" d="{}"/></svg>'
    ).format(picture, width, height, label, kind, path)
