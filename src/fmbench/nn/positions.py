"""Learnable positions that are interpolated to other lengths and sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Grid = tuple[int, ...]
"""Extent of a token grid: (L,) for a series, (n_t, n_h, n_w) for video."""

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize_grid(grid: Tensor, size: Sequence[int]) -> Tensor:
    """Interpolate a field over a grid: (B, D, *old) -> (B, D, *size), with exact end points.

    The last step of the first axis (time) is the label's instant and stays exact, also for a single
    output step: the axis is flipped, because a single output takes the first input.
    """
    if tuple(grid.shape[2:]) == tuple(size):
        return grid
    mode = _MODES[len(size)]
    return F.interpolate(grid.flip(2), size=tuple(size), mode=mode, align_corners=True).flip(2)


class Positions(nn.Module):
    """One learnable row for a class token, then one for each token of each grid (e of eqs. 1, 2).

    Args:
        grids: extents in training, in token order.
        dim: D.
        std: standard deviation of the initial rows.
        class_token: whether there is a row for a class token.
    """

    def __init__(
        self, grids: Sequence[Grid], dim: int, std: float = 0.02, class_token: bool = True
    ) -> None:
        super().__init__()
        self.grids = [tuple(grid) for grid in grids]
        self.lead = int(class_token)
        rows = self.lead + sum(math.prod(grid) for grid in self.grids)
        self.table = nn.Parameter(torch.empty(1, rows, dim))
        nn.init.trunc_normal_(self.table, std=std)

    def forward(self, grids: Sequence[Grid]) -> Tensor:
        """The table for these extents: (1, 1 + tokens, D), interpolated where they differ from
        those in training (footnote 1; Fig. 6). The class token's row is never interpolated."""
        if [tuple(grid) for grid in grids] == self.grids:
            return self.table
        parts = torch.split(self.table, [self.lead, *map(math.prod, self.grids)], dim=1)
        resized = [parts[0]]
        for part, old, new in zip(parts[1:], self.grids, grids, strict=True):
            field = part.transpose(1, 2).reshape(1, -1, *old)  # (1, D, *old)
            resized.append(resize_grid(field, new).flatten(2).transpose(1, 2))
        return torch.cat(resized, dim=1)
