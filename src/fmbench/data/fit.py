"""Frames of one size for a model of another: resized or padded, and masks mapped back."""

from __future__ import annotations

from typing import Literal, NamedTuple, Self, get_args

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from fmbench.data.recording import Recording, stored_size
from fmbench.data.windows import check_choice

Way = Literal["resize", "pad"]
Size = tuple[int, int]


class Fit(NamedTuple):
    """How frames get the size that a model reads.

    Attributes:
        way: resize, frames by antialiased bilinear interpolation and masks by nearest pixel; or
            pad, zeros at the right and bottom of both.
        size: (H, W) of the result.
    """

    way: Way
    size: Size

    @classmethod
    def of(cls, way: Way | None, size: Size | None) -> Self | None:
        """From the options `fit` and `image_size`; None if frames stay as stored.

        Raises:
            ValueError: one option without the other, or a value that is not allowed.
        """
        if way is None and size is None:
            return None
        if size is None:
            raise ValueError(f"fit is {way}, but image_size is not set: give [height, width]")
        if way is None:
            raise ValueError("image_size is set, but fit is not: give resize or pad")
        check_choice("fit", way, get_args(Way))
        height, width = size
        if min(height, width) < 1:
            raise ValueError(f"image_size is {list(size)}; it must be at least [1, 1]")
        return cls(way, (int(height), int(width)))

    def shape(self, recording: Recording) -> Size:
        """The last two axes of a recording's fitted frames, in the order in which it stores them.

        Raises:
            ValueError: padding cannot make its frames smaller.
        """
        tall, wide = recording.size
        height, width = self.size
        if self.way == "pad" and (tall > height or wide > width):
            raise ValueError(
                f"{recording.source}: frames of {tall} x {wide} cannot be padded to {height} x "
                f"{width}; set image_size to at least [{tall}, {wide}], or fit to resize"
            )
        return (width, height) if recording.transposed else (height, width)

    def frames(self, frames: Tensor, shape: Size) -> Tensor:
        """(..., 3, A, B) uint8 on the CPU -> (..., 3, *shape)."""
        if self.way == "pad":
            return _padded(frames, shape)
        if tuple(frames.shape[-2:]) == shape:
            return frames
        flat = interpolate(frames.flatten(0, -4), shape, mode="bilinear", antialias=True)
        return flat.reshape(*frames.shape[:-2], *shape)

    def masks(self, masks: Tensor, shape: Size) -> Tensor:
        """(N, A, B) -> (N, *shape)."""
        return _padded(masks, shape) if self.way == "pad" else _nearest(masks, shape)

    def back(self, masks: Tensor, shape: Size) -> Tensor:
        """Masks of fitted frames, (N, A, B), for the stored ones, (N, *shape)."""
        if self.way == "pad":
            return masks[..., : shape[0], : shape[1]]
        return _nearest(masks, shape)


def memory_size(recording: Recording, fit: Fit | None) -> Size:
    """The last two axes of a recording's frames in a batch's memory."""
    return stored_size(recording) if fit is None else fit.shape(recording)


def _padded(pixels: Tensor, shape: Size) -> Tensor:
    down, right = (wanted - had for wanted, had in zip(shape, pixels.shape[-2:], strict=True))
    return pad(pixels, (0, right, 0, down))


def _nearest(pixels: Tensor, shape: Size) -> Tensor:
    """Each pixel is the one in which its centre lies."""
    rows, columns = (
        (2 * torch.arange(wanted, device=pixels.device) + 1) * had // (2 * wanted)
        for wanted, had in zip(shape, pixels.shape[-2:], strict=True)
    )
    return pixels.index_select(-2, rows).index_select(-1, columns)
