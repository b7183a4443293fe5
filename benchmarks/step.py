"""A training step of FmFormer (the paper's, cross-modal, both heads) against its matrix products.

    python benchmarks/step.py --into benchmarks/step.md

The shapes and strides of every matrix product, convolution and attention of one step are recorded;
then each kind is run alone, repeatedly, on tensors of that shape: the best time is the
machine's ceiling for it. The attention counts as the products that it is made of: two forward,
five backward. The step is timed in turns with the ceilings, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from fmbench.models import FmFormer
from fmbench.objective import Loss
from fmbench.tabular import markdown
from fmbench.types import Batch, Modality, Problem

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "convolution_backward")


@dataclass(frozen=True)
class Shaped:
    """A tensor's shape, strides and dtype, without its values."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def make(self) -> Tensor:
        return torch.empty_strided(self.size, self.stride, dtype=self.dtype).normal_()


def shaped(value: Any) -> Any:
    if isinstance(value, Tensor):
        return Shaped(tuple(value.shape), tuple(value.stride()), value.dtype)
    return tuple(value) if isinstance(value, list) else value


def made(value: Any) -> Any:
    if isinstance(value, Shaped):
        return value.make()
    return list(value) if isinstance(value, tuple) else value


class Products(TorchDispatchMode):
    """Counts the products that run in its context, by operator and shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[Any, ...]] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            given = tuple(sorted((kwargs or {}).items()))
            self.found[(func, tuple(map(shaped, args)), given)] += 1
        elif "attention" in name:
            backward = "backward" in name
            query, key = (args[1], args[2]) if backward else (args[0], args[1])
            many, n, m, d = (
                query.shape[0] * query.shape[1],
                query.shape[2],
                key.shape[2],
                key.shape[3],
            )
            bmm = torch.ops.aten.bmm.default
            for left, right, count in (
                ((many, n, d), (many, d, m), 2 if backward else 1),  # scores again, dP
                ((many, n, m), (many, m, d), 1),  # values; dQ
                ((many, m, n), (many, n, d), 2 if backward else 0),  # dV, dK
            ):
                pair = tuple(shaped(query.new_empty(side)) for side in (left, right))
                self.found[(bmm, pair, ())] += count
        return func(*args, **(kwargs or {}))


def best(run: Callable[[], Any], seconds: float) -> float:
    """Seconds of the fastest run."""
    run()
    least, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - begin)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seconds", type=float, default=4, help="of each round, for the step")
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    problem = Problem(
        modality=Modality.CROSS, dense=True, frames=given.frames, current_samples=given.samples
    )
    model, loss = FmFormer(problem), Loss()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    size = given.batch_size
    batch = Batch(
        torch.randint(0, 256, (size, 3, given.frames, 64, 64), dtype=torch.uint8),
        torch.randn(size, given.samples, 3),
        torch.randint(0, 2, (size,)),
        torch.randint(0, 2, (size, 64, 64), dtype=torch.uint8),
    )

    def step() -> None:
        torch.stack(list(loss.terms(model(batch), batch).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    with Products() as products:
        step()
    if given.compile:
        model.compile()
        step()
    whole: list[float] = []
    ceilings: list[float] = []
    for _ in range(given.rounds):
        whole.append(best(step, given.seconds))
        total = 0.0
        for (func, args, kwargs), count in products.found.items():
            ready, named = [made(each) for each in args], dict(kwargs)
            total += count * best(lambda f=func, a=ready, k=named: f(*a, **k), 0.05)
        ceilings.append(total)
        ratio = whole[-1] / total
        print(f"step {whole[-1]:.3f} s, products {total:.3f} s, {ratio:.2f}", flush=True)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    spent: Counter[str] = Counter()
    for event in profiled.key_averages():
        spent[kind(event.key)] += event.self_cpu_time_total
    all_of_it = sum(spent.values())
    shares = [[name, f"{part / all_of_it:.1%}"] for name, part in spent.most_common()]
    ratio = statistics.median(a / b for a, b in zip(whole, ceilings, strict=True))
    text = "\n".join(
        [
            "# A training step beside its matrix products",
            "",
            f"`python benchmarks/step.py`: FmFormer, cross-modal, both heads, {given.frames} frames"
            f" of 64 x 64 and {given.samples} samples, batch {size}, float32,"
            f" {given.threads} threads{', compiled' if given.compile else ''}. The step takes"
            f" {min(whole):.3f} s at best, its products alone {min(ceilings):.3f} s: **{ratio:.2f}"
            f" times**, median of {given.rounds} rounds.",
            "",
            "Where the time of one step goes (PyTorch's profiler):",
            "",
            markdown([["operators", "share"], *shares]),
            "",
        ]
    )
    print(text)
    if given.into:
        given.into.write_text(text)


def kind(name: str) -> str:
    """The group of an operator."""
    for group, words in GROUPS.items():
        if any(word in name for word in words):
            return group
    return "everything else, Python included"


GROUPS = {
    "attention": ("attention",),
    "matrix products": ("::mm", "addmm", "bmm"),
    "convolutions": ("conv",),
    "normalisation": ("norm",),
    "GELU, ReLU": ("gelu", "relu", "threshold"),
    "copies": ("copy_", "aten::cat", "contiguous", "clone"),
    "sums and residuals": ("aten::add", "aten::sum", "aten::mul", "aten::div"),
    "AdamW": ("adam",),
}


if __name__ == "__main__":
    main()
