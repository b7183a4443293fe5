"""The types that all rooms share: Plant, Problem, Batch and Prediction.

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


class Channel(NamedTuple):
    """A column of a recording's currents."""

    name: str
    unit: str = "A"


@dataclass(frozen=True, kw_only=True)
class Plant:
    """The rates, channels, classes and frame size of a data set. The defaults are the benchmark's.

    Attributes:
        frame_rate: frames a second of the videos.
        current_rate: samples a second of the currents, or of any other process variables: a whole
            number, or 1 / n for one sample every n seconds (0.2: every 5 s).
        channels: of the currents; empty: any number of phases, in amperes.
        classes: their names; class 0 is normal. A frame of several abnormal classes has the highest
            one.
        frame_size: (H, W) in pixels of every frame; None: that of the recordings.

    Raises:
        ValueError: a rate that is not allowed, fewer than 2 classes, or two of one name.
    """

    frame_rate: float = FRAME_RATE
    current_rate: float = CURRENT_RATE
    channels: tuple[Channel, ...] = ()
    classes: tuple[str, ...] = ("normal", "abnormal")
    frame_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.frame_rate <= 1000:
            raise ValueError(f"frame_rate is {self.frame_rate:g}; it must be above 0, at most 1000")
        if not 0 < self.current_rate <= 1000:
            raise ValueError(
                f"current_rate is {self.current_rate:g}; it must be above 0, at most 1000"
            )
        whole = self.current_rate if self.current_rate >= 1 else 1 / self.current_rate
        if abs(whole - round(whole)) > 1e-6 * whole:
            raise ValueError(
                f"current_rate is {self.current_rate:g}; it must be a whole number of samples a "
                "second, or 1 / n for one sample every n seconds (0.2: every 5 s)"
            )
        if len(self.classes) < 2:
            raise ValueError(f"classes are {list(self.classes)}; normal and another one are needed")
        for what, names in (
            ("channels", [each.name for each in self.channels]),
            ("classes", list(self.classes)),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"two of the {what} have one name: {', '.join(names)}")

    @property
    def period(self) -> int:
        """Seconds from one group of samples to the next: 1, or n at a rate of 1 / n."""
        return max(1, round(1 / self.current_rate))

    @property
    def samples(self) -> int:
        """Samples of a period: the rate, or 1."""
        return max(1, round(self.current_rate))


BENCHMARK = Plant()
"""What the benchmark's recordings hold: 25 frames and 2 samples a second, normal and abnormal."""


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
        num_classes: K; class 0 is normal, all others are abnormal.
        dense: whether the model predicts a mask of the anomaly as well as the class.
        frames: T, frames of a clip; the last one is at the label's instant.
        image_size: (H, W) in pixels.
        current_samples: L, samples of current; the last one is at the label's instant.
        current_channels: C, phases.
        frame_rate: frames a second of the videos (clips hold every n-th frame).
        current_rate: samples of current a second.

    Raises:
        ValueError: a size or rate is not positive, fewer than 2 classes, or `dense` without video.
    """

    modality: Modality
    num_classes: int = 2
    dense: bool = False
    frames: int = 10
    image_size: tuple[int, int] = (64, 64)
    current_samples: int = 240
    current_channels: int = 3
    frame_rate: float = FRAME_RATE
    current_rate: float = CURRENT_RATE

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
        for name, rate in (("frame_rate", self.frame_rate), ("current_rate", self.current_rate)):
            if not rate > 0:
                raise ValueError(f"{name} is {rate}; it must be above 0")
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
    """(B, L, C) float32, amperes or the channels' units, oldest first, at the problem's
    `current_rate`."""
    label: Tensor
    """(B,) int64 class index in 0..K-1, 0 = normal; -1 without labels."""
    mask: Tensor | None = None
    """(B, H, W) integer (uint8 from the loader): class indices in 0..K-1, 0 = normal."""
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
