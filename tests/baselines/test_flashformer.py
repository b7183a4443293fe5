"""Flashformer: the tiles add up to full attention, and the kernel that runs is the flash one."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from cost import LargestTensor
from fmbench.nn import sinusoids
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.flashformer import (
    Flashformer,
    flash_attention,
    report,
    tiled_attention,
)

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.CURRENT, **changes)


def batch(size: int, samples: int = 240, channels: int = 3) -> Batch:
    draw = torch.Generator().manual_seed(1)
    current = torch.randn(size, samples, channels, generator=draw)
    return Batch(None, current, torch.arange(size) % 2)


def heads(length: int = 240, dtype: torch.dtype = torch.float64) -> Tensor:
    """Queries, keys, values, one behind the other: (3, B, h, L, d)."""
    draw = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 3, length, 32, generator=draw, dtype=torch.float64).to(dtype)


def naive_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Full attention with its map in memory."""
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1) @ value


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


def test_default_has_382658_parameters_and_keeps_every_sample() -> None:
    model = Flashformer(problem()).eval()
    assert sum(p.numel() for p in model.parameters()) == 382_658
    lengths: list[int] = []
    for layer in model.encoder:
        layer.register_forward_hook(lambda _, __, out: lengths.append(out.shape[1]))
    assert model(batch(2)).logits.shape == (2, 2)
    assert lengths == [240] * 4


def test_the_encoder_sees_the_positions_once() -> None:
    model = Flashformer(problem()).eval()
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(batch(2))
    expected = model.embed(batch(2).current) + sinusoids(240, 96)
    torch.testing.assert_close(seen[0], expected)


def test_every_parameter_learns_but_the_keys_biases_which_softmax_takes_away() -> None:
    model = Flashformer(problem())
    F.cross_entropy(model(batch(4)).logits, batch(4).label).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        grad = parameter.grad.abs()
        if name.endswith("to_qkv.bias"):
            assert float(grad[96:192].max()) < 1e-6
            grad = torch.cat([grad[:96], grad[192:]])
        assert float(grad.max()) > 1e-7, name


def test_amperes_are_standardised_by_the_training_part_and_their_level_is_kept() -> None:
    torch.manual_seed(0)
    model = Flashformer(problem()).eval()
    current = batch(2).current
    assert current is not None
    expected = model(batch(2)).logits
    mean, std = torch.tensor([9e3, 1e4, 1.1e4]), torch.tensor([400.0, 500.0, 600.0])
    model.standardize.set_statistics(mean, std)
    amperes = batch(2)._replace(current=current * std + mean)
    torch.testing.assert_close(model(amperes).logits, expected, atol=1e-3, rtol=1e-3)
    doubled = amperes._replace(current=2 * (current * std + mean))
    assert not torch.allclose(model(doubled).logits, expected, atol=1e-2)


@pytest.mark.parametrize("samples", [1, 33, 241])
@pytest.mark.parametrize("mean_pool", [False, True])
def test_other_sizes_work_in_training_and_evaluation(samples: int, mean_pool: bool) -> None:
    sizes = problem(current_samples=samples, current_channels=2, num_classes=5)
    model = Flashformer(sizes, dim=20, heads=1, mean_pool=mean_pool)
    for mode in (True, False):
        assert model.train(mode)(batch(1, samples, 2)).logits.shape == (1, 5)


def test_only_with_mean_pool_does_a_model_read_other_lengths() -> None:
    assert Flashformer(problem(), mean_pool=True)(batch(2, 300)).logits.shape == (2, 2)
    with pytest.raises(ValueError, match="120 samples of current; this flashformer reads 240"):
        Flashformer(problem())(batch(2, 120))
