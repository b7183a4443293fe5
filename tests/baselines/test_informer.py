"""Informer against loops, torch's own attention, and the cost that it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from cost import LargestTensor, seconds
from current_windows import batch, naive_attention, problem
from fmbench.nn import MultiHead
from fmbench.types import Batch
from fmbench_baselines.informer import (
    Informer,
    ProbSparse,
    distilling,
    draw_keys,
    num_active,
    prob_sparse_attention,
    sparsity,
)


def heads(size: int, count: int, length: int, dim: int = 8, seed: int = 0) -> Tensor:
    """Queries, keys, values, one behind the other: (3, B, h, L, d)."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(3, size, count, length, dim, generator=draw, dtype=torch.float64)


def sparsity_by_loop(query: Tensor, key: Tensor, sample: Tensor) -> list[list[list[float]]]:
    """Eq. (4), one query at a time."""
    return [
        [
            [
                max(products) - sum(products) / len(keys)
                for row, chosen in zip(queries, sample.tolist(), strict=True)
                for products in [[float(row @ keys[j]) for j in chosen]]
            ]
            for queries, keys in zip(query_heads, key_heads, strict=True)
        ]
        for query_heads, key_heads in zip(query, key, strict=True)
    ]


@given(
    size=st.integers(1, 3),
    count=st.integers(1, 3),
    length=st.integers(2, 40),
    factor=st.integers(1, 6),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_eq3_the_queries_of_largest_sparsity_attend_and_all_others_take_the_mean_of_the_values(
    size: int, count: int, length: int, factor: int, seed: int
) -> None:
    query, key, value = heads(size, count, length, seed=seed)
    active = num_active(length, factor)
    sample = torch.randint(
        length, (length, active), generator=torch.Generator().manual_seed(seed + 1)
    )
    measured = sparsity(query, key, sample)
    expected = sparsity_by_loop(query, key, sample)
    torch.testing.assert_close(measured, torch.tensor(expected, dtype=torch.float64))

    out = prob_sparse_attention(query, key, value, sample, active)
    full = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1) @ value
    for row in range(size):
        for head in range(count):
            order = sorted(range(length), key=lambda i: expected[row][head][i], reverse=True)
            busy, lazy = order[:active], order[active:]
            torch.testing.assert_close(out[row, head, busy], full[row, head, busy])
            mean = value.mean(2)[row, head]
            assert (out[row, head, lazy] == mean).all()  # bit for bit
            assert (out[row, head, busy] != mean).any(-1).all()


def test_at_240_samples_thirty_queries_attend_and_a_planted_one_is_among_them() -> None:
    assert num_active(240, 5) == 30
    query, key, value = heads(2, 3, 240, dim=32)
    query[:, :, 117] *= 50
    sample = draw_keys(240, 30, True, query.device)
    out = prob_sparse_attention(query, key, value, sample, 30)
    attends = (out != value.mean(2, keepdim=True)).any(-1)  # (B, h, L)
    assert (attends.sum(-1) == 30).all()
    assert attends[:, :, 117].all()


@pytest.mark.parametrize(
    ("length", "expected"), [(2, 2), (3, 3), (24, 20), (60, 25), (120, 25), (3840, 45)]
)
def test_number_of_active_queries_grows_with_the_logarithm(length: int, expected: int) -> None:
    assert num_active(length, 5) == expected


def test_with_a_factor_that_admits_all_queries_it_is_multi_head_attention() -> None:
    sparse = ProbSparse(factor=100)
    ours = MultiHead(96, 3, sparse).double()
    theirs = nn.MultiheadAttention(96, 3, batch_first=True).double()
    theirs.in_proj_weight.data.copy_(ours.to_qkv.weight.data)
    theirs.in_proj_bias.data.copy_(ours.to_qkv.bias.data)
    theirs.out_proj.load_state_dict(ours.to_out.state_dict())
    tokens = torch.randn(2, 40, 96, dtype=torch.float64)
    expected = theirs(tokens, tokens, tokens)[0]
    torch.testing.assert_close(ours(tokens), expected)
    sparse.factor = 5
    assert not torch.allclose(ours(tokens), expected)


@pytest.mark.parametrize("length", [5, 8, 240])
def test_eq5_distilling_is_convolution_batch_norm_elu_and_the_largest_of_three(
    length: int,
) -> None:
    module = distilling(6, "circular").double().eval()
    convolution, norm = module[1], module[2]
    assert isinstance(convolution, nn.Conv1d)
    assert isinstance(norm, nn.BatchNorm1d)
    for statistic in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
        assert statistic is not None
        statistic.data.uniform_(0.5, 2)
    tokens = torch.randn(2, length, 6, dtype=torch.float64)

    around = [tokens.roll(shift, 1) for shift in (1, 0, -1)]  # before, here, after
    x = sum(part @ convolution.weight[:, :, tap].T for tap, part in enumerate(around))
    assert isinstance(x, Tensor)
    x = x + convolution.bias
    x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    x = torch.where(x > 0, x, x.exp() - 1)
    expected = torch.stack(
        [x[:, max(0, i - 1) : i + 2].amax(1) for i in range(0, length, 2)], dim=1
    )
    torch.testing.assert_close(module(tokens), expected)


def test_without_distilling_no_token_is_lost() -> None:
    model = Informer(problem(), distil=False).eval()
    assert model(batch(2)).logits.shape == (2, 2)
    assert model.head[-1].in_features == 240 * 96


def test_every_parameter_learns() -> None:
    model = Informer(problem())
    F.cross_entropy(model(batch(4)).logits, batch(4).label).backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7}
    # Constants that the batch normalisation of the distilling behind them takes away again.
    biases = {f"encoder.{layer}.norm_mlp.bias" for layer in (0, 2)}
    assert still <= biases | {f"encoder.{distil}.1.bias" for distil in (1, 3)}


def test_training_draws_new_keys_at_each_step_and_evaluation_always_the_same() -> None:
    model = Informer(problem(), dropout=0.0)
    assert not torch.equal(model(batch(4)).logits, model(batch(4)).logits)
    model.eval()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = model(batch(4)).logits
    assert torch.equal(torch.get_rng_state(), state)  # not even read
    torch.manual_seed(4)
    assert torch.equal(model(batch(4)).logits, first)


def test_in_evaluation_a_row_depends_neither_on_its_neighbours_nor_on_its_place() -> None:
    model = Informer(problem()).eval()
    rows = batch(8)
    logits = model(rows).logits
    for row in range(8):
        alone = Batch(None, rows.current[row : row + 1], rows.label[row : row + 1])  # type: ignore[index]
        torch.testing.assert_close(model(alone).logits[0], logits[row], atol=1e-5, rtol=1e-4)
    order = torch.randperm(8)
    turned = Batch(None, rows.current[order], rows.label[order])  # type: ignore[index]
    torch.testing.assert_close(model(turned).logits, logits[order], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"factor": 0}, "factor is 0; it must be at least 1"),
        ({"depth": 9}, "240 samples of current are too few for informer with 9 layers.*257"),
    ],
)
def test_a_depth_or_factor_that_cannot_work_is_refused(net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Informer(problem(), **net)


def sparse_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    active = num_active(query.shape[2], 5)
    sample = draw_keys(query.shape[2], active, True, query.device)
    return prob_sparse_attention(query, key, value, sample, active)


def test_no_tensor_outgrows_the_inputs_where_full_attention_needs_the_square() -> None:
    for length in (240, 960, 3840):
        qkv = heads(1, 1, length, dim=32).float()
        with LargestTensor() as sparse:
            sparse_attention(*qkv)
        with LargestTensor() as full:
            naive_attention(*qkv)
        # L·d, or the int64 indices of the sampled keys, L·U
        assert sparse.elements <= length * max(3 * 32, 2 * num_active(length, 5))
        assert full.elements == length**2


@pytest.mark.slow
def test_time_grows_with_the_length_where_that_of_full_attention_grows_with_its_square() -> None:
    lengths = (240, 960, 3840)

    def growth(attention: Any) -> list[float]:
        inputs = [heads(1, 2, length, dim=32).float() for length in lengths]
        return [seconds(lambda qkv=qkv: attention(*qkv)) for qkv in inputs]  # type: ignore[misc]

    sparse, full = growth(sparse_attention), growth(naive_attention)
    print(f"seconds at {lengths}: sparse {sparse}, full {full}")
    # 16 times the samples: by count of products 24 times the work here, 256 times there
    assert sparse[-1] / sparse[0] < full[-1] / full[0] / 3
    assert sparse[-1] < full[-1]
