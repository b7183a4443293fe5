"""Unicoder-VL: one BERT over a single stream of words and regions.

Li, Duan, Fang, Gong, Jiang: "Unicoder-VL: A Universal Encoder for Vision and Language by
Cross-Modal Pre-Training", AAAI 2020, arXiv 1908.06066, Sec. 3.
Differs: for a furnace, words are the samples of three-phase current, and regions the 8×8 patches of
every frame (as in FmFormer's comparison, Sec. V-B3) with an added embedding of the frame; without a
detector there are no object classes to predict, so the mean colour of a hidden patch is predicted,
and hidden samples are regressed (source: hidden words are classified).
The width is FmFormer's (96, 3 heads; the source has BERT-base's 768, 12), the depth the source's.
The class head has a hidden layer, and a mask is read from the patches' tokens. The source starts
from BERT's weights and is pre-trained on captions; here all weights start at random, and `pretext`
adds a stage of its three tasks on the training windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from fmbench.nn import class_head, dense_head
from fmbench.nn.bert import BertStack, RegionEmbedding, SeriesEmbedding, both
from fmbench.nn.pretext import PretextHeads, Task, draw_task
from fmbench.nn.tokens import Tube
from fmbench.stages import Learn, Stage, Turn
from fmbench.types import Batch, Modality, Prediction, Problem


class UnicoderVL(nn.Module):
    """Predict a class and a mask by one encoder over {class token, current, patches of all frames}.

    A trained model also accepts other T, L, H and W: times and positions are interpolated, and
    boxes are relative to the image.

    Args:
        problem: inputs and outputs; T a multiple of the tube's frames, H and W of its pixels.
        dim: D, width of a token (source: 768).
        depth: layers of the encoder.
        heads: attention heads, h (source: 12).
        mlp_ratio: hidden width of the MLPs divided by D.
        tube: frames, rows and columns of a patch.
        dropout: rate for embeddings, attention and MLPs, in training.
        lr_scale: factor on the run's learning rate: 1e-4, the rate of BERT's own training, if the
            run's is 5e-4. At 1e-3, the rate of profile cpu, twelve post-norm layers from random
            weights predict one class for all windows.
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
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4,
        tube: Tube = (1, 8, 8),
        dropout: float = 0.1,
        lr_scale: float = 0.2,
        pretext: float = 0.0,
    ) -> None:
        super().__init__()
        if pretext < 0:
            raise ValueError(f"pretext is {pretext}; it must be at least 0")
        if lr_scale <= 0:
            raise ValueError(f"lr_scale is {lr_scale}; it must be above 0")
        self.lr_scale = lr_scale
        self.series = SeriesEmbedding(problem, dim, dropout)
        self.regions = RegionEmbedding(problem, dim, tube, dropout, mean_region=False)
        self.encoder = BertStack(dim, depth, heads, mlp_ratio, dropout)
        self.class_head = class_head(dim, problem.num_classes)
        steps, patch = self.regions.grid[0], self.regions.tube[1:]
        self.dense_head = dense_head(problem, dim, steps=steps, patch=patch)
        self.pretext = pretext
        if pretext:
            self.pretext_heads = PretextHeads(dim, problem.current_channels, dim)

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        patches, samples = self.inputs(batch)
        steps, rows = patches.shape[1:3]
        first, _, regions = self.encode(self.series(samples), self.regions(patches))
        mask_logits = None
        if self.dense_head is not None:
            grid = rearrange(regions, "b (t y x) d -> b t y x d", t=steps, y=rows)
            mask_logits = self.dense_head(grid)
        return Prediction(self.class_head(first), mask_logits)

    def stages(self) -> Sequence[Stage]:
        """The supervised stage, after the pretext stage if `pretext` is above 0."""
        parts = (self.series, self.regions, self.encoder)
        body = [p for part in parts for p in part.parameters()]
        heads = [
            p for head in (self.class_head, self.dense_head) if head for p in head.parameters()
        ]
        fit = Learn(name="fit", turns=[Turn(parameters=self._at_its_rate(body + heads))])
        if not self.pretext:
            return [fit]
        pretrained = self._at_its_rate([*body, *self.pretext_heads.parameters()])
        turn = Turn(parameters=pretrained, losses=self.pretext_losses)
        return [Learn(name="pretext", turns=[turn], share=self.pretext), fit]

    def _at_its_rate(self, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
        return [{"params": parameters, "lr_scale": self.lr_scale}]

    def pretext_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of hidden samples, of hidden patches and of matching video and current."""
        task: Task = draw_task(batch, *self.inputs(batch))
        series = self.series(task.samples, task.hidden_samples)
        regions = self.regions(task.patches, task.hidden_patches)
        first, series, regions = self.encode(series, regions)
        return self.pretext_heads.losses(task, first, regions, series)

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Standard scores: patches (B, n_t, n_h, n_w, P) and samples (B, L, C)."""
        video, current = both(batch)
        return self.regions.patches(video), self.series.standardize(current)

    def encode(self, series: Tensor, regions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embedded (B, 1 + L, D) and (B, N, D) -> class token (B, D), samples (B, L, D), patches
        (B, N, D)."""
        tokens = self.encoder(torch.cat([series, regions], dim=1))
        length = series.shape[1]
        return tokens[:, 0], tokens[:, 1:length], tokens[:, length:]
