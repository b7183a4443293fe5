"""Three-phase current in some thirty numbers, for methods that do not learn from the samples."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

PER_PHASE = ("mean", "std", "min", "max", "mean_step", "max_step", "last", "low", "high")
"""What is said of each phase; see `current_features`."""

SPLIT = 0.125
"""Cycles per sample that part low from high: 0.25 Hz at two samples a second, of 1 Hz at most."""


def num_current_features(channels: int) -> int:
    """28 of three phases: nine of each, and the imbalance between them."""
    return len(PER_PHASE) * channels + 1


def current_features(current: Tensor) -> Tensor:
    """A window of standardised current in hand-made features: (B, L, C) -> (B, 9·C + 1).

    Give it what `Standardize` gives, not amperes: the map is the same for every window, so the
    level of the current stays in the features, and all of them are of order one. First nine of
    each phase, in the order of `PER_PHASE` and phases side by side: mean, standard deviation,
    smallest and largest value, mean and largest |difference| of neighbours, the last sample (the
    label's instant), variance below and above `SPLIT`; then the imbalance, which is how far the
    phases' means lie apart. The two variances add up to the square of the deviation (Parseval).

    Raises:
        ValueError: fewer than two samples, which have no difference.
    """
    samples = current.shape[1]
    if samples < 2:
        raise ValueError(f"{samples} samples of current; features need at least 2")
    x = current.float()
    step = x.diff(dim=1).abs()
    mean = x.mean(1)
    low, high = _variances(x)
    phases = torch.stack(
        [
            mean,
            x.std(1, correction=0),
            x.amin(1),
            x.amax(1),
            step.mean(1),
            step.amax(1),
            x[:, -1],
            low,
            high,
        ],
        dim=1,
    )  # (B, 9, C)
    imbalance = mean.amax(1, keepdim=True) - mean.amin(1, keepdim=True)
    return torch.cat([rearrange(phases, "b f c -> b (f c)"), imbalance], dim=1)


def _variances(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of slow and of fast changes, each (B, C): squared spectrum, without its constant part."""
    samples = x.shape[1]
    power = torch.fft.rfft(x, dim=1).abs().square() / samples**2
    frequency = torch.fft.rfftfreq(samples, device=x.device)
    # One half of the spectrum mirrors the other, but for the highest frequency of an even length.
    weight = torch.where(frequency < 0.5, 2.0, 1.0)
    power = power * weight.unsqueeze(-1)
    slow = math.ceil(SPLIT * samples)  # the first frequency, k / L, that is not below
    return power[:, 1:slow].sum(1), power[:, slow:].sum(1)
