"""Attention in pieces: its dropout, its gradient with dropout, and what it keeps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fmbench.nn.attention_pieces import attention_in_pieces, kept


def inputs(*shape: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    return [x.requires_grad_() for x in torch.randn(3, *shape, dtype=dtype)]


@pytest.mark.parametrize("rate", [0.0001, 0.1, 0.5, 0.9999])
def test_the_share_that_is_kept(rate: float) -> None:
    torch.manual_seed(0)
    share = float(kept((3, 1001, 997), rate).double().mean())
    spread = math.sqrt(rate * (1 - rate) / (3 * 1001 * 997))
    assert abs(share - (1 - rate)) < 4 * spread + 2**-17


def test_neighbours_are_kept_independently() -> None:
    torch.manual_seed(0)
    values = kept((1_000_000,), 0.5).double() - 0.5
    for lag in range(1, 9):  # four values come from one draw
        assert abs(float((values[lag:] * values[:-lag]).mean())) < 4 * 0.25 / 1000


def test_a_seed_decides_what_is_kept() -> None:
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(kept((5, 7), 0.3))
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])


@pytest.mark.parametrize("masked", [False, True])
def test_output_and_gradients_are_those_of_the_map_with_the_same_values_dropped(
    masked: bool,
) -> None:
    qkv = inputs(2, 3, 11, 4)
    torch.manual_seed(1)
    mask = torch.rand(2, 1, 1, 11) > 0.3 if masked else None
    torch.manual_seed(2)
    out = attention_in_pieces(*qkv, mask, 0.25)
    torch.manual_seed(2)
    keep = kept((2, 3, 11, 11), 0.25)
    query, key, value = qkv
    scores = torch.einsum("bhnd,bhmd->bhnm", query, key) / 2
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    expected = torch.einsum("bhnm,bhmd->bhnd", weights * keep / 0.75, value)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    results = (torch.autograd.grad(each, qkv, weight) for each in (out, expected))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_are_those_of_finite_differences() -> None:
    def call(*qkv: Tensor) -> Tensor:
        torch.manual_seed(3)
        return attention_in_pieces(*qkv, None, 0.25)

    assert torch.autograd.gradcheck(call, inputs(2, 2, 4, 3))


def test_no_map_of_real_numbers_is_kept_for_the_gradient() -> None:
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        attention_in_pieces(*inputs(2, 3, 64, 8), None, 0.1)
    maps = [x.dtype for x in saved if x.shape == (2, 3, 64, 64)]
    assert maps == [torch.bool]
