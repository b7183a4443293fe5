"""Time and memory of full, flow and ProbSparse attention as the series grows.

    python benchmarks/attention.py

Each takes queries, keys and values of one row and three heads of width 32, in float32, on one
thread, without gradients. Time is the thread's own, so that other work on the machine does not
count: the median of the repeats. Memory is by how much a fresh process grew at its highest while
the attention first ran at that length (Linux: VmHWM over VmRSS), the median of the processes.
"full, its map in memory" is softmax attention without the flash kernel that PyTorch uses on a CPU.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from fmbench.tabular import markdown
from fmbench_baselines.flowformer import flow_attention
from fmbench_baselines.informer import draw_keys, num_active, prob_sparse_attention

LENGTHS = (240, 960, 3840)


def mapped(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1) @ value


def prob_sparse(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    active = num_active(query.shape[2], 5)
    sample = draw_keys(query.shape[2], active, True, query.device)
    return prob_sparse_attention(query, key, value, sample, active)


KINDS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "full, its map in memory": mapped,
    "full, SDPA": F.scaled_dot_product_attention,
    "flow": flow_attention,
    "ProbSparse": prob_sparse,
}


def kibibytes(field: str) -> int:
    """A field of this process's status, such as VmHWM."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1])


@torch.no_grad()
def measure(kind: str, length: int, repeats: int) -> tuple[float, float]:
    """Milliseconds and MiB, in a process that does nothing else."""
    torch.set_num_threads(1)
    attention = KINDS[kind]
    attention(*torch.randn(3, 1, 3, 16, 32))  # libraries load and warm up
    query, key, value = torch.randn(3, 1, 3, length, 32)
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is now
    before = kibibytes("VmRSS")
    attention(query, key, value)
    grown = max(0, kibibytes("VmHWM") - before) / 1024
    taken = []
    for _ in range(repeats):
        begin = time.thread_time()
        attention(query, key, value)
        taken.append(time.thread_time() - begin)
    return 1000 * statistics.median(taken), grown


def fresh(kind: str, length: int, repeats: int) -> tuple[float, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--one", kind, str(length), "--repeats", str(repeats)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(out[0]), float(out[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="of each call in a process")
    parser.add_argument("--processes", type=int, default=3, help="of each kind and length")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "LENGTH"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(*measure(options.one[0], int(options.one[1]), options.repeats))
        return
    rows = [["attention", *(f"L = {length}" for length in LENGTHS), "growth"]]
    for kind in KINDS:
        cells, times = [], []
        for length in LENGTHS:
            runs = [fresh(kind, length, options.repeats) for _ in range(options.processes)]
            milliseconds, mebibytes = (statistics.median(run) for run in zip(*runs, strict=True))
            cells.append(f"{milliseconds:.2f} ms, {mebibytes:.1f} MiB")
            times.append(milliseconds)
        rows.append([kind, *cells, f"{times[-1] / times[0]:.0f} x"])
    print(markdown(rows))


if __name__ == "__main__":
    main()
