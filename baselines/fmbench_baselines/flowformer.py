"""Flowformer: attention as a flow network whose capacities are conserved, in linear time.

Wu, Wu, Xu, Wang, Long: "Flowformer: Linearizing Transformers with Conservation Flows", ICML 2022,
arXiv 2202.06258, Sec. 3. Where they leave a choice, this file follows the authors' time-series
classifier: samples through a linear map times √D, post-norm layers, a head of GELU, flatten,
linear.
Differs: the width is FmFormer's (96, 3 heads; the source has 512, 8), with 3 layers (source: 2),
and positions are fixed sinusoids (source: learnt). The authors' general code cuts the outgoing flow
to [-1, 1] before the competition, their time-series code does not; this file does so only with
`clamp`.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from fmbench.nn import Standardize, current_reader, post_norm_encoder, series_head, sinusoids
from fmbench.types import Batch, Modality, Prediction, Problem


def flow(tokens: Tensor, total: Tensor, eps: float) -> Tensor:
    """Flow of each token to the sum of the other side: (B, h, N, d), (B, h, d) -> (B, h, N, 1)."""
    return (tokens + eps) @ (total + eps).unsqueeze(-1)


def conserved_flows(query: Tensor, key: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor, Tensor]:
    """Flows between sinks φ(Q), (B, h, L, d), and sources φ(K), (B, h, S, d), both positive.

    Returns:
        I, the flow into each sink (query): (B, h, L, 1).
        Î, the same if every source gives 1; the sum over sinks is S: (B, h, L, 1).
        Ô, the flow out of each source (key) if every sink takes 1; the sum is L: (B, h, S, 1).
    """
    incoming = flow(query, key.sum(2), eps)
    outgoing = flow(key, query.sum(2), eps)
    conserved_incoming = flow(query, (key / outgoing).sum(2), eps)
    conserved_outgoing = flow(key, (query / incoming).sum(2), eps)
    return incoming, conserved_incoming, conserved_outgoing


def competition(conserved_outgoing: Tensor) -> Tensor:
    """Softmax over the sources, scaled to mean 1: (B, h, S, 1) -> (B, h, S, 1)."""
    return conserved_outgoing.softmax(2) * conserved_outgoing.shape[2]


def flow_attention(
    query: Tensor, key: Tensor, value: Tensor, *, clamp: bool = False, eps: float = 1e-6
) -> Tensor:
    """(B, h, L, d), 2 × (B, h, S, d) -> (B, h, L, d), in O((L + S) d²) time, O((L + S) d) memory.

    Sources compete for the sinks' attention, and each sink takes its allocation. Keys multiply
    values first, so that no L × S map is stored. Sums over a whole sequence are computed in float32
    at least, also under mixed precision: half precision has too few digits for them.

    Args:
        query: before φ, which is a sigmoid.
        key: before φ.
        value: carried by the flow.
        clamp: whether Ô is cut to [-1, 1] before the competition. The mean of Ô is L / S: for
            L = S, about half of the sources are cut to the same value.
        eps: added to features and sums, against division by zero.
    """
    kind, sinks, sources = value.dtype, query.shape[2], key.shape[2]
    exact = torch.promote_types(kind, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = query.to(exact).sigmoid(), key.to(exact).sigmoid(), value.to(exact)
        incoming, conserved_incoming, conserved_outgoing = conserved_flows(query, key, eps)
        if clamp:
            conserved_outgoing = conserved_outgoing.clamp(-1, 1)
        competing = value * competition(conserved_outgoing)
        aggregated = query / incoming @ (key.transpose(2, 3) @ competing)  # d × d in between
        allocated = torch.sigmoid(conserved_incoming * (sinks / sources)) * aggregated
    return allocated.to(kind)


class Flowformer(nn.Module):
    """Classify the three-phase current by Flow-Attention over all samples.

    Args:
        problem: inputs and outputs.
        dim: D, width of a token (source: 512).
        depth: encoder layers (source: 2).
        heads: attention heads, h (source: 8).
        mlp_ratio: hidden width of the MLPs divided by D (source: 4).
        dropout: rate for embedding, attention output, MLPs and head, in training.
        clamp: whether the outgoing flow of the sources is cut to [-1, 1] before the competition.
        mean_pool: whether the head reads the tokens' mean, which allows any length, instead of
            all tokens, which fixes the length.

    Raises:
        ValueError: a hyperparameter is out of range.
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
        mlp_ratio: float = 4,
        dropout: float = 0.1,
        clamp: bool = False,
        mean_pool: bool = False,
    ) -> None:
        super().__init__()
        channels = problem.current_channels
        self.read = current_reader(problem, "flowformer", any_from=1 if mean_pool else None)
        self.standardize = Standardize.current(channels)
        self.embed = nn.Linear(channels, dim)
        self.scale = math.sqrt(dim)
        self.dropout = nn.Dropout(dropout)
        rule = partial(flow_attention, clamp=clamp)
        self.encoder = post_norm_encoder(
            dim, depth, heads, rule, mlp_ratio=mlp_ratio, dropout=dropout
        )
        self.head = series_head(
            problem.current_samples, dim, problem.num_classes, mean_pool=mean_pool, dropout=dropout
        )

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        tokens = self.embed(self.standardize(self.read(batch))) * self.scale
        positions = sinusoids(*tokens.shape[1:], device=tokens.device)
        tokens = self.dropout(tokens + positions.to(tokens))
        return Prediction(self.head(self.encoder(tokens)))
