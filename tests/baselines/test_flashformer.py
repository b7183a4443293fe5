"""Flashformer: the tiles add up to full attention, and the kernel that runs is the flash one."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from cost import LargestTensor
from current_windows import batch, naive_attention, problem
from fmbench_baselines.flashformer import Flashformer, flash_attention, report

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def heads(length: int = 240, dtype: torch.dtype = torch.float64) -> Tensor:
    """Queries, keys, values, one behind the other: (3, B, h, L, d)."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 3, length, 32, generator=draw, dtype=torch.float64).to(dtype)


def tiled_attention(query: Tensor, key: Tensor, value: Tensor, tile: int) -> Tensor:
    """Algorithm 1 of the paper: (B, h, L, d), 2 × (B, h, S, d) -> (B, h, L, d).

    Softmax attention that never holds more than `tile` keys at once. The sums so far are rescaled
    whenever a larger logit appears, so that no exponential overflows.
    """
    query = query / math.sqrt(query.shape[-1])
    largest = query.new_full((*query.shape[:-1], 1), -torch.inf)
    total = torch.zeros_like(largest)
    out = torch.zeros_like(query)
    tiles = zip(torch.split(key, tile, 2), torch.split(value, tile, 2), strict=True)
    for keys, values in tiles:
        logits = query @ keys.transpose(2, 3)
        new = torch.maximum(largest, logits.amax(-1, keepdim=True))
        weights, rescale = (logits - new).exp(), (largest - new).exp()
        total = total * rescale + weights.sum(-1, keepdim=True)
        out = out * rescale + weights @ values
        largest = new
    return out / total


class Calls(TorchDispatchMode):
    """Names of the operations inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("tile", [1, 7, 32, 240])
def test_tiles_of_any_size_add_up_to_full_attention_and_its_gradients(tile: int) -> None:
    tiled, full = heads().requires_grad_(), heads().requires_grad_()
    out, expected = tiled_attention(*tiled, tile), naive_attention(*full)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    for result in (out, expected):
        (result * weight).sum().backward()
    torch.testing.assert_close(tiled.grad, full.grad)


@pytest.mark.parametrize("tile", [1, 7, 32, 240])
@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_logits_far_from_zero_do_not_overflow_the_tiles(tile: int, offset: float) -> None:
    query, key, value = heads(dtype=torch.float64)
    query[..., 0], key[..., 0] = 1, offset * 32**0.5 + 1e3 * torch.arange(240) / 240
    logits = query @ key.transpose(-1, -2) / 32**0.5
    assert float(logits.abs().min()) > 9e3  # exp of it is infinite, or nothing
    out = tiled_attention(query, key, value, tile)
    torch.testing.assert_close(out, naive_attention(query, key, value), rtol=1e-6, atol=1e-9)
    flash = flash_attention(query, key, value)
    torch.testing.assert_close(flash, out, rtol=1e-6, atol=1e-9)


def test_the_tiles_never_hold_the_whole_map() -> None:
    qkv = torch.randn(3, 1, 1, 960, 32)
    with LargestTensor() as tiled:
        tiled_attention(*qkv, 32)
    assert tiled.elements == qkv.numel() == 960**2 / 10  # the inputs, drawn in one piece


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_the_kernel_gives_full_attention_and_its_gradients(
    dtype: torch.dtype, tolerance: float
) -> None:
    flash = heads(dtype=dtype).requires_grad_()
    full = heads(dtype=dtype).double().requires_grad_()
    out, expected = flash_attention(*flash), naive_attention(*full)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
    out.sum().backward()
    expected.sum().backward()
    assert flash.grad is not None
    torch.testing.assert_close(flash.grad.double(), full.grad, atol=2 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("training", [True, False])
def test_in_the_model_the_flash_kernel_runs_in_every_layer(training: bool) -> None:
    model = Flashformer(problem()).train(training)
    with Calls() as calls:
        model(batch(2))
    attending = [name for name in calls.names if "scaled_dot_product" in name or "softmax" in name]
    assert attending == ["_scaled_dot_product_flash_attention_for_cpu.default"] * 3


def test_the_kernel_in_use_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    report.cache_clear()
    with caplog.at_level(logging.INFO, "fmbench_baselines"):
        for _ in range(3):
            flash_attention(*heads(8, torch.float32))
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "attends by FLASH_ATTENTION (cpu, torch.float32)" in caplog.text


@pytest.mark.filterwarnings("ignore:.*(Flash attention|fused) kernel.*:UserWarning")
def test_where_the_flash_kernel_refuses_another_runs_and_a_warning_names_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report.cache_clear()
    strided = heads().mT.contiguous().mT  # the kernel wants neighbours in the width
    with Calls() as calls:
        for _ in range(3):
            out = flash_attention(*strided)
    assert not any("flash" in name for name in calls.names)
    torch.testing.assert_close(out, naive_attention(*heads()))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "attends by MATH: the flash kernel does not run here (cpu, torch.float64)" in caplog.text


def test_a_device_without_fused_kernels_is_not_said_to_have_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    report.cache_clear()
    assert flash_attention(*heads(8).to("meta")).shape == (2, 3, 8, 32)
    assert "attends by MATH" in caplog.text


def test_other_errors_are_not_taken_for_a_refusal() -> None:
    query, key, value = heads(8)
    with pytest.raises(RuntimeError, match="size"):
        flash_attention(query, key[..., :5], value)


@on_gpu
def test_on_a_gpu_the_flash_kernel_runs_in_bfloat16() -> None:
    qkv = heads(dtype=torch.float32).cuda()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises if it cannot
        F.scaled_dot_product_attention(*qkv.bfloat16())
    with Calls() as calls:
        out = flash_attention(*qkv)
    assert "_scaled_dot_product_flash_attention.default" in calls.names
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, naive_attention(*qkv), atol=2e-2, rtol=2e-2)
