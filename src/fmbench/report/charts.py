"""Drawings of a report: values with their intervals, and learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

from fmbench.tables.intervals import Interval

WIDTH, HEIGHT = 600, 220
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 30
STYLES = 6
"""Number of line styles `line1`, `line2`, … of the style sheet."""


def whisker(interval: Interval, span: tuple[float, float], label: str) -> Markup:
    """A value as a dot on its interval, between the lowest and highest value of its column."""
    low, high = span
    scale = 96 / max(high - low, 1e-9)
    at = [
        2 + (end - low) * scale
        for end in (interval.value, interval.low, interval.high)
        if not math.isnan(end)
    ]
    line = f'<path d="M{at[1]:.1f} 5H{at[2]:.1f}"/>' if len(at) == 3 else ""
    return Markup(
        '<svg class="whisker" viewBox="0 0 100 10" role="img" aria-label="{}">{}'
        '<circle cx="{}" cy="5" r="2.4"/></svg>'
    ).format(label, Markup(line), f"{at[0]:.1f}")


def span_of(values: Sequence[Interval]) -> tuple[float, float]:
    """The lowest and highest end of some intervals."""
    ends = [end for each in values for end in each if not math.isnan(end)]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def curves(named: Mapping[str, Sequence[float]], label: str) -> Markup:
    """Values by epoch, a line a name; the vertical axis covers the values.

    Args:
        named: values of epoch 1, 2, … by name; none is empty.
        label: for readers who do not see it.
    """
    values = [value for each in named.values() for value in each if math.isfinite(value)]
    low, high = _round_limits(min(values), max(values))
    longest = max(map(len, named.values()))
    across = (WIDTH - LEFT - RIGHT) / max(longest - 1, 1)
    up = (HEIGHT - TOP - BOTTOM) / (high - low)

    def place(epoch: int, value: float) -> str:
        return f"{LEFT + epoch * across:.1f} {HEIGHT - BOTTOM - (value - low) * up:.1f}"

    parts = []
    for step in range(5):
        value = low + (high - low) * step / 4
        y = HEIGHT - BOTTOM - (value - low) * up
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="end">{value:.3g}</text>')
    for epoch in range(0, longest, max(1, math.ceil(longest / 10))):
        x = LEFT + epoch * across
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 10}" class="middle">{epoch + 1}</text>')
    for number, each in enumerate(named.values()):
        known = [(k, value) for k, value in enumerate(each) if math.isfinite(value)]
        style = f"line{number % STYLES + 1}"
        lines = (f"M{place(*a)}L{place(*b)}" for a, b in pairwise(known))
        parts.append(f'<path class="curve {style}" d="{"".join(lines)}"/>')
        if known:
            across_at, up_at = place(*known[-1]).split(" ")
            parts.append(f'<circle class="{style}" cx="{across_at}" cy="{up_at}" r="3.2"/>')
    return Markup(
        '<svg class="curves" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, HEIGHT, label, Markup("".join(parts)))


def _round_limits(low: float, high: float) -> tuple[float, float]:
    """Limits around some values that four equal steps divide at round numbers."""
    step = max(high - low, 0.02) / 4
    unit = 10.0 ** math.floor(math.log10(step))
    step = next(unit * size for size in (1, 2, 2.5, 5, 10) if unit * size >= step)
    start = math.floor(low / step) * step
    if start + 4 * step < high:
        step = next(unit * size for size in (2, 2.5, 5, 10, 20) if unit * size > step)
        start = math.floor(low / step) * step
    return start, start + 4 * step
