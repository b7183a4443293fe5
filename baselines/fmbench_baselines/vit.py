"""ViT: a plain Transformer over two-dimensional patches, here of all frames of a clip.

Dosovitskiy, Beyer, Kolesnikov, Weissenborn, Zhai, Unterthiner, Dehghani, Minderer, Heigold, Gelly,
Uszkoreit, Houlsby: "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
ICLR 2021, arXiv 2010.11929, Sec. 3.1.
Differs: the source reads one image; here the patches of every frame stand in one sequence with a
position each, so that attention joins frames (frames "last" is the source's single image). Patches
of 8 pixels, width 96, 3 heads (ViT-B/16: 16, 768, 12), from scratch; attention without biases of
queries, keys and values. A class head with a hidden layer, as the source has in pre-training, and
FmFormer's head for masks, on the patch tokens.
"""

from __future__ import annotations

from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from fmbench.nn import (
    Encoder,
    Standardize,
    class_head,
    dense_head,
    tube_grid,
    tube_patches,
    video_of,
)
from fmbench.types import Batch, Modality, Prediction, Problem

Frames = Literal["all", "last"]


class Vit(nn.Module):
    """Predict a class and a mask by one Transformer over the patches of all frames or the last one.

    A trained model also accepts other T, H and W: positions are interpolated (Sec. 3.2).

    Args:
        problem: inputs and outputs; H and W multiples of the patch.
        dim: D, width of a token.
        depth: blocks; 12 match FmFormer's 6 layers, which have two attentions each.
        heads: attention heads, h.
        mlp_ratio: hidden width of the MLPs divided by D.
        patch: rows and columns of a patch, in pixels.
        frames: "all" frames of the clip, or the "last" one, which is the label's instant.
        dropout: rate for attention, MLPs and embedding, in training.

    Raises:
        ValueError: sizes do not divide.
    """

    modalities = frozenset({Modality.VISUAL})
    dense = frozenset({Modality.VISUAL})

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        depth: int = 12,
        heads: int = 3,
        mlp_ratio: float = 4,
        patch: int = 8,
        frames: Frames = "all",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if frames not in ("all", "last"):
            raise ValueError(f'frames is {frames!r}; allowed are "all" and "last"')
        self.tube = (1, patch, patch)
        self.first = 0 if frames == "all" else -1
        steps = problem.frames if frames == "all" else 1
        grid = tube_grid(steps, problem.image_size, self.tube)
        self.standardize = Standardize.video()
        self.embed = nn.Linear(patch * patch * 3, dim)
        self.encoder = Encoder(grid, dim, depth, heads, mlp_ratio, dropout)
        self.head = class_head(dim, problem.num_classes, norm=False)
        self.dense_head = dense_head(problem, dim, steps=steps, patch=(patch, patch))

    def tokens(self, video: Tensor) -> Tensor:
        """Eq. (1) without positions: (B, 3, T, H, W) -> (B, n_t, n_h, n_w, D).

        Raises:
            ValueError: H or W is not a multiple of the patch.
        """
        video = video[:, :, self.first :]
        tube_grid(video.shape[2], (video.shape[3], video.shape[4]), self.tube)
        embedded: Tensor = self.embed(tube_patches(self.standardize(video), self.tube))
        return embedded

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        tokens = self.tokens(video_of(batch))
        n_t, n_h, n_w = grid = tokens.shape[1:4]
        cls, patches = self.encoder(rearrange(tokens, "b t y x d -> b (t y x) d"), grid)
        mask_logits = None
        if self.dense_head is not None:
            patches = rearrange(patches, "b (t y x) d -> b t y x d", t=n_t, y=n_h, x=n_w)
            mask_logits = self.dense_head(patches)
        return Prediction(self.head(cls), mask_logits)
