"""Flowformer against its explicit matrix form, its conservation laws, and the cost it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cost import LargestTensor, seconds
from current_windows import batch, naive_attention, problem
from fmbench_baselines.flowformer import (
    Flowformer,
    competition,
    conserved_flows,
    flow_attention,
)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_matrix(query: Tensor, key: Tensor, value: Tensor, clamp: bool = False) -> Tensor:
    """Sec. 3 with every flow written out, for one row and head: (L, d), 2 × (S, d)."""
    sinks, sources = len(query), len(key)
    capacity = query.sigmoid() @ key.sigmoid().T  # (L, S), from source j to sink i
    incoming, outgoing = capacity.sum(1), capacity.sum(0)
    conserved_incoming = (capacity / outgoing).sum(1)
    conserved_outgoing = (capacity / incoming[:, None]).sum(0)
    if clamp:
        conserved_outgoing = conserved_outgoing.clamp(-1, 1)
    weight = conserved_outgoing.exp() / conserved_outgoing.exp().sum() * sources
    aggregated = capacity / incoming[:, None] @ (weight[:, None] * value)
    return aggregated / (1 + torch.exp(-conserved_incoming * sinks / sources))[:, None]


@given(
    rows=st.integers(1, 3),
    heads=st.integers(1, 3),
    sinks=st.integers(1, 30),
    sources=st.integers(1, 30),
    clamp=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_the_linear_form_is_the_flow_network_written_out(
    rows: int, heads: int, sinks: int, sources: int, clamp: bool, seed: int
) -> None:
    query = draw(rows, heads, sinks, 8, seed=seed)
    key, value = draw(2, rows, heads, sources, 8, seed=seed + 1)
    out = flow_attention(query, key, value, clamp=clamp, eps=0)
    for row in range(rows):
        for head in range(heads):
            expected = by_matrix(query[row, head], key[row, head], value[row, head], clamp)
            torch.testing.assert_close(out[row, head], expected, atol=1e-10, rtol=1e-9)
    near = flow_attention(query, key, value, clamp=clamp)
    torch.testing.assert_close(near, out, atol=1e-4, rtol=1e-4)  # with the default eps


@pytest.mark.parametrize(("sinks", "sources"), [(240, 240), (7, 90), (90, 7), (1, 1)])
def test_flows_are_conserved(sinks: int, sources: int) -> None:
    query, key = draw(2, 3, sinks, 32).sigmoid(), draw(2, 3, sources, 32, seed=1).sigmoid()
    _, incoming, outgoing = conserved_flows(query, key, eps=0)
    ones = torch.ones(2, 3, 1, dtype=torch.float64)
    torch.testing.assert_close(incoming.sum(2), sources * ones)
    torch.testing.assert_close(outgoing.sum(2), sinks * ones)
    torch.testing.assert_close(competition(outgoing).sum(2), sources * ones)


def test_flows_are_conserved_in_float32_with_the_default_eps() -> None:
    query, key = (
        draw(2, 3, 240, 32).float().sigmoid(),
        draw(2, 3, 240, 32, seed=1).float().sigmoid(),
    )
    _, incoming, outgoing = conserved_flows(query, key)
    for total in (incoming.sum(2), outgoing.sum(2), competition(outgoing).sum(2)):
        torch.testing.assert_close(total, torch.full((2, 3, 1), 240.0), rtol=2e-5, atol=0)


def test_sources_that_are_all_alike_do_not_compete() -> None:
    query, key = draw(2, 3, 9, 8).sigmoid(), draw(2, 3, 1, 8).sigmoid().expand(2, 3, 14, 8)
    weight = competition(conserved_flows(query, key)[2])
    torch.testing.assert_close(weight, torch.ones(2, 3, 14, 1, dtype=torch.float64))


def test_queries_in_another_order_give_the_same_rows_in_that_order() -> None:
    query, key, value = draw(3, 2, 3, 40, 8)
    order = torch.randperm(40)
    expected = flow_attention(query, key, value)[:, :, order]
    torch.testing.assert_close(flow_attention(query[:, :, order], key, value), expected)


def test_sources_in_another_order_give_the_same() -> None:
    query, key, value = draw(3, 2, 3, 40, 8)
    order = torch.randperm(40)
    permuted = flow_attention(query, key[:, :, order], value[:, :, order])
    torch.testing.assert_close(permuted, flow_attention(query, key, value))


def test_the_clamp_levels_about_half_of_the_sources() -> None:
    query, key, value = draw(3, 2, 3, 240, 32)
    outgoing = conserved_flows(query.sigmoid(), key.sigmoid())[2]
    assert 0.4 < float((outgoing > 1).double().mean()) < 0.6
    plain, clamped = (flow_attention(query, key, value, clamp=clamp) for clamp in (False, True))
    assert float((plain - clamped).abs().max()) > 1e-3


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_under_mixed_precision_the_sums_are_still_taken_in_float32(half: torch.dtype) -> None:
    query, key, value = draw(3, 2, 3, 960, 32).to(half)
    expected = flow_attention(query.float(), key.float(), value.float())
    with torch.autocast("cpu", half):
        out = flow_attention(query, key, value)
        unrounded = flow_attention(query.float(), key.float(), value.float())
    assert out.dtype == half
    assert torch.equal(out, expected.to(half))
    assert torch.equal(unrounded, expected)


def test_the_layers_attend_by_flow() -> None:
    torch.manual_seed(0)
    plain = Flowformer(problem()).eval()
    torch.manual_seed(0)
    clamped = Flowformer(problem(), clamp=True).eval()
    attention = plain.encoder[0].attention
    tokens = torch.randn(2, 240, 96)
    heads = [
        part.unflatten(2, (3, 32)).transpose(1, 2)
        for part in attention.to_qkv(tokens).split(96, dim=2)
    ]
    expected = attention.to_out(flow_attention(*heads).transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(tokens), expected)
    assert not torch.allclose(clamped(batch(2)).logits, plain(batch(2)).logits)


def test_every_parameter_learns() -> None:
    model = Flowformer(problem())
    F.cross_entropy(model(batch(4)).logits, batch(4).label).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 1e-7, name


def test_no_tensor_outgrows_the_inputs_where_full_attention_needs_the_square() -> None:
    for length in (240, 960, 3840):
        qkv = draw(3, 1, 1, length, 32).float()
        with LargestTensor() as linear:
            flow_attention(*qkv)
        with LargestTensor() as full:
            naive_attention(*qkv)
        assert linear.elements <= 3 * length * 32  # the drawn qkv itself is that large
        assert full.elements == length**2


@pytest.mark.slow
def test_time_grows_with_the_length_where_that_of_full_attention_grows_with_its_square() -> None:
    def growth(attention: Any, lengths: tuple[int, int]) -> float:
        inputs = [draw(3, 1, 2, length, 32).float() for length in lengths]
        short, long = (seconds(lambda qkv=qkv: attention(*qkv)) for qkv in inputs)  # type: ignore[misc]
        return long / short

    # four times the samples: four times the work here, sixteen times there
    linear, full = growth(flow_attention, (3840, 15360)), growth(naive_attention, (960, 3840))
    print(f"four times the samples: flow {linear:.1f} x the time, full attention {full:.1f} x")
    assert linear < 7 < 10 < full
