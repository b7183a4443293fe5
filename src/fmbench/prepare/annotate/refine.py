"""From a box to the region in it: a weighted median filter that the frame guides.

Zhang, Xu, Jia: "100+ Times Faster Weighted Median Filter (WMF)", CVPR 2014, as OpenCV has it
(`cv2.ximgproc.weightedMedianFilter`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

RADIUS = 0.4
"""Of the filter's window, in sides of the box (the square root of its area).

This and SIGMA stand on the plateau of a grid over four simulated recordings that are used for
nothing else (benchmarks/annotate.md). Guides of grey or three channels, or an ellipse for the box,
were no better.
"""
SIGMA = 5.0
"""Grey levels of red by which a neighbour's weight falls to exp(-1/2)."""
RED = 0
"""The guiding channel. A wall below 1200 K glows in red before it does in green and blue."""


def cover(boxes: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(n, H, W) pixels whose centre lies in the box, of boxes (n, 4) and a size (H, W).

    A box that holds no centre of a pixel covers the pixel that holds its own.
    """
    masks = np.ones((len(boxes), *size), np.bool_)
    for axis, length in enumerate(size):
        low, high = boxes[:, axis, None], boxes[:, axis + 2, None]
        pixel = np.arange(length)
        centre = pixel + 0.5
        inside = (low <= centre) & (centre < high)
        nearest = pixel == np.clip((low + high) // 2, 0, length - 1)
        inside |= nearest & ~inside.any(axis=1, keepdims=True)
        masks &= inside[:, :, None] if axis == 0 else inside[:, None, :]
    return masks


def refine(
    frames: NDArray[np.uint8],
    boxes: NDArray[np.float64],
    *,
    radius: float = RADIUS,
    sigma: float = SIGMA,
) -> NDArray[np.bool_]:
    """(n, H, W) masks of frames (n, 3, H, W) and a box [top, left, bottom, right) (n, 4) in each.

    A pixel of the box stays abnormal if most of the window around it, by weight, lies in the box;
    pixels of nearly the same red weigh most. So what looks like the surroundings is taken out,
    whatever its shape, and nothing outside the box comes in. The window grows with the box, so
    that small regions are not lost in it. Where nothing would stay, the box does: who drew it saw
    something there.

    Args:
        frames: RGB, row by row.
        boxes: in pixels.
        radius: see RADIUS.
        sigma: see SIGMA.

    Raises:
        ValueError: radius or sigma is not above 0, or infinite.
    """
    if not (0 < radius < np.inf and 0 < sigma < np.inf):
        raise ValueError(f"radius is {radius:g}, sigma {sigma:g}; both must be above 0 and finite")
    coarse = cover(boxes, (frames.shape[2], frames.shape[3]))
    refined = np.empty_like(coarse)
    for frame, box, mask, out in zip(frames, boxes, coarse, refined, strict=True):
        side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
        reach = round(np.clip(radius * side, 1, max(mask.shape)))
        near = _surroundings(mask, reach)  # farther pixels have no say
        # One channel: OpenCV would cluster three, from a random start.
        guide = np.ascontiguousarray(frame[RED][near])
        source = np.ascontiguousarray(mask[near], np.uint8)
        voted = cv2.ximgproc.weightedMedianFilter(guide, source, reach, sigma=sigma)
        kept = mask[near] & (voted > 0)
        out[...] = False
        out[near] = kept if kept.any() else mask[near]
    return refined


def _surroundings(mask: NDArray[np.bool_], reach: int) -> tuple[slice, slice]:
    """Rows and columns that lie within `reach` of the (H, W) mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, rows[0] - reach), rows[-1] + 1 + reach),
        slice(max(0, columns[0] - reach), columns[-1] + 1 + reach),
    )
