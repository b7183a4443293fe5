"""Disentangled attention in pieces is that of transformers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers.models.deberta_v2.modeling_deberta_v2 import (
    DisentangledSelfAttention,
    build_relative_position,
)

from fmbench_baselines.bilm import language_config
from fmbench_baselines.disentangled import AttentionInPieces, attend_in_pieces

SPAN = 13  # of language_config(samples=12)


@pytest.mark.parametrize("length", [1, 5, SPAN, SPAN + 1, SPAN + 2, 40])
def test_output_and_gradients_are_those_of_transformers(length: int) -> None:
    torch.manual_seed(0)
    theirs = DisentangledSelfAttention(language_config(20, 12, 24, 1, 3)).double()
    ours = copy.deepcopy(theirs)
    attend_in_pieces(ours)
    assert type(ours) is AttentionInPieces
    tokens = torch.randn(2, length, 24, dtype=torch.float64, requires_grad=True)
    by_distance = torch.randn(2 * SPAN, 24, dtype=torch.float64, requires_grad=True)
    place = build_relative_position(tokens, tokens, bucket_size=-1, max_position=SPAN)
    weight = torch.randn_like(tokens)

    def run(layer: DisentangledSelfAttention) -> tuple[Tensor, ...]:
        mask = torch.ones(2, 1, length, length)
        out = layer(tokens, mask, relative_pos=place, rel_embeddings=by_distance)[0]
        return out, *torch.autograd.grad(out, [tokens, by_distance, *layer.parameters()], weight)

    for one, other in zip(run(ours), run(theirs), strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    layer = DisentangledSelfAttention(language_config(20, 4, 6, 1, 2)).double()
    attend_in_pieces(layer)
    inputs = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 9, 6), (10, 6))
    ]
    assert torch.autograd.gradcheck(
        lambda x, r: layer(x, torch.ones(2, 1, 9, 9), rel_embeddings=r)[0], inputs
    )
