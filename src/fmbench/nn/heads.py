"""Heads: a class from one token, a mask from the video tokens."""

from __future__ import annotations

from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn.attention import mlp
from fmbench.nn.positions import resize_grid
from fmbench.types import Problem


def class_head(dim: int, num_classes: int, *, norm: bool = True) -> nn.Sequential:
    """MLP of eq. (12): (B, D) -> (B, K) logits. Hidden width D: Sec. IV-C1 only names layers.

    `norm` is whether it begins with a layer norm; an input that is normalised already needs none.
    """
    head = mlp(dim, dim, num_classes)
    return head if norm else head[1:]


def upsample(channels: int, out: int) -> nn.Sequential:
    """Deconvolution 2×2 of stride 2, then 3×3 convolution, batch norm, ReLU (Sec. IV-C1)."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, out, 2, stride=2),
        nn.Conv2d(out, out, 3, padding=1),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def widths(patch: int) -> list[int]:
    """Channels of the stages that upsample a grid of patches to pixels: [128, 64, 32, …].

    Raises:
        ValueError: the patch is not a power of two.
    """
    stages = patch.bit_length() - 1
    if patch != 2**stages:
        raise ValueError(f"a mask needs a patch of 2, 4, 8, … pixels, not {patch}")
    return [128 >> stage for stage in range(stages)]


class DenseHead(nn.Module):
    """A mask from the tokens of a grid, eqs. (9) to (11).

    Args:
        dim: D.
        steps: n_t, time steps of the tokens in training.
        patch: (h, w) of a standard patch in pixels, equal, a power of two.
        num_classes: K.
        dilated: whether a second, coarser grid is added (eq. 10).

    Raises:
        ValueError: the patch is not square or not a power of two.
    """

    def __init__(
        self,
        dim: int,
        *,
        steps: int,
        patch: tuple[int, int],
        num_classes: int = 2,
        dilated: bool = False,
    ) -> None:
        super().__init__()
        if patch[0] != patch[1]:
            raise ValueError(f"a mask needs a square patch, not {patch[0]}x{patch[1]}")
        self.steps = steps
        self.merge = nn.Conv2d(steps * dim, dim, 1)
        if dilated:
            self.merge_dilated = nn.Conv2d(steps * dim, dim, 1)
            self.upsample_dilated = upsample(dim, dim)
        channels = [dim, *widths(patch[0])]
        self.upsample = nn.Sequential(*(upsample(a, b) for a, b in pairwise(channels)))
        self.classify = nn.Conv2d(channels[-1], num_classes, 1)

    def forward(self, tokens: Tensor, dilated: Tensor | None = None) -> Tensor:
        """(B, n_t, n_h, n_w, D) and, if `dilated`, the dilated grid -> (B, K, H, W) logits.

        Tokens of another n_t are resampled linearly in time to that of training; the paper does
        not describe this case (Fig. 6).
        """
        image = self.merge(self._as_image(tokens))  # (B, D, n_h, n_w), eq. (9)
        if dilated is not None:
            fine = self.upsample_dilated(self.merge_dilated(self._as_image(dilated)))
            if fine.shape != image.shape:  # the grids nest if the image is a multiple of h·d
                fine = F.interpolate(fine, image.shape[2:], mode="bilinear", align_corners=False)
            image = image + fine  # eq. (10)
        logits: Tensor = self.classify(self.upsample(image))  # eq. (11)
        return logits

    def _as_image(self, tokens: Tensor) -> Tensor:
        """(B, n_t, n_h, n_w, D) -> (B, n_t·D, n_h, n_w), time-major, channels last in memory, like
        the tokens."""
        grid = torch.movedim(tokens, -1, 1)
        image = rearrange(
            resize_grid(grid, (self.steps, *grid.shape[3:])), "b d t y x -> b y x (t d)"
        )
        return torch.movedim(image, -1, 1)


def dense_head(
    problem: Problem, dim: int, *, steps: int, patch: tuple[int, int], dilated: bool = False
) -> DenseHead | None:
    """The `DenseHead` of a model if the problem asks for a mask, otherwise None."""
    if not problem.dense:
        return None
    classes = problem.num_classes
    return DenseHead(dim, steps=steps, patch=patch, num_classes=classes, dilated=dilated)
