"""Whether a recording's files have the rates and channels of its data set's `root.yaml`.

A data set with the benchmark's rates is not judged: its files are known to have odd seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fmbench.types import BENCHMARK, Channel, Plant

_FEW = 3
"""Whole seconds, or groups of samples, below which nothing is said about a rate."""


def other_frame_rate(seconds: NDArray[np.int64], plant: Plant) -> str | None:
    """What is wrong with the number of frames a second; None if it is the plant's, or unknown.

    Args:
        seconds: (N,) second of each frame.
        plant: its frame rate must be that of most seconds, within a tenth.
    """
    if plant.frame_rate == BENCHMARK.frame_rate:
        return None
    found = _usual(seconds)
    if found is None or abs(found - plant.frame_rate) <= 0.1 * plant.frame_rate:
        return None
    return f"has {found:.4g} frames a second, but root.yaml says {plant.frame_rate:g} (frame_rate)"


def other_current_rate(seconds: NDArray[np.int64], plant: Plant) -> str | None:
    """What is wrong with the number of samples a second; None if it is the plant's, or unknown.

    Args:
        seconds: (R,) sorted second of each sample.
        plant: its rate must be that of most samples.
    """
    if plant.current_rate == BENCHMARK.current_rate:
        return None
    present, counts = np.unique(seconds, return_counts=True)
    if len(present) <= _FEW:
        return None
    step, count = int(np.median(np.diff(present))), int(np.median(counts))
    if (step, count) == (plant.period, plant.samples):
        return None
    return (
        f"has {rate_words(step, count)}, but root.yaml says "
        f"{rate_words(plant.period, plant.samples)} (current_rate)"
    )


def rate_words(period: int, samples: int) -> str:
    """`2 samples a second`, `a sample every 5 s`."""
    if period == 1:
        return f"{samples} samples a second" if samples > 1 else "a sample a second"
    return f"{'a sample' if samples == 1 else f'{samples} samples'} every {period} s"


def in_amperes(channels: Sequence[Channel]) -> list[int] | slice:
    """Which columns of the values are currents in A: all, where there are no channels."""
    if not channels:
        return slice(None)
    return [k for k, each in enumerate(channels) if each.unit == "A"]


def other_channels(columns: Sequence[str], channels: Sequence[Channel]) -> str | None:
    """What is wrong with the columns of the currents; None if there are no channels, or these.

    Args:
        columns: of the file, without its time.
        channels: of `root.yaml`.
    """
    names = [each.name for each in channels]
    found = [str(name).strip() for name in columns]
    if not names or found == names:
        return None
    return f"has the columns {', '.join(found)}, but root.yaml says {', '.join(names)} (channels)"


def _usual(seconds: NDArray[np.int64]) -> float | None:
    """Frames a second of most seconds: the first and the last are in part, and others may have a
    gap. Of a rate below one a second, from the seconds between frames."""
    present, counts = np.unique(seconds, return_counts=True)
    inner = np.sort(counts[1:-1])
    if len(inner) < _FEW:
        return None
    if inner[-1] == 1:
        steps = np.sort(np.diff(present))
        quarter = len(steps) // 4
        return float(1 / steps[quarter : len(steps) - quarter].mean())
    quarter = len(inner) // 4
    return float(inner[quarter : len(inner) - quarter].mean())
