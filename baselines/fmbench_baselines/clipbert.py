"""ClipBERT: a CNN and a BERT trained end to end on the mean of a few raw frames.

Lei, Li, Zhou, Gan, Berg, Bansal, Liu: "Less is More: ClipBERT for Video-and-Language Learning via
Sparse Sampling", CVPR 2021, arXiv 2102.06183, Sec. 3.
Differs: the text is the three-phase current, a sample a word. The source's ResNet-50 and its
pooling halve images six times, which leaves one of 64 pixels; here the CNN is dilated to a stride
of 8, the size of FmFormer's patches, and nothing is pooled. The CNN is a ResNet-18 by default and
starts from random weights, with trained instead of frozen batch norms, unless `pretrained` names a
file. The BERT starts from random weights; its width is FmFormer's (96, 3 heads; the source has 768,
12). One clip of all frames by default, as in FmFormer's comparison (Sec. V-B3); the source's sparse
clips are `num_clips`, cut from the window's frames in order. A mask is read from the visual tokens.
The method averages frames, so that the label's instant has no special weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from fmbench.nn import ImageNet, Standardize, dense_head, tube_grid
from fmbench.nn.bert import EPS, BertStack, SeriesEmbedding, both, learnable
from fmbench.nn.positions import resize_grid
from fmbench.stages import Learn, Stage, Turn
from fmbench.types import Batch, Modality, Prediction, Problem

STRIDE = 8
"""Pixels per step of the CNN's grid."""

Aggregate = Literal["lse", "mean", "max"]
BatchNorms = Literal["train", "frozen"]


class GridFeatures(nn.Module):
    """A 2-D CNN on every frame, then a convolution to the Transformer's width.

    Args:
        name: name of a ResNet in timm.
        dim: D.
        frozen: whether batch norms keep their loaded statistics and weights.
    """

    def __init__(self, name: str, dim: int, *, frozen: bool) -> None:
        import timm  # takes a second or so, which only this model should cost

        super().__init__()
        self.frozen = frozen
        self.cnn = timm.create_model(
            name, pretrained=False, features_only=True, output_stride=STRIDE, out_indices=(-1,)
        )
        (channels,) = cast(Any, self.cnn.feature_info).channels()
        self.convolution = nn.Conv2d(channels, dim, 3, padding=1, bias=False)
        if frozen:
            for norm in self.norms():
                norm.requires_grad_(False)

    def norms(self) -> list[nn.BatchNorm2d]:
        return [module for module in self.cnn.modules() if isinstance(module, nn.BatchNorm2d)]

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        for norm in self.norms() if self.frozen else ():
            norm.eval()
        return self

    def load(self, path: str) -> None:
        """Load the CNN from a file that timm reads: safetensors, or tensors in a .pth.

        Raises:
            ValueError: the file cannot be read or holds another network.
        """
        from timm.models import load_state_dict

        try:
            state = load_state_dict(path, weights_only=True)
            self.cnn.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
        except Exception as error:  # the type depends on the file's format
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"pretrained: {path}: {' '.join(reason[:2])}") from None

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) standard scores -> (B, T, H/8, W/8, D)."""
        (features,) = self.cnn(rearrange(video, "b c t h w -> (b t) c h w"))
        height, width = video.shape[3] // STRIDE, video.shape[4] // STRIDE
        assert features.shape[2:] == (height, width), tuple(features.shape)
        grid: Tensor = self.convolution(features).relu()
        return rearrange(grid, "(b t) d y x -> b t y x d", b=video.shape[0])


class ClipEmbedding(nn.Module):
    """Mean of a clip's frames + row, column and type embeddings, LayerNorm, dropout (Sec. 3)."""

    def __init__(self, rows: int, columns: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.rows = learnable(1, dim, rows)
        self.columns = learnable(1, dim, columns)
        self.kind = learnable(dim)
        self.norm = nn.Sequential(nn.LayerNorm(dim, eps=EPS), nn.Dropout(dropout))

    def forward(self, grid: Tensor) -> Tensor:
        """(B, T, n_h, n_w, D) -> (B, n_h·n_w, D) for any T; embeddings are interpolated."""
        mean = grid.mean(1)
        row = rearrange(resize_grid(self.rows, mean.shape[1:2]), "1 d y -> 1 y 1 d")
        column = rearrange(resize_grid(self.columns, mean.shape[2:3]), "1 d x -> 1 1 x d")
        out: Tensor = self.norm((mean + row + column + self.kind).flatten(1, 2))
        return out


def aggregate_clips(logits: Tensor, how: Aggregate) -> Tensor:
    """Join the logits of all clips: (B, clips, …) -> (B, …)."""
    if how == "lse":
        return logits.logsumexp(1)
    return logits.mean(1) if how == "mean" else logits.amax(1)


class ClipBERT(nn.Module):
    """Predict a class and a mask by one BERT over {class token, current} and the mean frame's grid.

    A trained model also accepts other T, L, H and W: positions are interpolated.

    Args:
        problem: inputs and outputs; H and W are multiples of 8, T of `num_clips`.
        backbone: the CNN (source: resnet50).
        pretrained: file of the CNN's weights, safetensors or .pth; frames are then standardised by
            ImageNet's statistics. Default: random weights.
        batch_norm: "frozen" (source; only with `pretrained`, where it is the default) or "train".
        lr_scale: factor on the run's learning rate, for CNN and BERT (source: 5e-5 for both): 1e-4
            if the run's is 5e-4. At 1e-3, the rate of profile cpu, twelve post-norm layers from
            random weights predict one class for all windows.
        num_clips: number of clips that the frames are cut into; each is read with all the current.
        aggregate: joins the clips' logits: "lse" (log-sum-exp, the default as in the source),
            "mean" or "max". Only for two clips or more.
        dim: D, width of a token (source: 768).
        depth: layers of the BERT.
        heads: attention heads, h (source: 12).
        mlp_ratio: hidden width of the MLPs divided by D.
        dropout: rate for embeddings, attention, MLPs and class head, in training.

    Raises:
        ValueError: sizes do not divide, weights do not fit, or a setting has no effect.
    """

    modalities = frozenset({Modality.CROSS})
    dense = frozenset({Modality.CROSS})

    loaded: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        backbone: Literal["resnet18", "resnet50"] = "resnet18",
        pretrained: str | None = None,
        batch_norm: BatchNorms | None = None,
        lr_scale: float = 0.2,
        num_clips: int = 1,
        aggregate: Aggregate | None = None,
        dim: int = 96,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if num_clips < 1 or problem.frames % num_clips:
            raise ValueError(f"{problem.frames} frames cannot be cut into num_clips {num_clips}")
        if aggregate is not None and num_clips == 1:
            raise ValueError(f"aggregate {aggregate} has no effect on one clip; give num_clips")
        if batch_norm == "frozen" and not pretrained:
            raise ValueError("batch_norm frozen keeps the statistics of weights; give pretrained")
        if lr_scale <= 0:
            raise ValueError(f"lr_scale is {lr_scale}; it must be above 0")
        _, rows, columns = tube_grid(problem.frames, problem.image_size, (1, STRIDE, STRIDE))
        self.num_clips, self.aggregate = num_clips, aggregate or "lse"
        self.lr_scale = lr_scale

        self.standardize = ImageNet() if pretrained else Standardize.video()
        frozen = (batch_norm or ("frozen" if pretrained else "train")) == "frozen"
        self.features = GridFeatures(backbone, dim, frozen=frozen)
        self.pretrained = pretrained
        found = bool(pretrained) and Path(str(pretrained)).is_file()
        self.register_buffer("loaded", torch.tensor(found))
        if pretrained and found:
            self.features.load(pretrained)
        self.series = SeriesEmbedding(problem, dim, dropout)
        self.clip = ClipEmbedding(rows, columns, dim, dropout)
        self.encoder = BertStack(dim, depth, heads, mlp_ratio, dropout)
        self.class_head = nn.Sequential(
            nn.Linear(dim, dim),
            nn.Tanh(),  # BERT's pooler
            nn.Dropout(dropout),
            nn.Linear(dim, 2 * dim),
            nn.ReLU(),
            nn.Linear(2 * dim, problem.num_classes),
        )
        self.dense_head = dense_head(problem, dim, steps=1, patch=(STRIDE, STRIDE))

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        if self.pretrained and not self.loaded:  # a checkpoint can be read without the file
            raise ValueError(f"pretrained: {self.pretrained}: no such file")
        video, current = both(batch)
        frames, height, width = video.shape[2:]
        _, rows, _ = tube_grid(frames, (height, width), (1, STRIDE, STRIDE))
        if frames % self.num_clips:
            raise ValueError(f"{frames} frames cannot be cut into num_clips {self.num_clips}")

        grid = self.features(self.standardize(video))
        clips = rearrange(grid, "b (n t) y x d -> (b n) t y x d", n=self.num_clips)
        text = self.series(self.series.standardize(current))
        text = repeat(text, "b l d -> (b n) l d", n=self.num_clips)
        tokens = self.encoder(torch.cat([text, self.clip(clips)], dim=1))

        mask_logits = None
        if self.dense_head is not None:
            visual = rearrange(tokens[:, text.shape[1] :], "b (y x) d -> b 1 y x d", y=rows)
            mask_logits = self.together(self.dense_head(visual))
        return Prediction(self.together(self.class_head(tokens[:, 0])), mask_logits)

    def together(self, logits: Tensor) -> Tensor:
        """Join the clips of each window: (B·clips, …) -> (B, …)."""
        return aggregate_clips(
            rearrange(logits, "(b n) ... -> b n ...", n=self.num_clips), self.aggregate
        )

    def stages(self) -> Sequence[Stage]:
        """One supervised stage, with one learning rate for CNN and BERT."""
        learning = [p for p in self.parameters() if p not in self._frozen()]
        groups = [{"params": learning, "lr_scale": self.lr_scale}]
        return [Learn(name="fit", turns=[Turn(parameters=groups)])]

    def _frozen(self) -> set[nn.Parameter]:
        norms = self.features.norms() if self.features.frozen else ()
        return {p for norm in norms for p in norm.parameters()}
