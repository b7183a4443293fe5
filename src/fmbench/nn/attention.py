"""Softmax attention and the pre-norm Transformer block, for one stream or for two that cross.

B batch, N tokens, D width, h heads, d = D/h width of a head.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, each (B, h, N, d)."""


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(Q Kᵀ / √d) V, heads concatenated: (B, h, N, d) and 2 × (B, h, M, d) -> (B, N, D).

    Eqs. (4) and (7). Uses a fused kernel where the machine has one.
    """
    out = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
    return rearrange(out, "b h n d -> b n (h d)")


def mlp(dim: int, hidden: int, out: int, dropout: float = 0.0) -> nn.Sequential:
    """LayerNorm -> Linear -> GELU -> Linear: (…, dim) -> (…, out), as in eqs. (6), (8) and (12)."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, out),
        nn.Dropout(dropout),
    )


class Attention(nn.Module):
    """Pre-norm multi-head attention of one stream, in steps so that two streams can swap keys.

    Args:
        dim: D, a multiple of heads.
        heads: attention heads, h.
        dropout: rate for the attention map and the output, in training.

    Raises:
        ValueError: dim is not a multiple of heads.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        self.heads = heads
        self.dropout = dropout
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def qkv(self, tokens: Tensor, rows: int | None = None) -> Heads:
        """Eq. (3): (B, N, D) -> queries, keys, values of the normalised tokens, (B, h, N, d).

        With `rows`, only the first `rows` tokens have a query: other results are not needed.
        """
        tokens = self.norm(tokens)
        if rows is None:
            query, key, value = self._heads(self.to_qkv(tokens), 3)
            return query, key, value
        to_query, to_key_value = self.to_qkv.weight.tensor_split([tokens.shape[-1]])
        query = self._heads(F.linear(tokens[:, :rows], to_query), 1)[0]
        key, value = self._heads(F.linear(tokens, to_key_value), 2)
        return query, key, value

    def _heads(self, x: Tensor, parts: int) -> Tensor:
        """(B, N, parts·D) -> (parts, B, h, N, d), a view."""
        return rearrange(x, "b n (k h d) -> k b h n d", k=parts, h=self.heads)

    def output(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Eqs. (4), (5), (7): attention, then the output map: -> (B, N, D)."""
        dropout = self.dropout if self.training else 0.0
        out: Tensor = self.to_out(attend(query, key, value, dropout))
        return F.dropout(out, dropout)

    def added(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """z + attention, for the tokens that have a query."""
        return tokens[:, : query.shape[2]] + self.output(query, key, value)

    def forward(self, tokens: Tensor) -> Tensor:
        """Self-attention without the residual: (B, N, D) -> (B, N, D)."""
        return self.output(*self.qkv(tokens))


class Block(nn.Module):
    """Attention, then an MLP, each with its residual: eqs. (6) and (8) for one stream.

    Args:
        dim: D.
        heads: attention heads, h.
        mlp_ratio: hidden width of the MLP divided by D.
        dropout: rate for attention and MLP, in training.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: float = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dropout)
        self.mlp = mlp(dim, int(dim * mlp_ratio), dim, dropout)

    def update(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """z' = attention + z; z = MLP(z') + z', for the tokens that have a query."""
        tokens = self.attention.added(tokens, query, key, value)
        updated: Tensor = tokens + self.mlp(tokens)
        return updated

    def forward(self, tokens: Tensor, rows: int | None = None) -> Tensor:
        """Eq. (6): (B, N, D) -> (B, N, D), or only its first `rows` tokens."""
        return self.update(tokens, *self.attention.qkv(tokens, rows))


def cross_update(
    first: Block,
    second: Block,
    a: Tensor,
    b: Tensor,
    rows: tuple[int | None, int | None] = (None, None),
) -> tuple[Tensor, Tensor]:
    """Eqs. (7) and (8), both directions at once: (B, N, D) and (B, M, D) -> the same shapes.

    Keys and values come from the other stream; both directions see the streams before the update.
    With `rows`, only the first tokens of each stream are updated.
    """
    query_a, key_a, value_a = first.attention.qkv(a, rows[0])
    query_b, key_b, value_b = second.attention.qkv(b, rows[1])
    return first.update(a, query_a, key_b, value_b), second.update(b, query_b, key_a, value_a)
