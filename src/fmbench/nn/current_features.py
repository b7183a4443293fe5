"""Hand-made features of three-phase current, for methods that do not learn from the samples."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

PER_PHASE = ("mean", "std", "min", "max", "mean_step", "max_step", "last", "low", "high")
"""Names of the features of each phase; see `current_features`."""

SPLIT = 0.125
"""Boundary between low and high in cycles per sample: 0.25 Hz of at most 1 Hz at 2 samples/s."""


def num_current_features(channels: int) -> int:
    """9·C + 1: nine features of each phase and the imbalance; 28 for three phases."""
    return len(PER_PHASE) * channels + 1


def current_features(current: Tensor) -> Tensor:
    """Hand-made features of a window of standardised current: (B, L, C) -> (B, 9·C + 1).

    The input is the output of `Standardize`, not amperes: the map is the same for every window, so
    the features include the level of the current, and all of them are of order one. The first nine
    are per phase, in the order of `PER_PHASE` with phases side by side: mean, standard deviation,
    smallest and largest value, mean and largest |difference| of neighbours, the last sample (the
    label's instant), variance below and above `SPLIT`. The last is the imbalance, the range of the
    phases' means. Both variances add up to the squared standard deviation (Parseval).

    Raises:
        ValueError: there are fewer than two samples, which have no difference.
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
    """Variances below and above `SPLIT`, each (B, C): squared spectrum without the mean."""
    samples = x.shape[1]
    power = torch.fft.rfft(x, dim=1).abs().square() / samples**2
    frequency = torch.arange(samples // 2 + 1, device=x.device).float() * (1.0 / samples)
    # Both halves of the spectrum are alike, except the highest frequency of an even length.
    weight = torch.where(frequency < 0.5, 2.0, 1.0)
    power = power * weight.unsqueeze(-1)
    slow = math.ceil(SPLIT * samples)  # the first frequency, k / L, of at least SPLIT
    return power[:, 1:slow].sum(1), power[:, slow:].sum(1)
