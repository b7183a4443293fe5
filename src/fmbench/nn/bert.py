"""Parts of BERT-like methods: encoder, current as a text, patches as regions.

`fmbench.nn` does not import this module, because transformers takes a second or two to import.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from transformers import AttentionInterface, BertConfig, BertModel

from fmbench.nn.attention import softmax_attention
from fmbench.nn.positions import Positions, resize_grid
from fmbench.nn.standardize import Standardize
from fmbench.nn.tokens import Tube, tube_grid, tube_patches
from fmbench.types import Batch, Problem

EPS = 1e-12
"""Epsilon of BERT's layer norms."""
ATTENTION = "fmbench_softmax"
"""Name of `softmax_attention` among transformers' attention functions."""


def bert_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    """`softmax_attention` as transformers calls it: -> (B, N, h, d) and no map."""
    out = softmax_attention(query, key, value, attention_mask, dropout)
    return out.transpose(1, 2), None


AttentionInterface.register(ATTENTION, bert_attention)


class BertStack(nn.Module):
    """transformers' BERT encoder, post-norm and bidirectional, on embedded tokens.

    The embeddings of `BertModel` are left out: they would add positions of their own, for at most
    512 tokens. Initial weights are normal with BERT's standard deviation, 0.02, at its width 768,
    and √(768/D) times that at other widths; otherwise a narrow layer adds almost nothing to its
    input.

    Args:
        dim: D, a multiple of heads.
        depth: layers.
        heads: attention heads, h.
        mlp_ratio: hidden width of the MLPs divided by D.
        dropout: rate for attention maps and both outputs of a layer, in training.

    Raises:
        ValueError: depth is below 1, or dim is not a multiple of heads.
    """

    def __init__(
        self, dim: int, depth: int, heads: int, mlp_ratio: float = 4, dropout: float = 0.1
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth is {depth}; it must be at least 1")
        if dim % heads:
            raise ValueError(f"dim {dim} is not a multiple of heads {heads}")
        config = BertConfig(
            vocab_size=1,  # the word embeddings are unused
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=int(dim * mlp_ratio),
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            layer_norm_eps=EPS,
            initializer_range=0.02 * (768 / dim) ** 0.5,
            attn_implementation=ATTENTION,  # type: ignore[call-arg]  # taken by the base class
        )
        self.encoder = BertModel(config, add_pooling_layer=False).encoder

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, D) -> (B, N, D).

        `mask`, bool and broadcast to (B, h, N, N), is true where a query may see a key.
        """
        out: Tensor = self.encoder(tokens, attention_mask=mask).last_hidden_state
        return out


class SeriesEmbedding(nn.Module):
    """The current embedded like a text in BERT: {class token, samples} + positions + segment.

    A sample is a word; LayerNorm and dropout follow. Positions are interpolated for other lengths
    than that of `problem`.

    Args:
        problem: gives L and C.
        dim: D.
        dropout: rate in training.
    """

    def __init__(self, problem: Problem, dim: int, dropout: float) -> None:
        super().__init__()
        self.standardize = Standardize.current(problem.current_channels)
        self.project = nn.Linear(problem.current_channels, dim)
        self.cls = learnable(1, 1, dim)
        self.positions = Positions([(problem.current_samples,)], dim)
        self.segment = learnable(1, 1, dim)
        self.norm = nn.Sequential(nn.LayerNorm(dim, eps=EPS), nn.Dropout(dropout))

    def forward(self, samples: Tensor, hidden: Tensor | None = None) -> Tensor:
        """(B, L, C) standard scores -> (B, 1 + L, D); `hidden` samples, (B, L) bool, only keep
        their positions."""
        tokens = shown(self.project(samples), hidden)
        tokens = torch.cat([self.cls.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        out: Tensor = self.norm(tokens + self.positions([(samples.shape[1],)]) + self.segment)
        return out


class RegionEmbedding(nn.Module):
    """Patches embedded like a detector's regions: LN(FC(patch) + FC(box) + time + segment).

    Args:
        problem: gives T, H and W; T is a multiple of the tube's frames, H and W of its pixels.
        dim: D.
        tube: frames, rows and columns of a patch.
        dropout: rate in training.
        mean_region: whether the mean of all patches, with the whole image as its box, comes first.

    Raises:
        ValueError: frames or image are not multiples of the tube.
    """

    def __init__(
        self, problem: Problem, dim: int, tube: Tube, dropout: float, *, mean_region: bool
    ) -> None:
        super().__init__()
        self.tube = (tube[0], tube[1], tube[2])
        self.grid = tube_grid(problem.frames, problem.image_size, self.tube)
        self.standardize = Standardize.video()
        self.project = nn.Linear(3 * tube[0] * tube[1] * tube[2], dim)
        self.locate = nn.Linear(5, dim)
        self.time = learnable(1, dim, self.grid[0])
        self.segment = learnable(1, 1, dim)
        self.mean_region = mean_region
        self.norm = nn.Sequential(nn.LayerNorm(dim, eps=EPS), nn.Dropout(dropout))

    def patches(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), 0-255 -> standard scores, (B, n_t, n_h, n_w, h·w·t·3)."""
        tube_grid(video.shape[2], (video.shape[3], video.shape[4]), self.tube)
        return tube_patches(self.standardize(video), self.tube)

    def forward(self, patches: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Standard scores from `patches` -> (B, n_t·n_h·n_w, D), after the mean region if there
        is one; `hidden` patches, (B, n_t, n_h, n_w) bool, only keep box and time."""
        steps, rows, columns = patches.shape[1:4]
        tokens = shown(self.project(patches), hidden)
        place = rearrange(self.locate(boxes(rows, columns).to(tokens)), "y x d -> 1 1 y x d")
        time = rearrange(resize_grid(self.time, (steps,)), "1 d t -> 1 t 1 1 d")
        regions = (tokens + place + time).flatten(1, 3)
        if self.mean_region:  # without what is hidden
            whole = tokens.mean((1, 2, 3)) + self.locate(boxes(1, 1).to(tokens)[0, 0])
            regions = torch.cat([whole[:, None], regions], dim=1)
        out: Tensor = self.norm(regions + self.segment)
        return out


def boxes(rows: int, columns: int) -> Tensor:
    """(x1, y1, x2, y2, area) of each patch as fractions of the image, from its upper left corner:
    (n_h, n_w, 5)."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    area = torch.full((rows, columns), 1 / (rows * columns))
    return torch.stack([x / columns, y / rows, (x + 1) / columns, (y + 1) / rows, area], dim=-1)


def learnable(*shape: int) -> nn.Parameter:
    """A parameter initialised like BERT's embeddings, normal with standard deviation 0.02."""
    return nn.Parameter(0.02 * torch.randn(shape))


def shown(tokens: Tensor, hidden: Tensor | None) -> Tensor:
    """Tokens with the hidden ones set to 0, as the source methods do with masked regions."""
    return tokens if hidden is None else tokens.masked_fill(hidden.unsqueeze(-1), 0)


def both(batch: Batch) -> tuple[Tensor, Tensor]:
    """The batch's video and current.

    Raises:
        ValueError: one of them is missing.
    """
    if batch.video is None or batch.current is None:
        lacking = "video" if batch.video is None else "current"
        raise ValueError(f"this model reads video and current, and the batch has no {lacking}")
    return batch.video, batch.current
