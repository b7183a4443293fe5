"""3DCRNN: convolutional LSTMs that read a clip frame by frame, at decreasing resolution.

Liu, Zhang, Wu, Fan: the three-dimensional convolutional recurrent network for furnace video, 2023,
as FmFormer's paper (arXiv 2406.09016, Sec. V-B2) describes it; the cell is that of Shi, Chen, Wang,
Yeung, Wong, Woo: "Convolutional LSTM Network: A Machine Learning Approach for Precipitation
Nowcasting", NeurIPS 2015, arXiv 1506.04214, eq. (3).
Reconstruction: of the method, only this is public: two-dimensional convolutional LSTM cells extract
features of space and time at once, and pixels are classified. Filled in: three levels of [linear
convolution of stride 2, ConvLSTM] with 32, 64, 96 channels and 3×3 kernels, peepholes, forget gates
that start open (bias 1), the last hidden state as the clip's feature, its spatial mean for the
class, FmFormer's head for masks. Gradients through time are best clipped to norm 1 by the trainer
option gradient_clip_val.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from fmbench.nn import Standardize, class_head, dense_head, tube_grid, video_of
from fmbench.types import Batch, Modality, Prediction, Problem


class ConvLstm(nn.Module):
    """A convolutional LSTM layer, eq. (3) of Shi et al.; states begin at zero.

    The input-to-state and state-to-state kernels of the four gates are one convolution.

    Args:
        channels: C of the input.
        dim: D of both states.
        kernel: rows and columns of the kernels, odd.
        peephole: (H, W) of the map if the gates see the cell through weights for every channel and
            place, which fix that size; None: no peepholes.

    Raises:
        ValueError: the kernel is even and has no centre.
    """

    def __init__(
        self, channels: int, dim: int, kernel: int, peephole: tuple[int, int] | None
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; it must be odd")
        self.dim = dim
        self.gates = nn.Conv2d(channels + dim, 4 * dim, kernel, padding=kernel // 2)
        self.peephole = nn.Parameter(torch.zeros(3, dim, *peephole)) if peephole else None
        nn.init.zeros_(self.gates.bias)  # type: ignore[arg-type]
        nn.init.ones_(self.gates.bias[dim : 2 * dim])  # type: ignore[index]

    def step(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One frame, (B, C, H, W), and both states, (B, D, H, W) -> the new states."""
        gates = self.gates(torch.cat([x, hidden], dim=1))
        i, f, c, o = gates.chunk(4, dim=1)
        if self.peephole is not None:
            i = i + self.peephole[0] * cell
            f = f + self.peephole[1] * cell
        cell = f.sigmoid() * cell + i.sigmoid() * c.tanh()
        if self.peephole is not None:
            o = o + self.peephole[2] * cell  # the output gate sees the new cell
        return o.sigmoid() * cell.tanh(), cell

    def forward(self, frames: Tensor) -> Tensor:
        """(T, B, C, H, W) -> hidden state after each frame, (T, B, D, H, W)."""
        _, count, _, height, width = frames.shape
        hidden = cell = frames.new_zeros(count, self.dim, height, width)
        states = []
        for x in frames:
            hidden, cell = self.step(x, hidden, cell)
            states.append(hidden)
        return torch.stack(states)


class ConvLstmNet(nn.Module):
    """Predict a class and a mask by levels of [convolution of stride 2, ConvLSTM] over all frames.

    A trained model reads clips of any length and, without peepholes, images of any size.

    Args:
        problem: inputs and outputs; three levels need H and W to be multiples of 8.
        widths: D of each level; each level halves the resolution.
        kernel: rows and columns of all kernels, odd and at least 3: a state-to-state kernel of 1
            would see no motion.
        peephole: whether gates see the cell.

    Raises:
        ValueError: widths is empty, sizes do not divide, or the kernel is even or 1.
    """

    modalities = frozenset({Modality.VISUAL})
    dense = frozenset({Modality.VISUAL})

    def __init__(
        self,
        problem: Problem,
        *,
        widths: Sequence[int] = (32, 64, 96),
        kernel: int = 3,
        peephole: bool = True,
    ) -> None:
        super().__init__()
        if not widths:
            raise ValueError("widths is empty; it must name one level or more")
        if kernel < 3:
            raise ValueError(f"kernel is {kernel}; it must be odd and at least 3")
        self.stride = 2 ** len(widths)
        self.size = problem.image_size if peephole else None
        tube_grid(1, problem.image_size, (1, self.stride, self.stride))
        height, width = problem.image_size
        self.standardize = Standardize.video()
        self.convolutions = nn.ModuleList()
        self.cells = nn.ModuleList()
        for level, (channels, dim) in enumerate(pairwise([3, *widths]), start=1):
            size = (height >> level, width >> level) if peephole else None
            self.convolutions.append(
                nn.Conv2d(channels, dim, kernel, stride=2, padding=kernel // 2)
            )
            self.cells.append(ConvLstm(dim, dim, kernel, size))
        self.head = class_head(widths[-1], problem.num_classes)
        patch = (self.stride, self.stride)
        self.dense_head = dense_head(problem, widths[-1], steps=1, patch=patch)

    def encode(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> the deepest level's last hidden state, (B, D, H/8, W/8)."""
        frames = rearrange(self.standardize(video), "b c t h w -> t b c h w")
        count = frames.shape[0]
        for convolve, cell in zip(self.convolutions, self.cells, strict=True):
            maps = convolve(rearrange(frames, "t b c h w -> (t b) c h w"))
            frames = cell(rearrange(maps, "(t b) c h w -> t b c h w", t=count))
        last: Tensor = frames[-1]
        return last

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        video = video_of(batch, image_size=self.size)
        tube_grid(1, (video.shape[3], video.shape[4]), (1, self.stride, self.stride))
        state = self.encode(video)
        mask_logits = None
        if self.dense_head is not None:
            mask_logits = self.dense_head(rearrange(state, "b d y x -> b 1 y x d"))
        return Prediction(self.head(reduce(state, "b d y x -> b d", "mean")), mask_logits)
