"""Flashformer: a plain Transformer whose exact attention is computed tile by tile.

Dao, Fu, Ermon, Rudra, Ré: "FlashAttention: Fast and Memory-Efficient Exact Attention with
IO-Awareness", NeurIPS 2022, arXiv 2205.14135, Sec. 3.1. The encoder and the name come from the
code of Liu et al., "iTransformer", ICLR 2024, arXiv 2310.06625, which compares a post-norm
Transformer with this attention.
Differs: the width is FmFormer's (96, 3 heads; the source has 512, 8), with 3 layers (source: 2);
the kernel is PyTorch's; no calendar features; a head of GELU, flatten, linear (the
Time-Series-Library's) instead of a forecast. The kernel changes the cost of attention, not its
result: accuracy differs from that of any other softmax attention only by rounding, which is to
bfloat16 on a GPU.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fmbench.nn import (
    Standardize,
    conv_embedding,
    current_reader,
    post_norm_encoder,
    series_head,
    sinusoids,
)
from fmbench.nn.series import Padding
from fmbench.types import Batch, Modality, Prediction, Problem

FLASH = SDPBackend.FLASH_ATTENTION
KERNELS = {
    "cuda": (FLASH, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH),
    "cpu": (FLASH, SDPBackend.MATH),
}
"""Kernels by device, in the order in which they are tried; other devices only have MATH."""
REFUSALS = ("No available kernel", "No viable backend")


def flash_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention by the flash kernel: (B, h, L, d), 2 × (B, h, S, d) -> (B, h, L, d).

    On a GPU the flash kernel takes half precision only, so float32 is rounded to bfloat16. Where it
    does not run, another kernel does, and the log names that kernel once in a warning.
    """
    device = query.device.type
    for kernel in KERNELS.get(device, (SDPBackend.MATH,)):
        heads = (query, key, value)
        if kernel is FLASH and device == "cuda" and query.dtype == torch.float32:
            heads = (query.bfloat16(), key.bfloat16(), value.bfloat16())
        try:
            with sdpa_kernel(kernel):
                out = F.scaled_dot_product_attention(*heads)
        except RuntimeError as error:
            if not str(error).startswith(REFUSALS):
                raise
        else:
            report(kernel, device, heads[0].dtype)
            return out.to(query.dtype)
    raise RuntimeError(f"PyTorch has no attention for {query.dtype} on {device}")


@cache  # log once per process
def report(kernel: SDPBackend, device: str, dtype: torch.dtype) -> None:
    """Log which kernel computes attention; a warning if it is not the flash kernel."""
    log = logging.getLogger(__name__)
    if kernel is FLASH:
        log.info("flashformer attends by %s (%s, %s)", kernel.name, device, dtype)
    else:
        log.warning(
            "flashformer attends by %s: the flash kernel does not run here (%s, %s)",
            kernel.name,
            device,
            dtype,
        )


class Flashformer(nn.Module):
    """Classify the three-phase current by exact attention, in tiles, over all samples.

    Args:
        problem: inputs and outputs.
        dim: D, width of a token (source: 512).
        depth: encoder layers (source: 2).
        heads: attention heads, h (source: 8).
        mlp_ratio: hidden width of the MLPs divided by D.
        dropout: rate for embedding, attention output, MLPs and head, in training; not for the
            attention map (the source's tiled code takes such a rate and does not apply it).
        padding: padding of the embedding's convolution. With "circular" (source), the first
            sample sees the last.
        mean_pool: whether the head reads the tokens' mean, which allows any length, instead of
            all tokens, which fixes the length.

    Raises:
        ValueError: a hyperparameter is out of range.
    """

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int = 96,
        depth: int = 3,
        heads: int = 3,
        mlp_ratio: float = 4,
        dropout: float = 0.1,
        padding: Padding = "circular",
        mean_pool: bool = False,
    ) -> None:
        super().__init__()
        channels = problem.current_channels
        self.read = current_reader(problem, "flashformer", any_from=1 if mean_pool else None)
        self.standardize = Standardize.current(channels)
        self.embed = conv_embedding(channels, dim, padding)
        self.dropout = nn.Dropout(dropout)
        self.encoder = post_norm_encoder(
            dim, depth, heads, flash_attention, mlp_ratio=mlp_ratio, dropout=dropout
        )
        self.head = series_head(
            problem.current_samples, dim, problem.num_classes, mean_pool=mean_pool, dropout=dropout
        )

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        tokens = self.embed(self.standardize(self.read(batch)))
        positions = sinusoids(*tokens.shape[1:], device=tokens.device)
        tokens = self.dropout(tokens + positions.to(tokens))
        return Prediction(self.head(self.encoder(tokens)))
