"""Standardisation inside the model, so that a checkpoint holds the statistics."""

from __future__ import annotations

from typing import Literal, Self

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Statistics of ImageNet, grey levels in [0, 1], as in timm."""


class Standardize(nn.Module):
    """(x - mean) / std for each channel, with statistics of the training part.

    Use `Standardize.video()` or `Standardize.current(channels)`. Until a fit sets the statistics,
    amperes are unchanged and grey levels are divided by 255.

    Args:
        source: the input that the statistics describe.
        mean: (C,) in the input's unit.
        std: (C,) in the input's unit.
        axis: axis of the channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, source: Literal["video", "current"], mean: Tensor, std: Tensor, axis: int
    ) -> None:
        super().__init__()
        self.source = source
        self.axis = axis
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

    @classmethod
    def video(cls, channels: int = 3) -> Self:
        """For (B, C, T, H, W), 0-255."""
        return cls("video", torch.zeros(channels), torch.full((channels,), 255.0), axis=1)

    @classmethod
    def current(cls, channels: int = 3) -> Self:
        """For (B, L, C), amperes."""
        return cls("current", torch.zeros(channels), torch.ones(channels), axis=2)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Set the statistics of the training part, each (C,).

        Raises:
            ValueError: the number of channels differs, or a deviation is not positive.
        """
        if mean.shape != self.mean.shape or std.shape != self.std.shape:
            raise ValueError(
                f"statistics for {len(mean)} channels of {self.source}; "
                f"the model was built for {len(self.mean)}"
            )
        if not bool((std > 0).all()):
            raise ValueError(
                f"a channel of {self.source} is constant over the training part (deviation "
                f"{std.tolist()}); check the recordings"
            )
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape, float32."""
        shape = [1] * x.ndim
        shape[self.axis] = -1
        return (x - self.mean.view(shape)) / self.std.view(shape)


class ImageNet(Standardize):
    """ImageNet's statistics instead of the recordings', for encoders pretrained on it.

    For (B, 3, T, H, W) or (B, 3, H, W), 0-255."""

    def __init__(self) -> None:
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        super().__init__("video", 255 * mean, 255 * std, axis=1)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Keep ImageNet's statistics."""
