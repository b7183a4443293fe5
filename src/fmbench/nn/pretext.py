"""Pretext tasks of vision-language methods, before any class: fill gaps, match streams.

Some samples of current and some places of the image are hidden in each window and predicted from
the rest. Half of the windows get the current of another time, which is detected from the first
token.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import reduce, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.types import Batch

HIDDEN = 0.15
"""Share of hidden samples and places, as in BERT (arXiv 1810.04805, Sec. 3.1)."""
FAR_SECONDS = 300.0
"""Two windows this far apart, more than twice the 120 s of a window's current, show different
states of a furnace. Closer windows may match as well as a window matches itself."""


class Task(NamedTuple):
    """A batch with hidden parts and exchanged currents."""

    patches: Tensor
    """(B, n_t, n_h, n_w, P) standard scores before hiding."""
    samples: Tensor
    """(B, L, C) standard scores; where `matched` is false, those of another window."""
    matched: Tensor
    """(B,) bool."""
    hidden_patches: Tensor
    """(B, n_t, n_h, n_w) bool; a place is hidden at all times, or another frame shows it."""
    hidden_samples: Tensor
    """(B, L) bool."""


def draw_task(batch: Batch, patches: Tensor, samples: Tensor) -> Task:
    """Draw gaps and exchanges for a batch from the global generator: for training only.

    Raises:
        ValueError: the batch has no `recording` or no `second`.
    """
    size, steps, rows, columns = patches.shape[:4]
    device = patches.device
    far = apart(batch, FAR_SECONDS)
    alone = ~far.any(1)  # a row without a distant window keeps its own current
    other = torch.multinomial(far.float() + alone.unsqueeze(1), 1).squeeze(1)
    exchanged = (torch.randperm(size, device=device) < size // 2) & ~alone
    places = torch.rand(size, rows, columns, device=device) < HIDDEN
    return Task(
        patches,
        samples[torch.where(exchanged, other, torch.arange(size, device=device))],
        ~exchanged,
        repeat(places, "b y x -> b t y x", t=steps),
        torch.rand(samples.shape[:2], device=device) < HIDDEN,
    )


def apart(batch: Batch, seconds: float) -> Tensor:
    """Pairs of different recordings or at least `seconds` apart: (B, B) bool.

    Raises:
        ValueError: the batch has no `recording` or no `second`.
    """
    if batch.recording is None or batch.second is None:
        raise ValueError(
            "this training compares windows of different times, and the batch does not say from "
            "which recording and second they are (Batch.recording, Batch.second)"
        )
    other = batch.recording.unsqueeze(1) != batch.recording
    return other | ((batch.second.unsqueeze(1) - batch.second).abs() >= seconds)


class PretextHeads(nn.Module):
    """Heads that predict samples, patch colours and the match from an encoder's tokens.

    Args:
        dim: D, width of a token.
        channels: C of the current.
        first_dim: width of the input of the match head.
    """

    def __init__(self, dim: int, channels: int, first_dim: int) -> None:
        super().__init__()
        self.to_sample = nn.Linear(dim, channels)
        self.to_colour = nn.Linear(dim, 3)
        self.to_match = nn.Linear(first_dim, 2)

    def losses(
        self, task: Task, first: Tensor, patch_tokens: Tensor, sample_tokens: Tensor
    ) -> dict[str, Tensor]:
        """Losses by name, each a scalar. Exchanged windows only enter the matching loss.

        Args:
            task: the hidden and exchanged parts.
            first: (B, first_dim).
            patch_tokens: (B, n_t·n_h·n_w, D).
            sample_tokens: (B, L, D).
        """
        colour = reduce(task.patches, "b t y x (p c) -> b (t y x) c", "mean", c=3)
        of_patches = (self.to_colour(patch_tokens) - colour).square()
        of_samples = (self.to_sample(sample_tokens) - task.samples).square()
        matched = task.matched.unsqueeze(1)
        return {
            "masked_current": mean_where(of_samples, task.hidden_samples & matched),
            "masked_patch": mean_where(of_patches, task.hidden_patches.flatten(1) & matched),
            "matching": F.cross_entropy(self.to_match(first), task.matched.long()),
        }


def mean_where(error: Tensor, chosen: Tensor) -> Tensor:
    """Mean of (B, N, C) over the chosen tokens, (B, N) bool; 0 if there are none."""
    return (error.mean(-1) * chosen).sum() / chosen.sum().clamp(min=1)
