"""Informer: attention by the few queries that have something to say, over ever shorter sequences.

Zhou, Zhang, Peng, Zhang, Li, Xiong, Zhang: "Informer: Beyond Efficient Transformer for Long
Sequence Time-Series Forecasting", AAAI 2021, arXiv 2012.07436, Sec. 3. Where the paper leaves a
choice, the authors' code decides: samples with replacement, shared by rows and heads.
Differs: a classifier needs no generative decoder; no calendar features; the width is FmFormer's
(96, 3 heads, 3 layers; the source has 512, 8, 2). The head (GELU, flatten, one linear map) is the
Time-Series-Library's, which distils only when it forecasts; here distilling is on.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from einops import rearrange
from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn import Standardize
from fmbench.types import Batch, Modality, Prediction, Problem

Padding = Literal["circular", "replicate"]


def num_active(length: int, factor: int) -> int:
    """u = min(c·⌈ln L⌉, L): queries that attend, and keys that each query samples (Sec. 3.2)."""
    return min(factor * math.ceil(math.log(length)), length)


def draw_keys(length: int, count: int, training: bool, device: torch.device) -> Tensor:
    """Indices of the keys that each query samples: (L, U) int64.

    New ones at each training step; in evaluation always the same, on every device, and without
    touching the global generator.
    """
    if training:
        return torch.randint(length, (length, count), device=device)
    fixed = torch.Generator().manual_seed(0)
    return torch.randint(length, (length, count), generator=fixed, device="cpu").to(device)


@torch.no_grad()  # it only ranks the queries
def sparsity(query: Tensor, key: Tensor, sample: Tensor) -> Tensor:
    """How far each query is from attending evenly: 2 × (B, h, L, d), (L, U) -> (B, h, L).

    Eq. (4), M = max_j q·k_j - Σ_j q·k_j / L over the sampled keys; like the authors' code, it
    divides by L, not by U. One sampled key at a time: memory stays O(L d), never L·U·d or L·L.
    """
    query, key = query.contiguous(), key.contiguous()  # gathers three times as fast
    largest = query.new_full(query.shape[:-1], -torch.inf)
    total = torch.zeros_like(largest)
    for chosen in sample.unbind(1):
        score = (query * key.index_select(2, chosen)).sum(-1)
        largest = torch.maximum(largest, score)
        total = total + score
    return largest - total / key.shape[2]


def prob_sparse_attention(
    query: Tensor, key: Tensor, value: Tensor, sample: Tensor, active: int
) -> Tensor:
    """Eq. (3): 3 × (B, h, L, d), (L, U) -> (B, h, L, d).

    The `active` queries of largest sparsity attend to all keys; the others, which would come close
    to it anyway, take the mean of the values.
    """
    top = sparsity(query, key, sample).topk(active, sorted=False).indices  # (B, h, u)
    top = top.unsqueeze(-1).expand(-1, -1, -1, query.shape[-1])
    attended = F.scaled_dot_product_attention(query.gather(2, top), key, value)  # (B, h, u, d)
    return value.mean(2, keepdim=True).expand_as(query).scatter(2, top, attended)


class ProbSparseAttention(nn.Module):
    """Multi-head ProbSparse self-attention; like the source's, without dropout of the map."""

    def __init__(self, dim: int, heads: int, factor: int) -> None:
        super().__init__()
        self.heads = heads
        self.factor = factor
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        length = tokens.shape[1]
        query, key, value = rearrange(
            self.to_qkv(tokens), "b l (k h d) -> k b h l d", k=3, h=self.heads
        )
        active = num_active(length, self.factor)
        sample = draw_keys(length, active, self.training, tokens.device)
        heads = prob_sparse_attention(query, key, value, sample, active)
        out: Tensor = self.to_out(rearrange(heads, "b h l d -> b l (h d)"))
        return out


class EncoderLayer(nn.Module):
    """Attention, then an MLP, each added to its input and normalised afterwards (post-norm)."""

    def __init__(self, dim: int, heads: int, factor: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = int(dim * mlp_ratio)
        self.attention = ProbSparseAttention(dim, heads, factor)
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
        """(B, L, D) -> (B, L, D)."""
        tokens = self.norm_attention(tokens + self.dropout(self.attention(tokens)))
        out: Tensor = self.norm_mlp(tokens + self.mlp(tokens))
        return out


def embedding(channels: int, dim: int, padding: Padding) -> nn.Sequential:
    """Each sample with its two neighbours: (B, L, C) -> (B, L, D)."""
    convolution = nn.Conv1d(channels, dim, 3, padding=1, padding_mode=padding, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="leaky_relu")
    return nn.Sequential(Rearrange("b l c -> b c l"), convolution, Rearrange("b d l -> b l d"))


def distilling(dim: int, padding: Padding) -> nn.Sequential:
    """Eq. (5), halving the sequence: (B, L, D) -> (B, ⌈L/2⌉, D).

    The authors pad the convolution by 2 on old versions of PyTorch only, where circular padding of
    1 was written so; copies that kept the 2 lengthen the sequence.
    """
    return nn.Sequential(
        Rearrange("b l d -> b d l"),
        nn.Conv1d(dim, dim, 3, padding=1, padding_mode=padding),
        nn.BatchNorm1d(dim),
        nn.ELU(),
        nn.MaxPool1d(3, stride=2, padding=1),
        Rearrange("b d l -> b l d"),
    )


def sinusoids(length: int, dim: int) -> Tensor:
    """Fixed positions, sine and cosine in turn, of wavelengths 2π to 10⁴·2π samples: (L, D)."""
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(1e4) / dim))
    angle = torch.arange(length).unsqueeze(1) * rate
    return rearrange([angle.sin(), angle.cos()], "k l f -> l (f k)")[:, :dim]


class Informer(nn.Module):
    """ProbSparse attention and distilling in turn over the three-phase current; a class.

    Args:
        problem: what is fed and asked; with the default depth, 5 samples of current or more.
        dim: D, width of a token (source: 512).
        depth: encoder layers (source: 2; 3 in the Time-Series-Library's classifiers).
        heads: h (source: 8).
        factor: c; c·⌈ln L⌉ queries attend, and each is judged by as many sampled keys.
        mlp_ratio: hidden width of the MLPs over D.
        dropout: of embedding, attention output, MLPs and head, in training (source: 0.05).
        distil: whether the sequence is halved between layers.
        padding: what the convolutions see beyond the ends. With the source's circular, the first
            sample sees the last.
        mean_pool: whether the head reads the tokens' mean, for any length of current, instead of
            all of them, for the one length that it is built for.

    Raises:
        ValueError: a hyperparameter out of range, or too few samples for the depth.
    """

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        depth: int = 3,
        heads: int = 3,
        factor: int = 5,
        mlp_ratio: float = 4,
        dropout: float = 0.1,
        distil: bool = True,
        padding: Padding = "circular",
        mean_pool: bool = False,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        for name, value in (("depth", depth), ("factor", factor)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        halvings = depth - 1 if distil else 0
        self.least_samples = 2**halvings + 1  # leaves the last layer two tokens: ln 1 = 0 queries
        self.samples, self.channels = problem.current_samples, problem.current_channels
        self.mean_pool = mean_pool
        if self.samples < self.least_samples:
            raise ValueError(
                f"{self.samples} samples of current are too few for informer with {depth} layers;"
                f" give it at least {self.least_samples}, or fewer layers"
            )

        self.standardize = Standardize.current(self.channels)
        self.embed = embedding(self.channels, dim, padding)
        self.dropout = nn.Dropout(dropout)
        stages: list[nn.Module] = []
        for layer in range(depth):
            if distil and layer > 0:
                stages.append(distilling(dim, padding))
            stages.append(EncoderLayer(dim, heads, factor, mlp_ratio, dropout))
        self.encoder = nn.Sequential(*stages, nn.LayerNorm(dim))
        tokens = math.ceil(self.samples / 2**halvings)
        self.head = nn.Sequential(
            nn.GELU(),
            nn.Dropout(dropout),
            Reduce("b l d -> b d", "mean") if mean_pool else nn.Flatten(),
            nn.Linear(dim if mean_pool else tokens * dim, problem.num_classes),
        )

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        tokens = self.embed(self.standardize(self._current(batch)))
        tokens = self.dropout(tokens + sinusoids(*tokens.shape[1:]).to(tokens))
        return Prediction(self.head(self.encoder(tokens)))

    def _current(self, batch: Batch) -> Tensor:
        """The batch's current, if it is what the model was built for."""
        if batch.current is None:
            raise ValueError("informer reads current, and the batch has none")
        length, channels = batch.current.shape[1:]
        if channels != self.channels:
            raise ValueError(f"{channels} channels of current; this informer reads {self.channels}")
        if self.mean_pool and length < self.least_samples:
            raise ValueError(
                f"{length} samples of current; this informer needs at least {self.least_samples}"
            )
        if not self.mean_pool and length != self.samples:
            raise ValueError(
                f"{length} samples of current; this informer reads {self.samples}."
                " Build it for that length, or with mean_pool for any"
            )
        return batch.current
