"""A temperature for the logits, chosen on validation recordings, and how well probabilities fit."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

Floats = NDArray[np.float64]
BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
"""Range of the temperature."""


def best_temperature(logits: NDArray[Any], label: NDArray[np.int64]) -> float:
    """The temperature at which the mean negative log-likelihood is least (Guo et al., 2017).

    Args:
        logits: (n, K).
        label: (n,) class indices.
    """
    values = np.asarray(logits, np.float64)
    rows = np.arange(len(label))

    def loss(log_temperature: float) -> float:
        scaled = values / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[rows, label]))

    bounds = (np.log(COLDEST), np.log(HOTTEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


class Reliability(NamedTuple):
    """How often windows of a stated probability are abnormal.

    Attributes:
        stated, observed: (BINS,) mean probability and share of abnormal windows; NaN in empty bins.
        windows: (BINS,) their number.
        ece: expected calibration error: the mean of |stated - observed|, weighted by their number.
    """

    stated: Floats
    observed: Floats
    windows: NDArray[np.int64]
    ece: float


def reliability(probability: Floats, abnormal: NDArray[np.bool_]) -> Reliability:
    """Compare (n,) probabilities of abnormal with what was so, in bins of equal width."""
    place = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):
        stated = np.bincount(place, probability, BINS) / count
        observed = np.bincount(place, abnormal.astype(np.float64), BINS) / count
    full = count > 0
    gap = np.abs(stated - observed)[full]
    return Reliability(stated, observed, count, float(np.average(gap, weights=count[full])))
