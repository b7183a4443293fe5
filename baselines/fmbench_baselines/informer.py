"""Informer: sparse attention by the most active queries, over sequences that distilling halves.

Zhou, Zhang, Peng, Zhang, Li, Xiong, Zhang: "Informer: Beyond Efficient Transformer for Long
Sequence Time-Series Forecasting", AAAI 2021, arXiv 2012.07436, Sec. 3. Where the paper is silent,
this file follows the authors' code: keys are sampled with replacement, shared by rows and heads.
Differs: a classifier needs no generative decoder; no calendar features; the width is FmFormer's
(96, 3 heads; the source has 512, 8), with 3 layers (source: 2 to 3). One stack of layers reads the
whole sequence; the paper's replicas on its last half are left out. The embedding has no bias
(source: one). Evaluation always samples the same keys (source: new ones), so that a result can be
repeated. The head (GELU, flatten, one linear map) is the Time-Series-Library's, which distils only
when it forecasts; here distilling is on.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from einops.layers.torch import Rearrange
from torch import Tensor, nn

from fmbench.nn import (
    MultiHead,
    PostNormLayer,
    Standardize,
    conv_embedding,
    current_reader,
    series_head,
    sinusoids,
)
from fmbench.nn.attention import softmax_attention
from fmbench.nn.series import Padding
from fmbench.types import Batch, Modality, Prediction, Problem


def num_active(length: int, factor: int) -> int:
    """u = min(c·⌈ln L⌉, L): queries that attend, and keys that each query samples (Sec. 3.2)."""
    return min(factor * math.ceil(math.log(length)), length)


def draw_keys(length: int, count: int, training: bool, device: torch.device) -> Tensor:
    """Indices of the keys that each query samples: (L, U) int64.

    Training draws new indices at each step. Evaluation uses the same indices on every device and
    leaves the global generator untouched.
    """
    if training:
        return torch.randint(length, (length, count), device=device)
    return fixed_keys(length, count).to(device)


@cache  # an export traces a constant: it cannot draw numbers from a generator
def fixed_keys(length: int, count: int) -> Tensor:
    """Indices of the keys in evaluation: (L, U) int64, on the CPU."""
    fixed = torch.Generator().manual_seed(0)
    return torch.randint(length, (length, count), generator=fixed, device="cpu")


@torch.no_grad()  # only used to rank the queries
def sparsity(query: Tensor, key: Tensor, sample: Tensor) -> Tensor:
    """Distance of each query from uniform attention: 2 × (B, h, L, d), (L, U) -> (B, h, L).

    Eq. (4), M = max_j q·k_j - Σ_j q·k_j / L over the sampled keys; the division is by L,
    not by U, as in the authors' code. The loop takes one sampled key at a time: memory is O(L d).
    """
    query, key = query.contiguous(), key.contiguous()  # makes the gather three times as fast
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

    The `active` queries of largest sparsity attend to all keys. The others get the mean of the
    values, which approximates their attention.
    """
    top = sparsity(query, key, sample).topk(active, sorted=False).indices  # (B, h, u)
    top = top.unsqueeze(-1).expand(-1, -1, -1, query.shape[-1])
    attended = softmax_attention(query.gather(2, top), key, value)  # (B, h, u, d)
    return value.mean(2, keepdim=True).expand_as(query).scatter(2, top, attended)


class ProbSparse(nn.Module):
    """`prob_sparse_attention` with sampled keys; like the source, without dropout on the map."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """3 × (B, h, L, d) -> (B, h, L, d)."""
        length = query.shape[2]
        active = num_active(length, self.factor)
        sample = draw_keys(length, active, self.training, query.device)
        return prob_sparse_attention(query, key, value, sample, active)


def distilling(dim: int, padding: Padding) -> nn.Sequential:
    """Eq. (5), which halves the sequence: (B, L, D) -> (B, ⌈L/2⌉, D).

    The authors' code writes circular padding of 1 as 2 for old versions of PyTorch; with current
    versions, 2 would lengthen the sequence.
    """
    return nn.Sequential(
        Rearrange("b l d -> b d l"),
        nn.Conv1d(dim, dim, 3, padding=1, padding_mode=padding),
        nn.BatchNorm1d(dim),
        nn.ELU(),
        nn.MaxPool1d(3, stride=2, padding=1),
        Rearrange("b d l -> b l d"),
    )


class Informer(nn.Module):
    """Classify the three-phase current by alternating ProbSparse attention and distilling.

    Args:
        problem: inputs and outputs; the default depth needs at least 5 samples of current.
        dim: D, width of a token (source: 512).
        depth: encoder layers (source: 2; 3 in the Time-Series-Library's classifiers).
        heads: attention heads, h (source: 8).
        factor: c; c·⌈ln L⌉ queries attend, and as many sampled keys rank each query.
        mlp_ratio: hidden width of the MLPs divided by D.
        dropout: rate for embedding, attention output, MLPs and head, in training (source: 0.05).
        distil: whether convolution and pooling halve the sequence between layers.
        padding: padding of the convolutions. With "circular" (source), the first sample sees the
            last.
        mean_pool: whether the head reads the tokens' mean, which allows any length, instead of
            all tokens, which fixes the length.

    Raises:
        ValueError: a hyperparameter is out of range, or the samples are too few for the depth.
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
        for name, value in (("depth", depth), ("factor", factor)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        halvings = depth - 1 if distil else 0
        least = 2**halvings + 1  # the last layer needs two tokens: ln 1 = 0 queries
        samples, channels = problem.current_samples, problem.current_channels
        if samples < least:
            raise ValueError(
                f"{samples} samples of current are too few for informer with {depth} layers;"
                f" give it at least {least}, or fewer layers"
            )

        self.read = current_reader(problem, "informer", any_from=least if mean_pool else None)
        self.standardize = Standardize.current(channels)
        self.embed = conv_embedding(channels, dim, padding)
        self.dropout = nn.Dropout(dropout)
        stages: list[nn.Module] = []
        for layer in range(depth):
            if distil and layer > 0:
                stages.append(distilling(dim, padding))
            attention = MultiHead(dim, heads, ProbSparse(factor))
            stages.append(PostNormLayer(attention, dim, mlp_ratio, dropout))
        self.encoder = nn.Sequential(*stages, nn.LayerNorm(dim))
        tokens = math.ceil(samples / 2**halvings)
        self.head = series_head(
            tokens, dim, problem.num_classes, mean_pool=mean_pool, dropout=dropout
        )

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        tokens = self.embed(self.standardize(self.read(batch)))
        positions = sinusoids(*tokens.shape[1:], device=tokens.device)
        tokens = self.dropout(tokens + positions.to(tokens))
        return Prediction(self.head(self.encoder(tokens)))
