"""FmFormer: the cross-modal Transformer of the paper, for video, current, or both.

Wu, Zhang, Deng, Zhang, Chai: "Cross-Modal Learning for Anomaly Detection in Complex Industrial
Process: Methodology and Benchmark", IEEE TCSVT 35(3), 2025, arXiv 2406.09016, Sec. III.
Differs: where the authors' released network departs from the paper, this file follows the paper;
`fmbench.models.official` follows the released network. Dilated patches use every d-th pixel once,
as the released network's do: at 64 pixels as many as in the paper, at some other sizes one fewer a
side (120 pixels: 7, not ⌊120/15⌋ = 8; 256 pixels: 16, not 17).
"""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fmbench.nn import (
    Block,
    Positions,
    Standardize,
    class_head,
    cross_update,
    dense_head,
    tube_grid,
    tube_patches,
)
from fmbench.nn.positions import Grid
from fmbench.nn.tokens import Tube
from fmbench.types import Batch, Modality, Prediction, Problem

Interaction = Literal["sa_ca", "sa_sa", "ca_ca"]
Fusion = Literal["sum", "video_only"]


class VideoTokens(nn.Module):
    """Eq. (1): {class token, dilated patches, standard patches} through one linear map, + e_v."""

    def __init__(
        self, problem: Problem, dim: int, tube: Tube, dilations: tuple[int, ...], std: float
    ) -> None:
        super().__init__()
        self.tube = tube
        self.dilations = dilations
        frames, size = problem.frames, problem.image_size
        grids = [tube_grid(frames, size, tube, dilation) for dilation in dilations]
        self.standardize = Standardize.video()
        self.embed = nn.Linear(tube[0] * tube[1] * tube[2] * 3, dim, bias=False)
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = Positions(grids, dim, std)
        nn.init.trunc_normal_(self.cls, std=std)

    def forward(self, video: Tensor) -> tuple[Tensor, list[Grid]]:
        """(B, 3, T, H, W) -> (B, N_v, D) and the grids behind the class token, in order."""
        tube_grid(video.shape[2], (video.shape[3], video.shape[4]), self.tube)
        video = self.standardize(video)
        patches = [tube_patches(video, self.tube, dilation) for dilation in self.dilations]
        grids: list[Grid] = [tuple(patch.shape[1:4]) for patch in patches]
        tokens = self.embed(torch.cat([patch.flatten(1, 3) for patch in patches], dim=1))
        tokens = torch.cat([self.cls.expand(video.shape[0], -1, -1), tokens], dim=1)
        return tokens + self.positions(grids), grids


class CurrentTokens(nn.Module):
    """Eq. (2): {class token, every sample of the current} through a linear map, + e_c."""

    def __init__(self, problem: Problem, dim: int, std: float) -> None:
        super().__init__()
        self.standardize = Standardize.current(problem.current_channels)
        self.embed = nn.Linear(problem.current_channels, dim, bias=False)
        self.cls = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = Positions([(problem.current_samples,)], dim, std)
        nn.init.trunc_normal_(self.cls, std=std)

    def forward(self, current: Tensor) -> Tensor:
        """(B, L, C) amperes -> (B, L + 1, D)."""
        tokens = self.embed(self.standardize(current))
        tokens = torch.cat([self.cls.expand(current.shape[0], -1, -1), tokens], dim=1)
        out: Tensor = tokens + self.positions([(current.shape[1],)])
        return out


class FmFormer(nn.Module):
    """Predict a class and a mask by self- and cross-attention over video and current tokens.

    With one modality, the cross-attention becomes a second self-attention and nothing is fused
    (Sec. V-C3). A trained model also accepts other T, L, H and W: positions are interpolated.

    Args:
        problem: inputs and outputs; T a multiple of the tube's frames, H and W of its pixels.
        dim: D, width of a token.
        depth: L_e, layers; each has two attention sub-layers per stream, each with its MLP.
        heads: attention heads, L_s = L_c.
        mlp_ratio: hidden width of the MLPs divided by D (as released; not in the paper).
        tube: frames, rows, columns of a patch, t_v × h_v × w_v.
        dilation: d, spacing of the pixels of a dilated patch.
        dilated: whether to use dilated tokens (Table III) and with them eq. (10).
        interaction: the two sub-layers of a layer (Table V): "sa" self-, "ca" cross-attention.
            Default sa_ca for cross-modal input, sa_sa (the only one possible) for one modality.
        fusion: class logits from both class tokens (eq. 12) or from the video's alone (Table V,
            ID 3). Default sum; only for cross-modal input.
        dropout: rate for attention and MLPs, in training.
        init_std: standard deviation of the initial positions and class tokens.
        checkpoint: whether to store only the input of each layer and recompute the layer for the
            gradient: training takes less memory and about a third longer.

    Raises:
        ValueError: sizes do not divide, or an option has no effect on this modality.
    """

    modalities = frozenset(Modality)
    dense = frozenset({Modality.VISUAL, Modality.CROSS})

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        depth: int = 6,
        heads: int = 3,
        mlp_ratio: float = 4,
        tube: Tube = (2, 8, 8),
        dilation: int = 2,
        dilated: bool = True,
        interaction: Interaction | None = None,
        fusion: Fusion | None = None,
        dropout: float = 0.0,
        init_std: float = 0.02,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        cross = problem.modality is Modality.CROSS
        if not cross and (interaction not in (None, "sa_sa") or fusion is not None):
            raise ValueError(
                f"interaction and fusion join two modalities; {problem.modality} input has one"
            )
        if not dilated and not problem.modality.has_video:
            raise ValueError("dilated concerns video tokens; current input has none")
        if (interaction, fusion) == ("sa_sa", "video_only"):
            raise ValueError(
                "with interaction sa_sa and fusion video_only the current has no effect"
            )
        tube = (tube[0], tube[1], tube[2])
        kinds = (interaction or ("sa_ca" if cross else "sa_sa")).split("_") * depth
        self.cross_layers = [kind == "ca" for kind in kinds]

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(Block(dim, heads, mlp_ratio, dropout) for _ in kinds)

        self.modality = problem.modality
        self.current_head = None
        if problem.modality.has_video:
            dilations = (dilation, 1) if dilated else (1,)
            self.video_tokens = VideoTokens(problem, dim, tube, dilations, init_std)
            self.video_blocks = blocks()
            self.video_head = class_head(dim, problem.num_classes)
        if problem.modality.has_current:
            self.current_tokens = CurrentTokens(problem, dim, init_std)
            self.current_blocks = blocks()
            if fusion == "video_only":  # no head reads the last current tokens: no gradient
                last = cast(Block, self.current_blocks[-1])
                last.attention.to_out.requires_grad_(False)
                last.mlp.requires_grad_(False)
            else:
                self.current_head = class_head(dim, problem.num_classes)
        steps = problem.frames // tube[0]
        self.dense_head = dense_head(problem, dim, steps=steps, patch=tube[1:], dilated=dilated)

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        video, grids, current = None, [], None
        if self.modality.has_video:
            video, grids = self.video_tokens(_given(batch.video, "video"))
        if self.modality.has_current:
            current = self.current_tokens(_given(batch.current, "current"))
        video, current = self.encode(video, current)

        logits = []
        if video is not None:
            logits.append(self.video_head(video[:, 0]))
        if current is not None and self.current_head is not None:
            logits.append(self.current_head(current[:, 0]))
        mask_logits = None
        if video is not None and self.dense_head is not None:
            parts = torch.split(video[:, 1:], [math.prod(grid) for grid in grids], dim=1)
            images = [
                rearrange(part, "b (t y x) d -> b t y x d", t=grid[0], y=grid[1])
                for part, grid in zip(parts, grids, strict=True)
            ]
            mask_logits = self.dense_head(*reversed(images))  # standard tokens come last
        return Prediction(
            sum(logits[1:], logits[0]), mask_logits
        )  # eq. (12) without softmax, which is in the loss

    def encode(
        self, video: Tensor | None, current: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Sec. III-B: (B, N_v, D) and (B, N_c, D), or one of them, through all layers.

        Tokens that no head reads are not computed: the last layer only computes the class tokens,
        and all video tokens if there is a mask.
        """
        rows: tuple[int | None, int | None] = (None, None)
        for layer in range(len(self.cross_layers)):
            if layer == len(self.cross_layers) - 1:
                rows = (None if self.dense_head else 1, 1)
            if self.checkpoint and torch.is_grad_enabled():
                video, current = checkpoint(
                    self.sublayer, layer, video, current, rows, use_reentrant=False
                )
            else:
                video, current = self.sublayer(layer, video, current, rows)
        return video, current

    def sublayer(
        self,
        layer: int,
        video: Tensor | None,
        current: Tensor | None,
        rows: tuple[int | None, int | None],
    ) -> tuple[Tensor | None, Tensor | None]:
        """One attention of each stream with its MLP, for the first `rows` tokens or all."""
        if self.cross_layers[layer] and video is not None and current is not None:
            first = cast(Block, self.video_blocks[layer])
            second = cast(Block, self.current_blocks[layer])
            return cross_update(first, second, video, current, rows)
        if video is not None:
            video = self.video_blocks[layer](video, rows[0])
        if current is not None:
            current = self.current_blocks[layer](current, rows[1])
        return video, current


def _given(x: Tensor | None, name: str) -> Tensor:
    if x is None:
        raise ValueError(f"this model reads {name}, and the batch has none")
    return x
