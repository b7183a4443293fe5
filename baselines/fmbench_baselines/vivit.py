"""ViViT: a Transformer over tubelets, and two ways to factorise space and time.

Arnab, Dehghani, Heigold, Sun, Lučić, Schmid: "ViViT: A Video Vision Transformer", ICCV 2021, arXiv
2103.15691, Sec. 3. Designs: Model 1 (joint attention, the default), Model 2 (factorised encoder),
Model 3 (factorised self-attention); Model 4 is left out.
Differs: width 96 and 3 heads (ViViT-B: 768, 12) on tubelets of 2×8×8 (source: 2×16×16 of 32
frames), from scratch, not from a ViT of images; attention without biases of queries, keys and
values. A class head with a hidden layer. FmFormer's head for masks, on the tubelets' tokens; in
Model 2, whose temporal encoder has no such tokens, on those of the spatial encoder, which only see
the frames of their own tubelet.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from fmbench.nn import (
    Attention,
    Encoder,
    Positions,
    Standardize,
    class_head,
    dense_head,
    mlp,
    tube_grid,
    video_of,
)
from fmbench.nn.tokens import Tube
from fmbench.types import Batch, Modality, Prediction, Problem

Design = Literal["joint", "factorised_encoder", "factorised_attention"]


def tubelet_embedding(dim: int, tube: Tube, central: bool) -> nn.Conv3d:
    """Sec. 3.2: a convolution whose stride is its kernel, (B, 3, T, H, W) -> (B, D, n_t, n_h, n_w).

    `central` (Sec. 3.4, central frame initialisation): initially only the tubelet's middle frame,
    number ⌊t/2⌋, has non-zero weights, as in an image's embedding.
    """
    embed = nn.Conv3d(3, dim, tube, stride=tube)
    if central:
        middle = tube[0] // 2
        with torch.no_grad():
            embed.weight[:, :, :middle] = 0
            embed.weight[:, :, middle + 1 :] = 0
            embed.weight.mul_(
                tube[0] ** 0.5
            )  # the scale of an image's embedding: one frame is the fan-in
    return embed


class JointEncoder(nn.Module):
    """Model 1: all tubelets and a class token attend to each other."""

    def __init__(
        self,
        grid: Tube,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(grid, dim, depth, heads, mlp_ratio, dropout)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n_t, n_h, n_w, D) -> (B, D) for the class, and the tokens."""
        _, n_t, n_h, n_w, _ = tokens.shape
        flat = rearrange(tokens, "b t y x d -> b (t y x) d")
        cls, flat = self.encoder(flat, (n_t, n_h, n_w))
        return cls, rearrange(flat, "b (t y x) d -> b t y x d", t=n_t, y=n_h)


class FactorisedEncoder(nn.Module):
    """Model 2: a spatial encoder for each time step, then a temporal one over its class tokens."""

    def __init__(
        self,
        grid: Tube,
        dim: int,
        depth: int,
        temporal_depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
    ) -> None:
        super().__init__()
        spatial_depth = depth - temporal_depth
        self.spatial = Encoder(grid[1:], dim, spatial_depth, heads, mlp_ratio, dropout)
        self.temporal = Encoder(grid[:1], dim, temporal_depth, heads, mlp_ratio, dropout)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n_t, n_h, n_w, D) -> (B, D) for the class, and the spatial encoder's tokens."""
        _, n_t, n_h, n_w, _ = tokens.shape
        frames = rearrange(tokens, "b t y x d -> (b t) (y x) d")
        of_frames, frames = self.spatial(frames, (n_h, n_w))
        cls, _ = self.temporal(rearrange(of_frames, "(b t) d -> b t d", t=n_t), (n_t,))
        return cls, rearrange(frames, "(b t) (y x) d -> b t y x d", t=n_t, y=n_h)


class FactorisedBlock(nn.Module):
    """Eqs. (4) to (6): attention over space, over time, then an MLP, each with its residual."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.spatial = Attention(dim, heads, dropout)
        self.temporal = Attention(dim, heads, dropout)
        self.mlp = mlp(dim, int(dim * mlp_ratio), dim, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, n_t, n_s, D) -> (B, n_t, n_s, D)."""
        count = tokens.shape[0]
        space = rearrange(tokens, "b t s d -> (b t) s d")
        space = space + self.spatial(space)
        time = rearrange(space, "(b t) s d -> (b s) t d", b=count)
        time = time + self.temporal(time)
        out: Tensor = time + self.mlp(time)
        return rearrange(out, "(b s) t d -> b t s d", b=count)


class FactorisedAttention(nn.Module):
    """Model 3: blocks of spatial, then temporal attention, a layer norm; the mean token gives the
    class."""

    def __init__(
        self,
        grid: Tube,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.positions = Positions([grid], dim, class_token=False)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(
            *(FactorisedBlock(dim, heads, mlp_ratio, dropout) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n_t, n_h, n_w, D) -> (B, D) for the class, and the tokens."""
        _, n_t, n_h, n_w, _ = tokens.shape
        flat = rearrange(tokens, "b t y x d -> b (t y x) d")
        flat = self.dropout(flat + self.positions([(n_t, n_h, n_w)]))
        out = self.norm(self.blocks(rearrange(flat, "b (t s) d -> b t s d", t=n_t)))
        return out.mean((1, 2)), rearrange(out, "b t (y x) d -> b t y x d", y=n_h)


class Vivit(nn.Module):
    """Predict a class and a mask by one of three encoders over tubelets.

    A trained model also accepts other T, H and W: positions are interpolated.

    Args:
        problem: inputs and outputs; T a multiple of the tube's frames, H and W of its pixels.
        dim: D, width of a token.
        depth: blocks; with factorised_encoder, of both encoders together.
        heads: attention heads, h.
        mlp_ratio: hidden width of the MLPs divided by D.
        tube: frames, rows, columns of a tubelet.
        design: "joint" (Model 1), "factorised_encoder" (Model 2: the tubelets that a mask is drawn
            from see only their own frames) or "factorised_attention" (Model 3).
        temporal_depth: blocks of the temporal encoder, at most depth - 1; default: depth // 3
            (source: 4, behind 12 spatial ones). Only with factorised_encoder.
        central: whether the initial embedding reads only the middle frame of a tubelet.
        dropout: rate for attention, MLPs and embedding, in training.

    Raises:
        ValueError: sizes do not divide, or an option has no effect.
    """

    modalities = frozenset({Modality.VISUAL})
    dense = frozenset({Modality.VISUAL})

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4,
        tube: Tube = (2, 8, 8),
        design: Design = "joint",
        temporal_depth: int | None = None,
        central: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        tube = (tube[0], tube[1], tube[2])
        least = 2 if design == "factorised_encoder" else 1
        if depth < least:
            raise ValueError(f"depth is {depth}; with design {design} it must be at least {least}")
        if temporal_depth is not None and design != "factorised_encoder":
            raise ValueError(f"temporal_depth concerns factorised_encoder; the design is {design}")
        if temporal_depth is not None and not 0 < temporal_depth < depth:
            raise ValueError(f"temporal_depth is {temporal_depth}; it must be 1 to {depth - 1}")
        if central and tube[0] == 1:
            raise ValueError("central has no effect on tubelets of one frame")
        self.tube = tube
        grid = tube_grid(problem.frames, problem.image_size, tube)
        self.standardize = Standardize.video()
        self.embed = tubelet_embedding(dim, tube, central)
        self.encoder: nn.Module
        if design == "joint":
            self.encoder = JointEncoder(grid, dim, depth, heads, mlp_ratio, dropout)
        elif design == "factorised_encoder":
            temporal = temporal_depth or max(1, depth // 3)
            self.encoder = FactorisedEncoder(grid, dim, depth, temporal, heads, mlp_ratio, dropout)
        elif design == "factorised_attention":
            self.encoder = FactorisedAttention(grid, dim, depth, heads, mlp_ratio, dropout)
        else:
            raise ValueError(
                f"design is {design!r}; allowed are joint, factorised_encoder, factorised_attention"
            )
        self.head = class_head(dim, problem.num_classes, norm=False)
        self.dense_head = dense_head(problem, dim, steps=grid[0], patch=tube[1:])

    def tokens(self, video: Tensor) -> Tensor:
        """Tubelets without positions: (B, 3, T, H, W) -> (B, n_t, n_h, n_w, D).

        Raises:
            ValueError: T, H or W is not a multiple of the tube's.
        """
        tube_grid(video.shape[2], (video.shape[3], video.shape[4]), self.tube)
        embedded: Tensor = self.embed(self.standardize(video))
        return rearrange(embedded, "b d t y x -> b t y x d")

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        pooled, tokens = self.encoder(self.tokens(video_of(batch)))
        mask_logits = None if self.dense_head is None else self.dense_head(tokens)
        return Prediction(self.head(pooled), mask_logits)
