"""Parts shared by Transformers over a series of currents: tokens, positions, layers, a head.

B batch, L samples, C channels, N tokens, D width, h heads, d = D/h width of a head, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from einops import rearrange
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn

from fmbench.nn.attention import softmax_attention, split_heads
from fmbench.types import Batch, Problem

Padding = Literal["circular", "replicate"]
AttentionRule = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps queries, keys and values, each (B, h, N, d), to (B, h, N, d)."""


def given_current(
    batch: Batch, *, model: str, channels: int, samples: int, any_from: int | None = None
) -> Tensor:
    """The batch's current, (B, L, C) amperes, checked against the model's sizes.

    Args:
        batch: input of the model.
        model: name of the model, for the message.
        channels: C of the model.
        samples: L of the model.
        any_from: the smallest L, if the model reads any L.

    Raises:
        ValueError: there is no current, or the model cannot read its channels or length.
    """
    if batch.current is None:
        raise ValueError(f"{model} reads current, and the batch has none")
    length, given = batch.current.shape[1:]
    if given != channels:
        raise ValueError(f"{given} channels of current; this {model} reads {channels}")
    if any_from is None and length != samples:
        raise ValueError(
            f"{length} samples of current; this {model} reads {samples}. Build it for that length"
        )
    if any_from is not None and length < any_from:
        raise ValueError(f"{length} samples of current; this {model} needs at least {any_from}")
    return batch.current


def current_reader(
    problem: Problem, model: str, *, any_from: int | None = None
) -> Callable[[Batch], Tensor]:
    """`given_current` for a model built for `problem`: a Batch -> (B, L, C) amperes."""
    return partial(
        given_current,
        model=model,
        channels=problem.current_channels,
        samples=problem.current_samples,
        any_from=any_from,
    )


def conv_embedding(channels: int, dim: int, padding: Padding) -> nn.Sequential:
    """Convolution over each sample and its two neighbours, no bias: (B, L, C) -> (B, L, D)."""
    convolution = nn.Conv1d(channels, dim, 3, padding=1, padding_mode=padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="leaky_relu")
    return nn.Sequential(Rearrange("b l c -> b c l"), convolution, Rearrange("b d l -> b l d"))


def sinusoids(length: int, dim: int, *, device: torch.device | None = None) -> Tensor:
    """Fixed positions, alternating sine and cosine, wavelengths 2π to 10⁴·2π samples: (L, D).

    They are computed on `device`: a copy from the CPU cannot be part of a CUDA graph.
    """
    rate = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(1e4) / dim))
    angle = torch.arange(length, device=device).unsqueeze(1) * rate
    return rearrange([angle.sin(), angle.cos()], "k l f -> l (f k)")[:, :dim]


class MultiHead(nn.Module):
    """Multi-head self-attention by any rule; all maps have biases, as in nn.MultiheadAttention.

    Args:
        dim: D, a multiple of heads.
        heads: attention heads, h.
        rule: attention of each head; default: softmax attention.

    Raises:
        ValueError: dim is not a multiple of heads.
    """

    def __init__(self, dim: int, heads: int, rule: AttentionRule = softmax_attention) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads = heads
        self.rule = rule
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        query, key, value = split_heads(self.to_qkv(tokens), 3, self.heads)
        out: Tensor = self.to_out(rearrange(self.rule(query, key, value), "b h n d -> b n (h d)"))
        return out


class PostNormLayer(nn.Module):
    """Attention, then an MLP, each added to its input and normalised afterwards.

    Args:
        attention: any map (B, N, D) -> (B, N, D).
        dim: D.
        mlp_ratio: hidden width of the MLP divided by D.
        dropout: rate for the attention's output and the MLP, in training.
    """

    def __init__(self, attention: nn.Module, dim: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.attention = attention
        self.dropout = nn.Dropout(dropout)
        self.norm_attention = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
            nn.Dropout(dropout),
        )
        self.norm_mlp = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        tokens = self.norm_attention(tokens + self.dropout(self.attention(tokens)))
        out: Tensor = self.norm_mlp(tokens + self.mlp(tokens))
        return out


def post_norm_encoder(
    dim: int,
    depth: int,
    heads: int,
    rule: AttentionRule = softmax_attention,
    *,
    mlp_ratio: float,
    dropout: float,
) -> nn.Sequential:
    """`depth` post-norm layers with one rule, then a layer norm: (B, N, D) -> (B, N, D).

    Raises:
        ValueError: depth is below 1, or dim is not a multiple of heads.
    """
    if depth < 1:
        raise ValueError(f"depth is {depth}; it must be at least 1")
    layers = (
        PostNormLayer(MultiHead(dim, heads, rule), dim, mlp_ratio, dropout) for _ in range(depth)
    )
    return nn.Sequential(*layers, nn.LayerNorm(dim))


def series_head(
    tokens: int, dim: int, num_classes: int, *, mean_pool: bool, dropout: float
) -> nn.Sequential:
    """GELU, then one linear map of all tokens or of their mean: (B, N, D) -> (B, K) logits.

    The Time-Series-Library's head for classification. With `mean_pool` it accepts any N.
    """
    return nn.Sequential(
        nn.GELU(),
        nn.Dropout(dropout),
        Reduce("b n d -> b d", "mean") if mean_pool else nn.Flatten(),
        nn.Linear(dim if mean_pool else tokens * dim, num_classes),
    )
