"""Floating-point operations of a model, and the highest rate that this machine reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fmbench.speed.timing import durations

Shape = Sequence[int]
Product = tuple[int, int, int]
"""(m, k, n): an (m, k) matrix times a (k, n) matrix, 2 m k n operations."""

SQUARES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
LARGEST = 3


def count(call: Callable[[], object]) -> tuple[int, list[Product]]:
    """Operations of the matrix products, convolutions and attention in `call`, and its LARGEST
    matrix products. A multiplication and an addition are two operations.

    Other computations (normalisation, softmax, activations) are not counted.
    """
    aten = torch.ops.aten
    products: set[Product] = set()

    def mm(a: Shape, b: Shape, *_: Any, **__: Any) -> int:
        products.add((a[0], a[1], b[1]))
        return 2 * a[0] * a[1] * b[1]

    def addmm(bias: Shape, a: Shape, b: Shape, *_: Any, **__: Any) -> int:
        return mm(a, b)

    def attention(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
        batch, heads, length, width = query  # scores, and their sum of the values
        return 2 * batch * heads * length * key[2] * (width + value[3])

    def attention_backward(
        grad: Shape, query: Shape, key: Shape, value: Shape, *_: Any, **__: Any
    ) -> int:
        batch, heads, length, width = query  # scores again; gradients of scores, values, q and k
        return 2 * batch * heads * length * key[2] * (3 * width + 2 * value[3])

    formulas = {
        aten.mm: mm,
        aten.addmm: addmm,
        # PyTorch has formulas for the GPU's kernels only
        aten._scaled_dot_product_flash_attention_for_cpu: attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        call()
    largest = sorted(products, key=lambda mkn: mkn[0] * mkn[1] * mkn[2])[-LARGEST:]
    return counter.get_total_flops(), largest


def ceiling(
    products: Sequence[Product], *, dtype: torch.dtype, device: torch.device, seconds: float
) -> float:
    """FLOP/s of the fastest of large square matrix products and `products`.

    Args:
        products: sizes to measure besides the square ones, such as a model's largest.
        dtype: dtype of both matrices.
        device: device of both matrices.
        seconds: measuring time for each size.
    """
    tried = [*((n, n, n) for n in SQUARES[device.type]), *products]
    rates = []
    for m, k, n in tried:
        a = torch.randn(m, k, device=device).to(dtype)
        b = torch.randn(n, k, device=device).to(dtype).T  # the layout of a linear layer's weight
        taken = durations(lambda a=a, b=b: a @ b, seconds=seconds, device=device)  # type: ignore[misc]
        rates.append(2 * m * k * n / min(taken))
    return max(rates)
