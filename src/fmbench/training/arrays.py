"""Arrays in, scores out: a detector applied to windows that the caller has cut."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fmbench.types import Batch, Problem

LOWEST_CURRENT = 200.0
"""Amperes. A furnace in operation draws thousands; windows that stay below are in another unit."""


class Scores(NamedTuple):
    """Predictions of B windows.

    Attributes:
        score: (B,) float32 in [0, 1], the probability that a window is abnormal.
        probabilities: (B, K) float32, of each class; class 0 is normal.
        mask: (B, H, W) uint8, the class of each pixel; None if the model predicts no mask.
    """

    score: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    mask: NDArray[np.uint8] | None


def batch_of(
    problem: Problem,
    video: ArrayLike | Tensor | None,
    current: ArrayLike | Tensor | None,
    *,
    amperes: bool,
) -> Batch:
    """A Batch of arrays, without labels.

    Args:
        problem: of the detector.
        video: (B, 3, T, H, W), or (3, T, H, W) of one window: grey levels from 0 to 255.
        current: (B, L, C), or (L, C) of one window.
        amperes: whether the channels of `current` are amperes.

    Raises:
        ValueError: an input is missing, not read by the model, or has another shape or range.
    """
    given = {"video": video, "current": current}
    reads = {"video": problem.modality.has_video, "current": problem.modality.has_current}
    shapes: dict[str, tuple[int, ...]] = {
        "video": (3, problem.frames, *problem.image_size),
        "current": (problem.current_samples, problem.current_channels),
    }
    found: dict[str, Tensor | None] = {"video": None, "current": None}
    for name, values in given.items():
        if (values is None) == reads[name]:
            what = "is missing" if reads[name] else "is not read by it; leave it out"
            raise ValueError(f"{name}: the model takes {problem.modality} input, {name} {what}")
        if values is not None:
            found[name] = _windows(name, values, shapes[name])
    if found["video"] is not None:
        found["video"] = _grey_levels(found["video"])
    if found["current"] is not None:
        found["current"] = _currents(found["current"], amperes)
    counts = {len(each) for each in found.values() if each is not None}
    if len(counts) > 1:
        raise ValueError(
            f"video has {len(found['video'])} windows, current {len(found['current'])}"  # type: ignore[arg-type]
        )
    label = torch.zeros(counts.pop(), dtype=torch.int64)
    return Batch(found["video"], found["current"], label)


def _windows(name: str, values: Any, shape: tuple[int, ...]) -> Tensor:
    """A tensor (B, *shape).

    Raises:
        ValueError: another shape, or no numbers.
    """
    try:
        tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    except TypeError as error:
        raise ValueError(f"{name} holds no numbers: {error}") from None
    if tensor.ndim == len(shape):
        tensor = tensor[None]
    if tuple(tensor.shape[1:]) != shape or not len(tensor):
        axes = "(B, 3, T, H, W)" if name == "video" else "(B, samples, channels)"
        wanted = ", ".join(map(str, shape))
        raise ValueError(
            f"{name} has the shape {tuple(tensor.shape)}; the model takes (B, {wanted}), which is"
            f" {axes}"
        )
    return tensor


def _grey_levels(video: Tensor) -> Tensor:
    """uint8; of other numbers in 0-255, rounded."""
    if video.dtype == torch.uint8:
        return video
    low, high = float(video.min()), float(video.max())
    if not (low >= 0 and high <= 255):  # NaN included
        raise ValueError(f"video lies in {low:g} to {high:g}; grey levels are 0 to 255")
    if video.is_floating_point() and 0 < high <= 1:
        raise ValueError(
            f"video lies in {low:g} to {high:g}; grey levels are 0 to 255: multiply it by 255"
        )
    return video.round().to(torch.uint8)


def _currents(current: Tensor, amperes: bool) -> Tensor:
    """float32."""
    current = current.to(torch.float32)
    if not bool(current.isfinite().all()):
        raise ValueError("current holds values that are not numbers, or infinite")
    high = float(current.abs().max())
    if amperes and 0 < high < LOWEST_CURRENT:
        raise ValueError(
            f"current reaches {high:g} at most; the model takes amperes, and a furnace draws"
            " thousands: multiply kiloamperes by 1000"
        )
    return current
