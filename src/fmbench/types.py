"""The three types that all rooms share: Problem, Batch and Prediction.

One shape legend for the project: B batch, T frames, H W pixels, L current samples, C channels,
N tokens, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # `fmbench --help` must answer without importing torch
    from torch import Tensor


FRAME_RATE = 25.0
"""Nominal frames per second (paper, Sec. IV-A)."""
CURRENT_RATE = 2
"""Samples of current per second (official-format 4.3)."""


class Modality(StrEnum):
    """The input of a detector: three-phase current, video, or both."""

    CURRENT = "current"
    VISUAL = "visual"
    CROSS = "cross"

    @property
    def has_video(self) -> bool:
        return self is not Modality.CURRENT

    @property
    def has_current(self) -> bool:
        return self is not Modality.VISUAL


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The inputs and outputs of a model. A model is built for one Problem.

    Attributes:
        modality: the inputs that a batch holds; the others are None.
        num_classes: K; class 0 is normal, class 1 abnormal.
        dense: whether the model predicts a mask of the anomaly as well as the class.
        frames: T, frames of a clip; the last one is at the label's instant.
        image_size: (H, W) in pixels.
        current_samples: L, samples of current; the last one is at the label's instant.
        current_channels: C, phases.

    Raises:
        ValueError: a size is not positive, fewer than 2 classes, or `dense` without video.
    """

    modality: Modality
    num_classes: int = 2
    dense: bool = False
    frames: int = 10
    image_size: tuple[int, int] = (64, 64)
    current_samples: int = 240
    current_channels: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "modality", Modality(self.modality))
        height, width = self.image_size
        object.__setattr__(self, "image_size", (int(height), int(width)))
        sizes = {
            "frames": self.frames,
            "image height": height,
            "image width": width,
            "current_samples": self.current_samples,
            "current_channels": self.current_channels,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}; it must be at least 1")
        if self.num_classes < 2:
            raise ValueError(f"num_classes is {self.num_classes}; it must be at least 2")
        if self.dense and not self.modality.has_video:
            raise ValueError(
                "dense is true, but current alone shows no picture; set dense to false"
            )


class Batch(NamedTuple):
    """Windows that end at the label's instant, in physical units. An absent modality is None.

    A NamedTuple because Lightning pins and moves tuples with None fields as they are.
    """

    video: Tensor | None
    """(B, 3, T, H, W) uint8, or float in the same 0-255 range."""
    current: Tensor | None
    """(B, L, C) float32, amperes, oldest first, CURRENT_RATE samples per second."""
    label: Tensor
    """(B,) int64, 1 = abnormal."""
    mask: Tensor | None = None
    """(B, H, W) integer (uint8 from the loader), 1 = abnormal."""
    recording: Tensor | None = None
    """(B,) int64: index of the window's recording in its part; for training, not a feature."""
    second: Tensor | None = None
    """(B,) int64: the label's instant, whole seconds since 1970; for training, not a feature."""


class Prediction(NamedTuple):
    """The output of a model for a Batch: always logits, never probabilities."""

    logits: Tensor
    """(B, K) float."""
    mask_logits: Tensor | None = None
    """(B, K, H, W) float, or None if the Problem is not dense."""
    aux: Mapping[str, Tensor] = MappingProxyType({})
    """Further losses by name, each a scalar; they are added to the loss without a weight."""
