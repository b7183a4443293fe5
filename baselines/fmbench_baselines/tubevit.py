"""TubeViT: sparse tubes of several shapes, one Transformer for all of them.

Piergiovanni, Kuo, Angelova: "Rethinking Video ViTs: Sparse Video Tubes for Joint Image and Video
Learning", CVPR 2023, arXiv 2212.03229, Sec. 3.
Differs: the source's tubes are for 32 frames of 224×224; here they are scaled to short, small clips
(`tubes_for`) so that all of them see the last frame, the label's instant. Width 96, 3 heads, from
scratch on video alone (source: ViT-B to ViT-H, images and video together); attention without biases
of queries, keys and values; a class head with a hidden layer. The source predicts no masks. Here
FmFormer's head predicts one from the tubes of one shape, by default 1×8×8, which lie side by side
over the whole image and have attended to all others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn import Block, Standardize, class_head, dense_head, how_to_fit, video_of
from fmbench.types import Batch, Modality, Prediction, Problem

Triple = tuple[int, int, int]
"""(frames, rows, columns)."""
Pool = Literal["cls", "attention"]


class Tubes(NamedTuple):
    """Tubes of one shape: size, distance between neighbours, start of the first (Sec. 3)."""

    kernel: Triple
    stride: Triple
    offset: Triple

    def grid(self, extent: Triple) -> Triple:
        """Number of tubes in (T, H, W): ⌊(n - offset - kernel) / stride⌋ + 1 on each axis.

        Raises:
            ValueError: no tube fits, a size is below 1 or an offset is below 0.
        """
        if min(*self.kernel, *self.stride) < 1 or min(self.offset) < 0:
            raise ValueError(f"{self}: kernel and stride are at least 1, offset at least 0")
        t, y, x = ((n - o - k) // s + 1 for n, k, s, o in zip(extent, *self, strict=True))
        if min(t, y, x) < 1:
            raise ValueError(f"{self} do not fit in {extent[0]} frames of {extent[1]}x{extent[2]}")
        return t, y, x

    def centres(self, extent: Triple) -> Tensor:
        """Offset + stride·index + ⌊kernel / 2⌋, in token order: (n_t·n_h·n_w, 3)."""
        axes = [
            o + s * torch.arange(n) + k // 2
            for n, k, s, o in zip(self.grid(extent), *self, strict=True)
        ]
        return torch.cartesian_prod(*axes)

    def end(self, extent: Triple) -> int:
        """One past the index of the last frame that the tubes see."""
        return self.offset[0] + self.stride[0] * (self.grid(extent)[0] - 1) + self.kernel[0]

    def tile(self, extent: Triple) -> bool:
        """Whether the tubes are square and cover the whole image side by side."""
        (_, *kernel), (_, *stride), (_, *offset) = self
        whole = all(n % k == 0 for n, k in zip(extent[1:], kernel, strict=True))
        return whole and kernel == stride and offset == [0, 0] and kernel[0] == kernel[1]


def spread(frames: int, kernel: int, steps: int) -> tuple[int, int]:
    """Stride and offset in time of `steps` kernels (or as many as fit) within a clip.

    The kernels end at the last frame and lie as far apart as possible.
    """
    room = frames - kernel
    if steps == 1:
        return kernel, room
    stride = max(1, room // (steps - 1))
    return stride, room - stride * (min(steps, room + 1) - 1)


def tubes_for(frames: int) -> list[Tubes]:
    """Tubes for clips of T frames: the source's four kinds, each ending at the last frame.

    Long 8×8, the whole clip 4×4, short 12×12 and single frames 8×8. Their lengths are 0.8 T,
    T, 0.4 T (rounded) and 1; 1, 1, 3 and 2 of them are spread over the clip in time (source: 8, 16,
    4 and 1 of 32 frames). In space their size is fixed and they lie 16 pixels apart, the single
    frames 8, so that a larger image has more of them.
    """
    kinds = (  # length, side, apart, margin, steps
        (max(1, round(0.8 * frames)), 8, 16, 0, 1),
        (frames, 4, 16, 4, 1),
        (max(1, round(0.4 * frames)), 12, 16, 4, 3),
        (1, 8, 8, 0, 2),
    )
    tubes = []
    for length, side, apart, margin, steps in kinds:
        stride, offset = spread(frames, length, steps)
        tubes.append(Tubes((length, side, side), (stride, apart, apart), (offset, margin, margin)))
    return tubes


def centre_sinusoids(places: Tensor, dim: int) -> Tensor:
    """Fixed positions: (N, 3) -> (N, D); a third of D per axis, half sines, half cosines.

    Wavelengths run from 2π towards 10⁴·2π frames or pixels.
    """
    rate = 10_000 ** (-torch.arange(dim // 6) / (dim // 6))
    angle = places.unsqueeze(-1) * rate  # (N, 3, D/6)
    return rearrange([angle.sin(), angle.cos()], "k n a f -> n (a k f)")


def first_tiling(kinds: Sequence[Tubes], extent: Triple) -> int:
    """Index of the first shape whose tubes tile the image.

    Raises:
        ValueError: no shape does.
    """
    for number, kind in enumerate(kinds):
        if kind.tile(extent):
            return number
    raise ValueError(
        "a mask needs square tubes that lie side by side (stride as kernel, offset 0) over the"
        f" whole image, and none do so over {extent[1]}x{extent[2]}; the default 1x8x8 ones do"
        f" where both are multiples of 8: {how_to_fit(extent[1:], (8, 8))}"
    )


class TubeEmbedding(nn.Module):
    """One sparse convolution per shape: (B, 3, T, H, W) -> (B, N, D).

    Args:
        kinds: the shapes.
        dim: D.
        interpolated: whether all shapes share the first shape's kernel, resized trilinearly
            (Sec. 3, interpolated kernels).
    """

    def __init__(self, kinds: Sequence[Tubes], dim: int, interpolated: bool) -> None:
        super().__init__()
        self.kinds = list(kinds)
        self.interpolated = interpolated
        own = self.kinds[:1] if interpolated else self.kinds
        self.kernels = nn.ParameterList(torch.empty(dim, 3, *kind.kernel) for kind in own)
        self.biases = nn.Parameter(torch.zeros(len(self.kinds), dim))
        for kernel in self.kernels:
            nn.init.trunc_normal_(kernel, std=0.02)

    def kernel(self, number: int) -> Tensor:
        """Kernel of the shape of that index: (D, 3, t, h, w)."""
        if not self.interpolated:
            own: Tensor = self.kernels[number]
            return own
        size = self.kinds[number].kernel
        return F.interpolate(self.kernels[0], size, mode="trilinear", align_corners=False)

    def forward(self, video: Tensor) -> Tensor:
        tokens = []
        for number, kind in enumerate(self.kinds):
            t, y, x = kind.offset
            part = video[:, :, t:, y:, x:]
            maps = F.conv3d(part, self.kernel(number), self.biases[number], kind.stride)
            tokens.append(rearrange(maps, "b d t y x -> b (t y x) d"))
        return torch.cat(tokens, dim=1)


class TubeVit(nn.Module):
    """Predict a class and a mask by one Transformer over sparse tubes at fixed positions.

    Args:
        problem: inputs and outputs; the default tubes need H and W to be
            at least 16, and for a mask multiples of 8.
        dim: D, width of a token, a multiple of 6.
        depth: blocks.
        heads: attention heads, h.
        mlp_ratio: hidden width of the MLPs divided by D.
        tubes: [kernel, stride, offset] of each shape, each as frames, rows, columns; default:
            `tubes_for` the problem's frames.
        interpolated: whether all shapes share the first one's kernel, resized.
        pool: source of the class: the class token ("cls") or the mean of all tokens with learnt
            weights ("attention").
        dropout: rate for attention and MLPs, in training.

    Raises:
        ValueError: tubes do not fit or miss the last frame, no tubes tile the image for a mask, or
            an option has no effect.
    """

    modalities = frozenset({Modality.VISUAL})
    dense = frozenset({Modality.VISUAL})

    positions: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4,
        tubes: Sequence[tuple[Triple, Triple, Triple]] | None = None,
        interpolated: bool = False,
        pool: Pool = "cls",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % 6:
            raise ValueError(f"dim is {dim}; it must be a multiple of 6: three axes, sine, cosine")
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        if pool not in ("cls", "attention"):
            raise ValueError(f'pool is {pool!r}; allowed are "cls" and "attention"')
        kinds = tubes_for(problem.frames) if tubes is None else [Tubes(*kind) for kind in tubes]
        if interpolated and len(kinds) < 2:
            raise ValueError("interpolated has no effect on tubes of a single shape")
        self.extent = extent = (problem.frames, *problem.image_size)
        if extent[0] not in [kind.end(extent) for kind in kinds]:
            raise ValueError("no tube sees the last frame, which is the label's instant")

        self.standardize = Standardize.video()
        self.embed = TubeEmbedding(kinds, dim, interpolated)
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        nn.init.trunc_normal_(self.cls, std=0.02)
        places = torch.cat([kind.centres(extent) for kind in kinds])
        codes = torch.cat([torch.zeros(1, dim), centre_sinusoids(places, dim)])
        self.register_buffer("positions", codes, persistent=False)
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.weigh = nn.Linear(dim, 1, bias=False) if pool == "attention" else None
        self.head = class_head(dim, problem.num_classes, norm=False)
        self.tiling = first_tiling(kinds, extent) if problem.dense else 0
        tiles = kinds[self.tiling]
        steps, patch = tiles.grid(extent)[0], tiles.kernel[1:]
        self.dense_head = dense_head(problem, dim, steps=steps, patch=patch)

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        video = video_of(batch, frames=self.extent[0], image_size=self.extent[1:])
        tokens = self.embed(self.standardize(video))
        tokens = torch.cat([self.cls.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.norm(self.blocks(tokens + self.positions))
        mask_logits = None
        if self.dense_head is not None:
            mask_logits = self.dense_head(self.tiles(tokens))
        return Prediction(self.head(self.pool(tokens)), mask_logits)

    def pool(self, tokens: Tensor) -> Tensor:
        """(B, 1 + N, D) -> (B, D)."""
        if self.weigh is None:
            return tokens[:, 0]
        pooled: Tensor = (self.weigh(tokens).softmax(1) * tokens).sum(1)
        return pooled

    def tiles(self, tokens: Tensor) -> Tensor:
        """(B, 1 + N, D) -> the tokens that the mask is read from, (B, n_t, n_h, n_w, D)."""
        grids = [kind.grid(self.extent) for kind in self.embed.kinds]
        parts = torch.split(tokens, [1, *map(math.prod, grids)], dim=1)
        n_t, n_h, _ = grids[self.tiling]
        return rearrange(parts[1 + self.tiling], "b (t y x) d -> b t y x d", t=n_t, y=n_h)
