"""A Transformer encoder over a class token and the tokens of a grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fmbench.nn.attention import Block
from fmbench.nn.positions import Grid, Positions


class Encoder(nn.Module):
    """{class token, tokens} + learnable positions, pre-norm blocks, layer norm (arXiv 2010.11929).

    Its eq. (4) normalises the class token; like timm's and scenic's encoders, this one normalises
    all tokens. A `class_head` behind it takes `norm=False`.

    Args:
        grid: extent of the tokens in training.
        dim: D.
        depth: blocks.
        heads: attention heads, h.
        mlp_ratio: hidden width of the MLPs divided by D.
        dropout: rate for attention, MLPs and the sum of tokens and positions, in training.

    Raises:
        ValueError: depth is below 1, or dim is not a multiple of heads.
    """

    def __init__(
        self,
        grid: Grid,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = Positions([grid], dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(*(Block(dim, heads, mlp_ratio, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        nn.init.trunc_normal_(self.cls, std=0.02)

    def forward(self, tokens: Tensor, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, N, D) and their grid -> the class token, (B, D), and the tokens, (B, N, D).

        For another grid than that of training, positions are interpolated.
        """
        tokens = torch.cat([self.cls.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.norm(self.blocks(self.dropout(tokens + self.positions([tuple(grid)]))))
        return tokens[:, 0], tokens[:, 1:]
