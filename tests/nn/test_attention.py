"""Softmax attention: all ways agree with float64 and each other, and the faster one is chosen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fmbench.models import FmFormer
from fmbench.nn import Attention, attend, attention
from fmbench.nn.attention import (
    LARGEST_MAP,
    Way,
    attention_by,
    softmax_attention,
    split_heads,
    way_of,
)
from fmbench.types import Batch, Modality, Problem

WAYS: tuple[Way, ...] = get_args(Way)


def heads(queries: int = 61, keys: int = 81, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as a projection leaves them: views, heads beside each other."""
    torch.manual_seed(0)
    (query,) = split_heads(torch.randn(2, queries, 96, **options), 1, 3)
    key, value = split_heads(torch.randn(2, keys, 192, **options), 2, 3)
    return query, key, value


def masks() -> dict[str, Tensor | None]:
    torch.manual_seed(1)
    some = torch.rand(2, 3, 61, 81) > 0.5
    some[1, 2, 7] = False  # a query that may see nothing
    return {"none": None, "full": some, "of keys": torch.rand(2, 1, 1, 81) > 0.3}


def naive(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """One query at a time, in float64; 0 where a query sees no key."""
    query, key, value = query.double(), key.double(), value.double()
    out = torch.zeros_like(query)
    seen = torch.ones(1, dtype=torch.bool) if mask is None else mask
    seen = seen.expand(*query.shape[:3], key.shape[2])
    for b, h, n in torch.cartesian_prod(*map(torch.arange, query.shape[:3])).tolist():
        keys = seen[b, h, n].nonzero().squeeze(1)
        weights = (key[b, h, keys] @ query[b, h, n] / math.sqrt(query.shape[3])).exp()
        if len(keys):
            out[b, h, n] = weights @ value[b, h, keys] / weights.sum()
    return out


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mask", masks())
def test_each_way_is_softmax_attention_of_every_query(way: Way, mask: str) -> None:
    qkv = heads()
    with attention_by(way):
        out = softmax_attention(*qkv, masks()[mask])
    torch.testing.assert_close(out.double(), naive(*qkv, masks()[mask]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mask", masks())
def test_all_ways_have_the_same_gradients(mask: str) -> None:
    grads = []
    for way in WAYS:
        inputs = [x.detach().requires_grad_() for x in heads()]
        with attention_by(way):
            out = softmax_attention(*inputs, masks()[mask])
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        grads.append([x.grad for x in inputs])
    for first, *others in zip(*grads, strict=True):
        for other in others:
            torch.testing.assert_close(first, other, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_those_of_finite_differences(way: Way, masked: bool) -> None:
    inputs = [x.detach().requires_grad_() for x in torch.randn(3, 1, 2, 4, 3).double()]
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]]).bool()

    def call(*qkv: Tensor) -> Tensor:
        with attention_by(way):
            return softmax_attention(*qkv, mask if masked else None)

    assert torch.autograd.gradcheck(call, inputs)


@pytest.mark.parametrize("way", WAYS)
def test_dropout_clears_a_share_of_the_map_and_scales_the_rest(way: Way) -> None:
    query, key, _ = heads(80, 96)
    value = torch.eye(96).expand(2, 3, 96, 96)  # the output is the map
    with attention_by(way):
        whole = softmax_attention(query, key, value)
        dropped = softmax_attention(query, key, value, dropout=0.3)
    kept = dropped != 0
    assert float(kept.float().mean()) == pytest.approx(0.7, abs=0.01)
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.7)


def test_a_joined_projection_is_split_into_parts_then_heads() -> None:
    x = torch.randn(2, 5, 24, requires_grad=True)
    parts = split_heads(x, 3, 2)
    for k, part in enumerate(parts):
        for h in range(2):
            begin = 8 * k + 4 * h
            torch.testing.assert_close(part[:, h], x[..., begin : begin + 4])
    assert all(part.untyped_storage().data_ptr() == x.data_ptr() for part in parts)


def distances(scale: float, seed: int) -> dict[Way, Tensor]:
    """How far mask and gradient of FmFormer under bfloat16 are from float32, for each way."""
    torch.manual_seed(seed)
    problem = Problem(modality=Modality.CROSS, dense=True, frames=2, current_samples=60)
    model = FmFormer(problem, depth=2)
    for name, parameter in model.named_parameters():
        if "to_qkv" in name:  # sharper maps than those of the initial weights
            parameter.data.mul_(scale)
    batch = Batch(
        torch.randint(0, 256, (2, 3, 2, 64, 64), dtype=torch.uint8),
        torch.randn(2, 60, 3),
        torch.randint(0, 2, (2,)),
        torch.randint(0, 2, (2, 64, 64)),
    )

    def run(way: Way, reduced: bool) -> tuple[Tensor, Tensor]:
        model.zero_grad()
        with attention_by(way), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            out = model(batch)
        assert out.mask_logits is not None
        loss = F.cross_entropy(out.logits.float(), batch.label)
        (loss + F.cross_entropy(out.mask_logits.float(), batch.mask)).backward()
        grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return out.mask_logits.detach().float(), torch.cat(grads)

    exact = run("sdpa", False)
    return {
        way: torch.stack(
            [(a - b).norm() / b.norm() for a, b in zip(run(way, True), exact, strict=True)]
        )
        for way in WAYS
    }


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_model_in_bfloat16_is_no_further_from_float32_than_with_sdpa(scale: float) -> None:
    of_seeds = [distances(scale, seed) for seed in range(3)]
    mean = {way: torch.stack([each[way] for each in of_seeds]).mean(0) for way in WAYS}
    assert all((mean[way] < 1.1 * mean["sdpa"]).all() for way in WAYS), mean


def of_shape(
    *, keys: int, batch: int = 16, queries: int = 61, **options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs that take no memory."""
    blank = torch.empty(1, **options)
    return tuple(blank.expand(batch, 3, n, 32) for n in (queries, keys, keys))  # type: ignore[return-value]


CHOICES: dict[str, tuple[dict[str, Any], dict[str, Any], Way]] = {
    "bfloat16 in hardware": ({"native": True}, {"keys": 241, "dtype": torch.bfloat16}, "explicit"),
    "few keys in bfloat16": ({"native": True}, {"keys": 5, "dtype": torch.bfloat16}, "explicit"),
    "bfloat16, emulated": ({}, {"keys": 241, "dtype": torch.bfloat16}, "sdpa"),
    "training in emulated bfloat16": (
        {},
        {"keys": 241, "dtype": torch.bfloat16, "requires_grad": True},
        "explicit",
    ),
    "float32 beside bfloat16": ({"native": True}, {"keys": 241}, "sdpa"),
    "a short sequence": ({}, {"keys": 61}, "explicit"),
    "training on a short sequence": ({}, {"keys": 61, "requires_grad": True}, "explicit"),
    "whole vectors": ({}, {"keys": 64}, "sdpa"),
    "a short tail": ({}, {"keys": 56}, "sdpa"),
    "a longer sequence": ({}, {"keys": 77}, "sdpa"),
    "no AVX-512": ({"avx512": False}, {"keys": 61}, "sdpa"),
    "dropout": ({"dropout": 0.1}, {"keys": 61}, "explicit"),
    "dropout of a large map": ({"dropout": 0.1}, {"keys": 241, "queries": 241}, "pieces"),
    "float64": ({"native": True}, {"keys": 61, "dtype": torch.float64}, "sdpa"),
    "float16": ({"native": True}, {"keys": 61, "dtype": torch.float16}, "sdpa"),
    "another device": ({"native": True, "dropout": 0.1}, {"keys": 61, "device": "meta"}, "sdpa"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_choice(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, inputs, expected = CHOICES[case]
    monkeypatch.setattr(attention, "NATIVE_BFLOAT16", machine.get("native", False))
    monkeypatch.setattr(attention, "AVX512", machine.get("avx512", True))
    assert way_of(*of_shape(**inputs), machine.get("dropout", 0.0)) == expected


def test_the_choice_looks_at_autocast_and_at_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "NATIVE_BFLOAT16", True)
    with torch.autocast("cpu", torch.bfloat16):
        assert way_of(*of_shape(keys=241)) == "explicit"
        assert way_of(*of_shape(keys=241, dtype=torch.float64)) == "sdpa"
    monkeypatch.setattr(attention, "NATIVE_BFLOAT16", False)
    inputs = of_shape(keys=241, dtype=torch.bfloat16, requires_grad=True)
    assert way_of(*inputs) == "explicit"
    with torch.no_grad():
        assert way_of(*inputs) == "sdpa"


def test_a_map_over_the_bound_is_never_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "NATIVE_BFLOAT16", True)
    monkeypatch.setattr(attention, "AVX512", True)
    for dtype, keys in ((torch.bfloat16, 512), (torch.float32, 61)):
        row = 3 * 61 * keys * dtype.itemsize
        fits = LARGEST_MAP // row
        assert way_of(*of_shape(keys=keys, batch=fits, dtype=dtype)) == "explicit"
        assert way_of(*of_shape(keys=keys, batch=fits + 1, dtype=dtype)) == "sdpa"


def test_all_maps_of_fmformer_at_batch_64_take_less_than_a_gigabyte() -> None:
    model = FmFormer(Problem(modality=Modality.CROSS, dense=True))
    batch = Batch(torch.zeros(1, 3, 10, 64, 64), torch.randn(1, 240, 3), torch.zeros(1))
    maps: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        if x.shape[-2:] in [(n, m) for n in (1, 241, 401) for m in (241, 401)]:
            maps[x.untyped_storage().data_ptr()] = x.nbytes
        return x

    held = []  # storages must stay alive, so that no address comes twice
    with (
        attention_by("explicit"),
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x),
    ):
        held.append(model(batch))
    assert len(maps) == 24
    assert 0.8e9 < 64 * sum(maps.values()) < 1e9
    assert 64 * max(maps.values()) < LARGEST_MAP


@pytest.mark.parametrize("way", ["auto", "explicit", "sdpa"])
@pytest.mark.parametrize("reduced", [False, True])
def test_compilation_has_no_graph_break(way: Any, reduced: bool) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    layer, tokens = Attention(24, 3), torch.randn(2, 61, 24)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    results = []
    for each in (layer, compiled):
        layer.zero_grad()
        with attention_by(way), torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            out = each(tokens)
        out.float().square().sum().backward()
        results.append((out.detach().clone(), layer.to_qkv.weight.grad))
    torch.testing.assert_close(*results)


def test_compilation_covers_masks_and_dropout() -> None:
    torch._dynamo.reset()
    qkv, mask = heads(), masks()["full"]
    call: Callable[..., Tensor] = torch.compile(
        softmax_attention, fullgraph=True, backend="aot_eager"
    )
    with attention_by("explicit"):
        torch.testing.assert_close(call(*qkv, mask), softmax_attention(*qkv, mask))
        assert call(*qkv, mask, 0.5).shape == qkv[0].shape
    torch._dynamo.reset()
    large = heads(300, 300)
    assert way_of(*large, 0.5) == "pieces"  # which cannot be traced
    assert call(*large, None, 0.5).shape == large[0].shape


def test_a_way_is_forced_inside_the_block_only() -> None:
    inputs = of_shape(keys=64)
    before = way_of(*inputs)
    with attention_by("explicit"):
        assert way_of(*inputs) == "explicit"
        with attention_by("auto"):
            assert way_of(*inputs) == before
        assert way_of(*inputs) == "explicit"
    assert way_of(*inputs) == before
    with pytest.raises(ValueError, match="flash"), attention_by("flash"):  # type: ignore[arg-type]
        pass


def test_heads_are_joined_in_order() -> None:
    query, key, value = heads()
    out = softmax_attention(query, key, value)
    torch.testing.assert_close(attend(query, key, value), torch.cat(out.unbind(1), dim=-1))
