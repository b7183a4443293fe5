"""A batch's video, and its patch vectors."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor

from fmbench.types import Batch

Tube = tuple[int, int, int]
"""Frames, rows and columns of a patch."""


def video_of(
    batch: Batch, *, frames: int | None = None, image_size: tuple[int, int] | None = None
) -> Tensor:
    """The batch's video, (B, 3, T, H, W), checked against the model's sizes.

    Args:
        batch: input of the model.
        frames: the only T that the model reads; None: any.
        image_size: the only (H, W) that the model reads; None: any.

    Raises:
        ValueError: there is no video, or T, H or W differs.
    """
    if batch.video is None:
        raise ValueError("this model reads video, and the batch has none")
    count, height, width = batch.video.shape[2:]
    if frames is not None and count != frames:
        raise ValueError(f"{count} frames; this model was built for {frames}")
    if image_size is not None and (height, width) != image_size:
        raise ValueError(
            f"images of {height}x{width}; this model was built for {image_size[0]}x{image_size[1]}"
        )
    return batch.video


def how_to_fit(image_size: tuple[int, int], steps: tuple[int, int]) -> str:
    """The options that make of images of another size the nearest multiples of `steps`."""
    size = [round(had / step) * step or step for had, step in zip(image_size, steps, strict=True)]
    return f"--data.image_size '{size}' --data.fit resize gives images that fit"


def tube_grid(
    frames: int, image_size: tuple[int, int], tube: Tube, dilation: int = 1
) -> tuple[int, int, int]:
    """(n_t, n_h, n_w): the number of patches, Sec. III-A.

    A dilated patch spans (h-1)·d + 1 pixels; neighbours start h·d pixels apart, so that together
    they use every d-th pixel of the image once. For 64 pixels, h = 8, d = 2 this is the paper's
    ⌊64/15⌋ = 4.

    Raises:
        ValueError: frames or image are not multiples of the patch, or no dilated patch fits.
    """
    count, height, width = tube
    if frames % count:
        raise ValueError(
            f"{frames} frames are not a multiple of the patch's {count}; "
            f"use {frames // count * count or count} or {(frames // count + 1) * count} frames"
        )
    for name, size, patch in (("height", image_size[0], height), ("width", image_size[1], width)):
        if size % patch:
            raise ValueError(
                f"the image's {name}, {size}, is not a multiple of the patch's {patch}; "
                + how_to_fit(image_size, tube[1:])
            )
        if -(-size // dilation) < patch:
            raise ValueError(
                f"no patch of {patch} pixels at dilation {dilation} fits in the image's {name}, "
                f"{size}"
            )
    rows, columns = (-(-size // dilation) for size in image_size)
    return frames // count, rows // height, columns // width


def tube_patches(video: Tensor, tube: Tube, dilation: int = 1) -> Tensor:
    """Flattened patches: (B, C, T, H, W) -> (B, n_t, n_h, n_w, h·w·t·C).

    A patch vector runs over (row, column, frame, channel), the last fastest. Pixels beyond the
    last whole dilated patch are left out.
    """
    count, height, width = tube
    sparse = video[..., ::dilation, ::dilation]
    rows, columns = (sparse.shape[-2] // height, sparse.shape[-1] // width)
    return rearrange(
        sparse[..., : rows * height, : columns * width],
        "b c (n t) (y h) (x w) -> b n y x (h w t c)",
        t=count,
        h=height,
        w=width,
    )
