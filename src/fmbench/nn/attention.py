"""Softmax attention and the pre-norm Transformer block, for one stream or for two that cross.

B batch, N tokens, D width, h heads, d = D/h width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn.attention_pieces import attention_in_pieces
from fmbench.nn.processor import native_bfloat16

Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values, each (B, h, N, d)."""
Way = Literal["explicit", "pieces", "sdpa"]
"""Two matrix products and a softmax; the same for one window after the other (on CPUs); or
`F.scaled_dot_product_attention`. They differ in rounding, speed and memory: the first keeps the
(B, h, N, M) map for the gradient."""

# Read at import, because torch.compile can trace neither.
NATIVE_BFLOAT16 = native_bfloat16()
AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"

# Measured by `python benchmarks/attention_choice.py`; see benchmarks/attention_choice.md.
LARGEST_MAP = 2**28
"""Bytes of the largest map that is kept for the gradient where SDPA keeps none. FmFormer on both
inputs (10 frames, 240 samples) keeps 24 maps, together 0.95 GB in bfloat16 at batch 64."""
SHORT = 64
"""Most keys of a short sequence in float32."""
LANES, TAIL = 16, 12
"""float32 values in a vector of AVX-512. PyTorch's flash kernel for CPUs computes the last
M mod 16 exponentials of a row one by one; 12 or more of a short row take as long as keeping the map
does, or longer."""

LARGE_PIECE = 2**17
"""Bytes of one window's map from which, with dropout, one window at a time is faster."""

_forced: Way | None = None


@contextmanager
def attention_by(way: Literal["auto"] | Way) -> Iterator[None]:
    """Compute all softmax attention in this way, for benchmarks and tests; "auto": by `way_of`.

    Raises:
        ValueError: there is no such way.
    """
    global _forced
    allowed = ("auto", *get_args(Way))
    if way not in allowed:
        raise ValueError(f"way is {way!r}; allowed are {', '.join(allowed)}")
    before, _forced = _forced, None if way == "auto" else way
    try:
        yield
    finally:
        _forced = before


def way_of(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Way:
    """The faster way for these inputs on this device.

    On CPUs, SDPA has a fused kernel without a map in memory. It gains nothing from bfloat16 in
    hardware, its backward pass in bfloat16 is slow, and so are some short sequences. It has no
    dropout: with dropout, SDPA keeps the map too. A large map passes through memory at each of its
    steps, so that large windows are faster one at a time. Other devices have faster kernels.
    """
    if _forced is not None:
        return _forced
    if query.device.type != "cpu":
        return "sdpa"
    dtype = query.dtype
    if torch.is_autocast_enabled("cpu") and dtype is not torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
    if dtype not in (torch.float32, torch.bfloat16):
        return "sdpa"
    keys = key.shape[2]
    if dropout > 0:
        large = query.shape[1:3].numel() * keys * dtype.itemsize >= LARGE_PIECE
        return "pieces" if large and not torch.compiler.is_compiling() else "explicit"
    if query.shape[:3].numel() * keys * dtype.itemsize > LARGEST_MAP:
        return "sdpa"
    if dtype is torch.bfloat16:
        inputs = (query, key, value)
        learns = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
        return "explicit" if NATIVE_BFLOAT16 or learns else "sdpa"
    return "explicit" if AVX512 and keys <= SHORT and keys % LANES >= TAIL else "sdpa"


def softmax_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """softmax(Q Kᵀ / √d) V: (B, h, N, d) and 2 × (B, h, M, d) -> (B, h, N, d), eqs. (4) and (7).

    Args:
        query: (B, h, N, d).
        key: (B, h, M, d).
        value: (B, h, M, d).
        mask: bool, broadcast to (B, h, N, M), true where a query may see a key. A query that may
            see none results in 0.
        dropout: rate for the map.
    """
    way = way_of(query, key, value, dropout)
    if way == "sdpa":
        return F.scaled_dot_product_attention(query, key, value, mask, dropout)
    if way == "pieces":
        return attention_in_pieces(query, key, value, mask, dropout)
    batch, scale = query.shape[0], query.shape[3] ** -0.5
    query, key, value = (rearrange(x, "b h n d -> (b h) n d") for x in (query, key, value))
    nothing = query.new_empty(1, 1, 1)
    scores = torch.baddbmm(nothing, query, key.transpose(1, 2), beta=0, alpha=scale)
    if mask is not None:
        hidden = ~mask
        rearrange(scores, "(b h) n m -> b h n m", b=batch).masked_fill_(
            hidden, torch.finfo(scores.dtype).min
        )
    out = torch.bmm(F.dropout(scores.softmax(-1), dropout), value)
    out = rearrange(out, "(b h) n d -> b h n d", b=batch)
    return out if mask is None else out.masked_fill(hidden.all(-1, keepdim=True), 0)


def attend(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """`softmax_attention`, heads concatenated: (B, h, N, d), 2 × (B, h, M, d) -> (B, N, D)."""
    return rearrange(softmax_attention(query, key, value, dropout=dropout), "b h n d -> b n (h d)")


def split_heads(x: Tensor, parts: int, heads: int) -> tuple[Tensor, ...]:
    """(B, N, parts·D) -> `parts` views, (B, h, N, d), whose gradients are joined by one copy."""
    parted = rearrange(x, "b n (k h d) -> b n k h d", k=parts, h=heads)
    return tuple(part.transpose(1, 2) for part in parted.unbind(2))


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
            query, key, value = split_heads(self.to_qkv(tokens), 3, self.heads)
            return query, key, value
        to_query, to_key_value = self.to_qkv.weight.tensor_split([tokens.shape[-1]])
        (query,) = split_heads(F.linear(tokens[:, :rows], to_query), 1, self.heads)
        key, value = split_heads(F.linear(tokens, to_key_value), 2, self.heads)
        return query, key, value

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
