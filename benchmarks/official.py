"""The released network as fmbench computes it, beside a plain transcription of its arithmetic.

    python benchmarks/official.py --into benchmarks/official.md

One random set of weights, 10 frames of 64 x 64 and 240 samples of current, float32 unless stated.
The variants take turns, round after round, and each is divided by the transcription
(benchmarks/released.py) of its own round. Every task is measured in several processes, for where
memory comes to lie changes a process's ratios by a third: the table has the median of their
medians, and the range. A training step is forward, loss, backward and AdamW.

The last variant is no network: the matrix products of fmbench alone (benchmarks/step.py), each kind
over and over on tensors of its shape; the attention as the products it is made of, two forward and
five backward. So much would be left if nothing else took time.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import torch
from released import Released
from step import Products, made
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from fmbench.models.official import OfficialFmFormer
from fmbench.tabular import markdown
from fmbench.types import Batch, Modality, Problem

Step = Callable[[], Any]
PRODUCTS = "the matrix products of fmbench alone"


class Ours(nn.Module):
    def __init__(self, network: OfficialFmFormer) -> None:
        super().__init__()
        self.network = network

    def forward(self, video: Tensor, current: Tensor) -> Tensor:
        prediction = self.network(Batch(video, current, video.new_zeros(len(video))))
        if prediction.mask_logits is not None:
            return prediction.mask_logits
        return prediction.logits


def variants(
    network: OfficialFmFormer, brain_float: bool, compiled: bool
) -> dict[str, tuple[nn.Module, bool]]:
    """By name: a network with the same weights, and whether it runs in bfloat16."""

    def fresh() -> OfficialFmFormer:
        return copy.deepcopy(network)

    chosen: dict[str, tuple[nn.Module, bool]] = {
        "the transcription": (Released(fresh()), False),
        "… with fused attention": (Released(fresh(), fused=True), False),
        "fmbench": (Ours(fresh()), False),
    }
    if brain_float:
        chosen["fmbench, bfloat16"] = (Ours(fresh()), True)
    if compiled:
        for name in [name for name in chosen if name.startswith("fmbench")]:
            chosen[f"{name}, compiled"] = (torch.compile(Ours(fresh())), chosen[name][1])
    return chosen


def steps(
    network: OfficialFmFormer, batch_size: int, learn: bool, brain_float: bool, compiled: bool
) -> tuple[dict[str, Step], dict[str, float]]:
    """A step to time for each variant, and the distance of its outputs from the transcription's."""
    rng = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (batch_size, 3, 10, 64, 64), generator=rng).float()
    current = 9000 + 1000 * torch.rand(batch_size, 240, 3, generator=rng)
    shape = (batch_size, 64, 64) if network.problem.dense else (batch_size,)
    target = torch.randint(0, 2, shape, generator=rng)
    found: dict[str, Step] = {}
    apart: dict[str, float] = {}
    expected: Tensor | None = None

    for name, (module, low) in variants(network.train(learn), brain_float, compiled).items():
        optimizer = AdamW(module.parameters(), lr=0.0, fused=name.startswith("fmbench"))

        def run(module: nn.Module = module, low: bool = low) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                return module(video, current)

        def infer(run: Callable[[], Tensor] = run) -> Tensor:
            with torch.no_grad():
                return run()

        def train(run: Callable[[], Tensor] = run, optimizer: AdamW = optimizer) -> None:
            loss = F.cross_entropy(run().float(), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        output = infer().float()
        expected = output if expected is None else expected
        apart[name] = (output - expected).abs().max().item()
        found[name] = train if learn else infer
    with Products() as products:
        found["fmbench"]()
    ready = [
        (func, [made(each) for each in args], dict(kwargs), count)
        for (func, args, kwargs), count in products.found.items()
    ]

    def alone() -> None:
        for func, args, kwargs, count in ready:
            for _ in range(count):
                func(*args, **kwargs)

    return {**found, PRODUCTS: alone}, apart


def rates(found: dict[str, Step], rounds: int, batch_size: int) -> dict[str, tuple[float, float]]:
    """Windows a second, and their ratio to the first variant's: medians of the rounds."""
    for step in found.values():
        step()
    taken: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, step in found.items():
            begin = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - begin)
    first = next(iter(taken.values()))
    return {
        name: (
            batch_size / statistics.median(seconds),
            statistics.median(a / b for a, b in zip(first, seconds, strict=True)),
        )
        for name, seconds in taken.items()
    }


def measured(task: str, mode: str, given: argparse.Namespace) -> None:
    """Prints, for each variant of one task: name, windows a second, times, apart."""
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    brain_float = "avx512_bf16" in flags or "amx_bf16" in flags
    network = OfficialFmFormer(Problem(modality=Modality.CROSS, dense=task == "mask"))
    learn = mode == "training"
    found, apart = steps(network, given.batch_size, learn, brain_float, given.compile)
    taken = rates(found, given.rounds, given.batch_size)
    print(json.dumps([[name, *figures, apart.get(name)] for name, figures in taken.items()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="in a process")
    parser.add_argument("--processes", type=int, default=3, help="of each task")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="as well, by torch.compile (slow)")
    parser.add_argument("--one", nargs=2, metavar=("TASK", "MODE"))
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    if given.one:
        measured(*given.one, given)
        return
    rows = [["task", "variant", "windows/s", "times", "range", "apart"]]
    for task, mode in product(("class", "mask"), ("inference", "training")):
        command = [sys.executable, *sys.argv, "--one", task, mode]
        found = [
            json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            for _ in range(given.processes)
        ]
        for variant in zip(*found, strict=True):
            (name, *_), (_, rate, times, apart) = variant[0], zip(*variant, strict=True)
            speeds = [f"{statistics.median(rate):.1f}", f"{statistics.median(times):.2f}"]
            spread = f"{min(times):.2f} to {max(times):.2f}"
            furthest = "" if None in apart else f"{max(apart):.1e}"
            rows.append([f"{task}, {mode}", name, *speeds, spread, furthest])
            print(*rows[-1], sep="  ", flush=True)
    text = "\n".join(
        [
            "# The released network: fmbench beside a plain transcription",
            "",
            f"`python benchmarks/official.py`: batches of {given.batch_size}, {given.threads}"
            f' threads, PyTorch {torch.__version__}. "Times" is against the transcription of the'
            f" same round: median of {given.processes} processes, each the median of {given.rounds}"
            ' rounds; then the range of the processes. "Apart" is the largest difference of an'
            " output.",
            "",
            "The last row of a task is no network: the matrix products of fmbench's step, each kind"
            " over and over on tensors of its shape, attention as the products that it is made of:"
            " what would be left if softmax, norms, GELU, copies and Python took no time.",
            "",
            markdown(rows),
            "",
        ]
    )
    if given.into:
        given.into.write_text(text)


if __name__ == "__main__":
    main()
