"""Softmax attention with dropout, one window at a time: on CPUs, faster than one large map.

A map of (B, h, N, M) values passes through memory, in fresh pages, at each of its steps: scores,
softmax, dropout, and all of these backwards. The map of one window stays in the processor's cache.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BITS = 16
"""Random bits for each value of a map: rates are multiples of 2⁻¹⁶."""


def kept(shape: tuple[int, ...], dropout: float) -> Tensor:
    """Random bool tensor on the CPU, true with probability 1 - dropout, to within 2⁻¹⁷.

    Four values of 16 bits come from one draw of the generator, which takes about a fifth of
    `bernoulli_`'s time.
    """
    size = torch.Size(shape)
    drawn = torch.empty(-(-size.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    values = drawn.view(torch.int16)[: size.numel()].view(size)
    keep: Tensor = values >= round(dropout * 2**BITS) - 2 ** (BITS - 1)
    return keep


def attention_in_pieces(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """softmax(Q Kᵀ / √d), dropout, times V, on the CPU: (B, h, N, d), (B, h, M, d), (B, h, M, d_v).

    The gradient recomputes the maps; it has no gradient of its own.

    Args:
        query: (B, h, N, d).
        key: (B, h, M, d).
        value: (B, h, M, d_v).
        mask: bool, broadcast to (B, h, N, M), true where a query may see a key. A query that may
            see none results in 0.
        dropout: rate for the map, in [0, 1).
    """
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = (x.to(dtype) for x in (query, key, value))
    hidden = None if mask is None else ~mask.expand(*query.shape[:3], key.shape[2])
    out: Tensor = _InPieces.apply(query, key, value, hidden, dropout)
    return out if hidden is None else out.masked_fill(hidden.all(-1, keepdim=True), 0)


class _InPieces(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None, dropout: float
    ) -> Tensor:
        keep = kept((*query.shape[:3], key.shape[2]), dropout) if dropout else None
        ctx.save_for_backward(query, key, value, hidden, keep)
        ctx.dropout = dropout
        out = query.new_empty(*query.shape[:3], value.shape[3])
        piece = _Piece(query, key)
        for window in range(len(query)):
            piece.softmax(query[window], key[window], hidden, window)
            torch.bmm(piece.dropped(keep, window), value[window], out=out[window])
        return out.div_(1 - dropout)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, hidden, keep = ctx.saved_tensors
        grad = grad / (1 - ctx.dropout)
        d_query, d_key, d_value = (torch.empty(x.shape, dtype=x.dtype) for x in (query, key, value))
        piece = _Piece(query, key)
        of_map = torch.empty_like(piece.map)
        for window in range(len(query)):
            probability = piece.softmax(query[window], key[window], hidden, window)
            torch.bmm(
                piece.dropped(keep, window).transpose(1, 2), grad[window], out=d_value[window]
            )
            torch.bmm(grad[window], value[window].transpose(1, 2), out=of_map)
            if keep is not None:
                of_map.mul_(piece.keep)
            torch._softmax_backward_data(
                of_map, probability, -1, probability.dtype, grad_input=of_map
            )
            torch.bmm(of_map, key[window], out=d_query[window])
            torch.bmm(of_map.transpose(1, 2), query[window], out=d_key[window])
        scale = query.shape[3] ** -0.5
        return d_query.mul_(scale), d_key.mul_(scale), d_value, None, None


class _Piece:
    """Buffers for the map of one window, (h, N, M)."""

    def __init__(self, query: Tensor, key: Tensor) -> None:
        self.map = query.new_empty(*query.shape[1:3], key.shape[2])
        self.other = torch.empty_like(self.map)
        self.keep = torch.empty_like(self.map)
        self.scale = query.shape[3] ** -0.5

    def softmax(self, query: Tensor, key: Tensor, hidden: Tensor | None, window: int) -> Tensor:
        """(h, N, d), (h, M, d) -> probabilities (h, N, M), in the first buffer."""
        torch.baddbmm(
            self.map, query, key.transpose(1, 2), beta=0, alpha=self.scale, out=self.other
        )
        if hidden is not None:
            self.other.masked_fill_(hidden[window], torch.finfo(self.other.dtype).min)
        return torch.softmax(self.other, -1, out=self.map)

    def dropped(self, keep: Tensor | None, window: int) -> Tensor:
        """The probabilities, 0 where they are dropped, in the second buffer."""
        if keep is None:
            return self.map
        self.keep.copy_(keep[window])
        return torch.mul(self.map, self.keep, out=self.other)
