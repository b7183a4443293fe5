"""Problems and batches of current, and the attention that the mechanisms are compared with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fmbench.types import Batch, Modality, Problem


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.CURRENT, **changes)


def batch(size: int, samples: int = 240, channels: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(1)
    current = torch.randn(size, samples, channels, generator=draw)
    return Batch(None, current, torch.arange(size) % 2)


def naive_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Full attention with its map in memory."""
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1) @ value
