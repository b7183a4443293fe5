"""CAPTURE: self-, cross- and co-attention over two streams, with a contrast of matching pairs.

Zhan, Wu, Dong, Wei, Lu, Zhang, Xu, Liang: "Product1M: Towards Weakly Supervised Instance-Level
Product Retrieval via Cross-Modal Pretraining", ICCV 2021, arXiv 2107.14572, Sec. 4. Where the paper
is silent, this file follows the authors' code: all 2B features are contrasted with each other,
temperature 0.07, ReLU behind the pooled tokens.
Differs: for a furnace, a title's words are the samples of three-phase current, and a product's
regions the 2×8×8 tubelets of a clip with an added embedding of their time. The width is FmFormer's
(96, 3 heads; the source has 768, 12), with 4 layers of each kind (the source's joint encoder has
6). The source learns from pairs alone and retrieves; here the contrast is added to the losses of a
class and a mask, and `pretext` adds a stage of gaps, contrast and, unlike the source, matching.
Windows of one recording a few seconds apart match each other, so they are not used as negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.nn import Positions, attend, dense_head
from fmbench.nn.attention import Heads, split_heads
from fmbench.nn.bert import EPS, BertStack, RegionEmbedding, SeriesEmbedding, both
from fmbench.nn.pretext import PretextHeads, Task, apart, draw_task
from fmbench.nn.tokens import Tube
from fmbench.stages import Learn, Stage, Turn
from fmbench.types import Batch, Modality, Prediction, Problem


def similarities(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Cosines between all features, divided by the temperature: 2 × (B, D) -> (2B, 2B)."""
    features = F.normalize(torch.cat([a, b]), dim=1)
    return features @ features.T / temperature


def contrastive_loss(similarity: Tensor, near: Tensor) -> Tensor:
    """Cross-entropy of each feature's pair among all other features of both streams; a scalar.

    Args:
        similarity: (2B, 2B), one stream's features first.
        near: (B, B) bool, windows that are not negatives of each other; pairs always count.
    """
    size = len(near)
    itself = torch.eye(2 * size, dtype=torch.bool, device=near.device)
    pair = itself.roll(size, 1)
    left_out = (near.repeat(2, 2) & ~pair) | itself
    return F.cross_entropy(similarity.masked_fill(left_out, -torch.inf), pair.int().argmax(1))


def pooled(dim: int) -> nn.Sequential:
    """Linear map and ReLU of a stream's first token: (B, D) -> (B, D)."""
    return nn.Sequential(nn.Linear(dim, dim), nn.ReLU())


class CoAttention(nn.Module):
    """One stream's half of a post-norm cross-Transformer layer: its queries, the other's keys."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.to_qkv = nn.Linear(dim, 3 * dim)
        self.to_out = nn.Linear(dim, dim)
        self.norm_attention = nn.LayerNorm(dim, eps=EPS)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim), nn.Dropout(dropout)
        )
        self.norm_mlp = nn.LayerNorm(dim, eps=EPS)

    def qkv(self, tokens: Tensor) -> Heads:
        """(B, N, D) -> queries for this stream, keys and values for the other, (B, h, N, d)."""
        query, key, value = split_heads(self.to_qkv(tokens), 3, self.heads)
        return query, key, value

    def forward(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, N, D), its queries, the other stream's keys and values -> (B, N, D)."""
        dropout = self.dropout if self.training else 0.0
        attended = F.dropout(self.to_out(attend(query, key, value, dropout)), dropout)
        tokens = self.norm_attention(tokens + attended)
        out: Tensor = self.norm_mlp(tokens + self.mlp(tokens))
        return out


class CrossLayer(nn.Module):
    """Both halves at once: each direction sees the other stream as it enters the layer."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        self.current = CoAttention(dim, heads, mlp_ratio, dropout)
        self.video = CoAttention(dim, heads, mlp_ratio, dropout)

    def forward(self, current: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N_c, D) and (B, N_v, D) -> the same shapes."""
        query_c, key_c, value_c = self.current.qkv(current)
        query_v, key_v, value_v = self.video.qkv(video)
        return (
            self.current(current, query_c, key_v, value_v),
            self.video(video, query_v, key_c, value_c),
        )


class CoTransformer(nn.Module):
    """One BERT over both streams, concatenated and with their own positions."""

    def __init__(
        self,
        problem: Problem,
        grid: tuple[int, int, int],
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.positions_current = Positions([(problem.current_samples,)], dim)
        self.positions_video = Positions([grid], dim)
        self.norm = nn.Sequential(nn.LayerNorm(dim, eps=EPS), nn.Dropout(dropout))
        self.layers = BertStack(dim, depth, heads, mlp_ratio, dropout)

    def forward(
        self, current: Tensor, video: Tensor, grid: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        """(B, 1 + L, D) and (B, 1 + n_t·n_h·n_w, D) -> the same shapes."""
        length = current.shape[1]
        current = current + self.positions_current([(length - 1,)])
        video = video + self.positions_video([grid])
        tokens = self.layers(self.norm(torch.cat([current, video], dim=1)))
        return tokens[:, :length], tokens[:, length:]


class Capture(nn.Module):
    """Predict a class and a mask by self-, cross- and co-Transformer, with a contrast of pairs.

    Training needs `Batch.recording` and `Batch.second`. A trained model also accepts other T, L, H
    and W: times and positions are interpolated, and boxes are relative to the image.

    Args:
        problem: inputs and outputs; T a multiple of the tube's frames, H and W of its pixels.
        dim: D, width of a token (source: 768).
        self_depth: layers of each stream's own Transformer.
        cross_depth: cross-Transformer layers.
        co_depth: layers of the co-Transformer (source: 6).
        heads: attention heads, h (source: 12, and 8 in the cross-Transformer).
        mlp_ratio: hidden width of the MLPs divided by D.
        tube: frames, rows and columns of a patch.
        dropout: rate for embeddings, attention, MLPs and class head, in training.
        lr_scale: factor on the run's learning rate (source: 1e-4): 1e-4 if the run's is 5e-4. At
            1e-3, the rate of profile cpu, twelve post-norm layers from random weights stay at
            chance: after 4,000 simulated windows AUROC 0.50, with the factor 0.88.
        contrast: λ, weight of the contrastive loss. In trainings as short as profile cpu's it stays
            at a guess's ln(2B - 1) on simulated recordings, also with the temperature, the tokens
            and the negatives of the source: few windows share little but their class.
        temperature: temperature of the contrastive loss.
        near_seconds: windows of one recording closer than this are not negatives of each other.
        pretext: epochs of the pretext stage divided by those of the supervised stage; 0: no stage.

    Raises:
        ValueError: sizes do not divide, or a hyperparameter is out of range.
    """

    modalities = frozenset({Modality.CROSS})
    dense = frozenset({Modality.CROSS})

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        self_depth: int = 4,
        cross_depth: int = 4,
        co_depth: int = 4,
        heads: int = 3,
        mlp_ratio: float = 4,
        tube: Tube = (2, 8, 8),
        dropout: float = 0.1,
        lr_scale: float = 0.2,
        contrast: float = 0.1,
        temperature: float = 0.07,
        near_seconds: float = 120.0,
        pretext: float = 0.0,
    ) -> None:
        super().__init__()
        if cross_depth < 1:
            raise ValueError(f"cross_depth is {cross_depth}; it must be at least 1")
        for name, value in (
            ("lr_scale", lr_scale),
            ("contrast", contrast),
            ("temperature", temperature),
        ):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be above 0")
        for name, value in (("near_seconds", near_seconds), ("pretext", pretext)):
            if value < 0:
                raise ValueError(f"{name} is {value}; it must be at least 0")
        self.lr_scale = lr_scale
        self.contrast, self.temperature, self.near_seconds = contrast, temperature, near_seconds
        self.series = SeriesEmbedding(problem, dim, dropout)
        self.regions = RegionEmbedding(problem, dim, tube, dropout, mean_region=True)
        grid = self.regions.grid
        self.self_current = BertStack(dim, self_depth, heads, mlp_ratio, dropout)
        self.self_video = BertStack(dim, self_depth, heads, mlp_ratio, dropout)
        self.pool_current, self.pool_video = pooled(dim), pooled(dim)
        self.cross = nn.ModuleList(
            CrossLayer(dim, heads, mlp_ratio, dropout) for _ in range(cross_depth)
        )
        self.co = CoTransformer(problem, grid, dim, co_depth, heads, mlp_ratio, dropout)
        self.last_current, self.last_video = pooled(dim), pooled(dim)

        self.class_head = nn.Sequential(
            nn.Linear(2 * dim, dim), nn.Dropout(dropout), nn.Linear(dim, problem.num_classes)
        )
        self.dense_head = dense_head(problem, dim, steps=grid[0], patch=self.regions.tube[1:])
        self.pretext = pretext
        if pretext:
            self.pretext_heads = PretextHeads(dim, problem.current_channels, 2 * dim)

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        patches, samples = self.inputs(batch)
        current, video = self.alone(self.series(samples), self.regions(patches))
        aux = {}
        if self.training:
            near = ~apart(batch, self.near_seconds)
            aux["contrast"] = self.contrast * self.contrast_of(current, video, near)
        current, video = self.together(current, video, patches)
        mask_logits = None
        if self.dense_head is not None:
            steps, rows = patches.shape[1:3]
            grid = rearrange(video[:, 1:], "b (t y x) d -> b t y x d", t=steps, y=rows)
            mask_logits = self.dense_head(grid)
        return Prediction(self.class_head(self.first(current, video)), mask_logits, aux)

    def stages(self) -> Sequence[Stage]:
        """The supervised stage, after the pretext stage if `pretext` is above 0."""
        named = list(self.named_parameters())
        pretrained = [p for name, p in named if not name.startswith(("class_head", "dense_head"))]
        taught = [p for name, p in named if not name.startswith("pretext_heads")]
        fit = Learn(name="fit", turns=[Turn(parameters=self._at_its_rate(taught))])
        if not self.pretext:
            return [fit]
        turn = Turn(parameters=self._at_its_rate(pretrained), losses=self.pretext_losses)
        return [Learn(name="pretext", turns=[turn], share=self.pretext), fit]

    def _at_its_rate(self, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        return [{"params": parameters, "lr_scale": self.lr_scale}]

    def pretext_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of hidden samples and patches, of matching, and of the contrast of matches."""
        task: Task = draw_task(batch, *self.inputs(batch))
        current, video = self.alone(
            self.series(task.samples, task.hidden_samples),
            self.regions(task.patches, task.hidden_patches),
        )
        pairs = task.matched.nonzero().squeeze(1)
        near = ~apart(batch, self.near_seconds)[pairs][:, pairs]
        contrast = self.contrast_of(current[pairs], video[pairs], near)
        current, video = self.together(current, video, task.patches)
        first = self.first(current, video)
        losses = self.pretext_heads.losses(task, first, video[:, 1:], current[:, 1:])
        return losses | {"contrast": contrast}

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Standard scores: patches (B, n_t, n_h, n_w, P) and samples (B, L, C)."""
        video, current = both(batch)
        return self.regions.patches(video), self.series.standardize(current)

    def alone(self, current: Tensor, video: Tensor) -> tuple[Tensor, Tensor]:
        """(a) Self-Transformers: (B, 1 + L, D) and (B, 1 + N, D) -> the same shapes."""
        return self.self_current(current), self.self_video(video)

    def contrast_of(self, current: Tensor, video: Tensor, near: Tensor) -> Tensor:
        """(b) Contrastive loss of the streams' first tokens; a scalar."""
        a, b = self.pool_video(video[:, 0]), self.pool_current(current[:, 0])
        return contrastive_loss(similarities(a, b, self.temperature), near)

    def together(self, current: Tensor, video: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """(c) and (d): cross-, then co-Transformer; the same shapes."""
        for layer in self.cross:
            current, video = layer(current, video)
        steps, rows, columns = patches.shape[1:4]
        return self.co(current, video, (steps, rows, columns))  # type: ignore[no-any-return]

    def first(self, current: Tensor, video: Tensor) -> Tensor:
        """(e) Both class tokens, each after its own layer: -> (B, 2·D)."""
        return torch.cat([self.last_current(current[:, 0]), self.last_video(video[:, 0])], dim=1)
