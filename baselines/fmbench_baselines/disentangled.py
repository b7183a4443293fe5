"""DeBERTa's disentangled attention, one window at a time: on CPUs, faster than transformers' own.

He, Liu, Gao, Chen: "DeBERTa: Decoding-enhanced BERT with Disentangled Attention", ICLR 2021,
arXiv 2006.03654, eq. (4). transformers gathers a score for every pair of tokens from scores by
distance. Here a view of the scores by distance, each row shifted by one against the last, takes the
place of the gathered copy, and the maps of one window stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from fmbench.nn.tracing import exporting


class AttentionInPieces(DisentangledSelfAttention):
    """transformers' layer, with the same weights and, on a CPU, another way to compute.

    It serves what `bilm.language_config` sets: one map for contents and positions, both terms, no
    buckets, no dropout; and sequences without padding.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor,
        output_attentions: bool = False,
        query_states: Tensor | None = None,
        relative_pos: Tensor | None = None,
        rel_embeddings: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, N, D) tokens and (2·span, D) embeddings of distances -> (B, N, D), no map."""
        if hidden_states.device.type != "cpu" or rel_embeddings is None or exporting():
            forward: Callable[..., tuple[Tensor, Tensor | None]] = super().forward
            given = (output_attentions, query_states, relative_pos, rel_embeddings)
            return forward(hidden_states, attention_mask, *given)
        maps = (self.query_proj, self.key_proj, self.value_proj)
        query, key, value = (self._heads(project(hidden_states)) for project in maps)
        length, span = query.shape[2], self.pos_ebd_size
        near = min(length - 1, span)
        distance = torch.arange(-near, near + 1)  # those beyond the span have the span's embedding
        to_key = self.key_proj(rel_embeddings[(span - distance).clamp(max=2 * span - 1)])
        to_query = self.query_proj(rel_embeddings[(span + distance).clamp(max=2 * span - 1)])
        scale = (3 * query.shape[3]) ** -0.5
        result: Tensor = _InPieces.apply(
            query * scale, key, value, self._heads(to_key), self._heads(to_query) * scale
        )
        return result.transpose(1, 2).flatten(2), None

    def _heads(self, x: Tensor) -> Tensor:
        """(…, N, D) -> (…, h, N, d)."""
        return x.view(*x.shape[:-1], self.num_attention_heads, -1).transpose(-3, -2)


def attend_in_pieces(language: nn.Module) -> None:
    """Change every disentangled attention inside to `AttentionInPieces`; weights stay."""
    for module in language.modules():
        if type(module) is DisentangledSelfAttention:
            module.__class__ = AttentionInPieces


class _InPieces(torch.autograd.Function):
    """softmax(Q Kᵀ + Q Pᵀ + (K Rᵀ)ᵀ) V, P and R by distance; the gradient recomputes the maps."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, to_key: Tensor, to_query: Tensor
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, to_key, to_query)
        out = torch.empty(query.shape, dtype=query.dtype)
        maps = _Maps(query, to_key, to_query)
        for window in range(len(query)):
            probability = maps.probability(query[window], key[window])
            torch.bmm(probability, value[window], out=out[window])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        query, key, value, to_key, to_query = ctx.saved_tensors
        d_query, d_key, d_value = (torch.empty(x.shape, dtype=x.dtype) for x in (query, key, value))
        d_to_key, d_to_query = torch.zeros_like(to_key), torch.zeros_like(to_query)
        maps, back = _Maps(query, to_key, to_query), _Maps(query, to_key, to_query)
        back.by_distance.zero_()
        for window in range(len(query)):
            probability = maps.probability(query[window], key[window])
            torch.bmm(probability.transpose(1, 2), grad[window], out=d_value[window])
            scores = torch.bmm(grad[window], value[window].transpose(1, 2), out=back.map)
            torch._softmax_backward_data(
                scores, probability, -1, probability.dtype, grad_input=scores
            )
            near = back.collect(scores)
            torch.bmm(near, to_key, out=d_query[window]).baddbmm_(scores, key[window])
            d_to_key.baddbmm_(near.transpose(1, 2), query[window])
            near = back.collect(scores.transpose(1, 2))
            torch.bmm(near, to_query, out=d_key[window])
            d_key[window].baddbmm_(scores.transpose(1, 2), query[window])
            d_to_query.baddbmm_(near.transpose(1, 2), key[window])
        return d_query, d_key, d_value, d_to_key, d_to_query


class _Maps:
    """Buffers of one window: maps (h, N, N) and scores by distance (h, N, 2 N - 1).

    Column c of row i has distance c - (N - 1); its score belongs to the pair (i, i + distance).
    """

    def __init__(self, query: Tensor, to_key: Tensor, to_query: Tensor) -> None:
        _, heads, length, _ = query.shape
        wide = 2 * length - 1
        self.map = query.new_empty(heads, length, length)
        self.scores = torch.empty_like(self.map)
        self.by_distance = query.new_empty(heads, length, wide)
        self.by_pair = self.by_distance.as_strided(
            self.map.shape, (length * wide, wide - 1, 1), length - 1
        )
        self.far = (wide - to_key.shape[1]) // 2  # columns beyond the span, on each side
        self.near = self.by_distance[:, :, self.far : wide - self.far]
        self.to_key, self.to_query = to_key.transpose(1, 2), to_query.transpose(1, 2)

    def probability(self, query: Tensor, key: Tensor) -> Tensor:
        """(h, N, d), (h, N, d) -> (h, N, N), in a buffer."""
        self._spread(key, self.to_query)
        torch.baddbmm(self.by_pair.transpose(1, 2), query, key.transpose(1, 2), out=self.scores)
        self._spread(query, self.to_key)
        self.scores.add_(self.by_pair)
        return torch.softmax(self.scores, -1, out=self.map)

    def _spread(self, tokens: Tensor, embeddings: Tensor) -> None:
        """Fill `by_distance` with the products; the outermost serve all distances beyond them."""
        torch.bmm(tokens, embeddings, out=self.near)
        if self.far:
            self.by_distance[:, :, : self.far] = self.near[:, :, :1]
            self.by_distance[:, :, -self.far :] = self.near[:, :, -1:]

    def collect(self, pairs: Tensor) -> Tensor:
        """The adjoint: (h, N, N) -> (h, N, distances within the span), a view of a buffer."""
        if self.far:
            self.near[:, :, :1] = 0
            self.near[:, :, -1:] = 0
        self.by_pair.copy_(pairs)
        if self.far:
            self.near[:, :, 0] += self.by_distance[:, :, : self.far].sum(-1)
            self.near[:, :, -1] += self.by_distance[:, :, -self.far :].sum(-1)
        return self.near
