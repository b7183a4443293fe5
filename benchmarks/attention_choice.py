"""Which way of softmax attention is faster on this processor, for fmbench.nn.attention.way_of.

    python benchmarks/attention_choice.py --into benchmarks/attention_choice.md

The ways run in turns on the shapes of the models (3 heads of width 32), on one thread, with and
without gradients, from the joined projection to the joined heads. Time is the thread's own, so that
other work on the machine does not count: the median of the rounds. What the file holds from
"## Measured earlier" on is kept.
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fmbench.nn.attention import (
    AVX512,
    LANES,
    LARGE_PIECE,
    LARGEST_MAP,
    NATIVE_BFLOAT16,
    SHORT,
    TAIL,
    Way,
    attend,
    attention_by,
    split_heads,
)
from fmbench.tabular import markdown

HEADS, WIDTH = 3, 32
SHAPES = (
    # one modality, then FmFormer's two: 60 samples, 2 frames, both; 240 samples, 10 frames, both
    (5, 5), (61, 61), (81, 81), (61, 81), (81, 61), (97, 97), (125, 125),
    (241, 241), (401, 401), (241, 401), (401, 241),
)  # fmt: skip
TAILS = (48, 49, 52, 54, 55, 56, 57, 58, 61, 63, 64)
LENGTHS = (45, 61, 77, 93, 109, 125, 141, 189, 253)
EARLIER = "## Measured earlier"
DROPPED = (61, 125, 189, 241, 305, 497)  # the last two: ClipBERT and Unicoder-VL at 4 frames
WAYS: tuple[Way, ...] = ("sdpa", "explicit")


def milliseconds(
    queries: int,
    keys: int,
    *,
    dtype: torch.dtype,
    learns: bool,
    batch: int,
    seconds: float,
    dropout: float = 0.0,
) -> dict[Way, float]:
    """The median of each way, in turns; in pieces with dropout only."""
    torch.manual_seed(0)
    width = HEADS * WIDTH

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape).to(dtype).requires_grad_(learns)

    of_queries, of_keys = drawn(batch, queries, width), drawn(batch, keys, 2 * width)
    weight = torch.randn(batch, queries, width).to(dtype)
    taken: dict[Way, list[float]] = {way: [] for way in (*WAYS, *(["pieces"] if dropout else []))}
    end = time.perf_counter() + seconds
    while len(taken["sdpa"]) < 8 or time.perf_counter() < end:
        for way in taken:
            begin = time.thread_time()
            with attention_by(way):
                (query,) = split_heads(of_queries, 1, HEADS)
                out = attend(query, *split_heads(of_keys, 2, HEADS), dropout)
            if learns:
                out.backward(weight)
            taken[way].append(time.thread_time() - begin)
            of_queries.grad = of_keys.grad = None
    return {way: 1000 * statistics.median(times[2:]) for way, times in taken.items()}


def compared(found: Sequence[dict[Way, float]]) -> list[str]:
    """Each way, forward / with gradient, and the ratio of the last way to the one before."""
    ways = list(found[0])
    cells = [" / ".join(f"{each[way]:.2f}" for each in found) for way in ways]
    return [*cells, " / ".join(f"{each[ways[-1]] / each[ways[-2]]:.2f}" for each in found)]


def processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    name = found[1] if found else "a processor without a name"
    bfloat16 = "" if NATIVE_BFLOAT16 else "out"
    return f"{name}, with{'' if AVX512 else 'out'} AVX-512, with{bfloat16} bfloat16 in hardware"


def report(batch: int, seconds: float) -> str:
    def both(queries: int, keys: int, dtype: torch.dtype, dropout: float = 0.0) -> list[str]:
        found = [
            milliseconds(
                queries,
                keys,
                dtype=dtype,
                learns=learns,
                batch=batch,
                seconds=seconds,
                dropout=dropout,
            )
            for learns in (False, True)
        ]
        print(queries, keys, dtype, dropout, *compared(found), flush=True)
        return compared(found)

    columns = ["SDPA", "explicit", "explicit / SDPA"]
    header = [
        "queries x keys",
        *(f"{dtype}: {c}" for dtype in ("float32", "bfloat16") for c in columns),
    ]
    shapes = [
        [f"{n} x {m}", *both(n, m, torch.float32), *both(n, m, torch.bfloat16)] for n, m in SHAPES
    ]
    dropped = [[f"{n} x {n}", *both(n, n, torch.float32, 0.1)] for n in DROPPED]
    tails = [[str(m), str(m % LANES), *both(61, m, torch.float32)] for m in TAILS]
    lengths = [[str(m), *both(m, m, torch.float32)] for m in LENGTHS]
    head = f"""# Softmax attention: two matrix products, at once or in pieces, or SDPA

`python benchmarks/attention_choice.py`: {processor()};
PyTorch {torch.__version__}, one thread, batch {batch}, {HEADS} heads of {WIDTH}.
Milliseconds, forward without gradient / forward and backward.
"explicit" is softmax(QKᵀ)V as two matrix products and a softmax; SDPA is
`F.scaled_dot_product_attention`; "pieces" is explicit for one window at a time, with cheaper
random numbers. `way_of` in `fmbench.nn.attention` chooses explicit on CPUs

- in bfloat16, where the processor multiplies it in hardware or a gradient is needed;
- with dropout of the map, for which SDPA has no fused kernel on a CPU (pieces if the map of one
  window takes {LARGE_PIECE >> 10} KiB or more);
- in float32 with AVX-512, for at most {SHORT} keys, of which at least {TAIL} do not fill a vector;

without dropout only if the map takes at most {LARGEST_MAP >> 20} MiB."""
    tables = {
        "": [header, *shapes],
        "With dropout of the map (rate 0.1, float32):": [
            ["queries x keys", "SDPA", "explicit", "pieces", "pieces / explicit"],
            *dropped,
        ],
        f"In float32, by the keys that do not fill a vector of {LANES} values (61 queries):": [
            ["keys", f"keys mod {LANES}", *columns],
            *tails,
        ],
        f"In float32, by length, at keys mod {LANES} = 13 (as many queries as keys):": [
            ["keys", *columns],
            *lengths,
        ],
    }
    parts = [part for title, rows in tables.items() for part in (title, markdown(rows)) if part]
    return "\n\n".join([head, *parts]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2, help="of each shape")
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    # As in a training, the allocator keeps freed blocks: glibc maps a block anew, page by page,
    # while it is larger than all that were freed before.
    torch.zeros(31 << 18)  # 31 MiB, freed at once
    text = report(given.batch_size, given.seconds)
    if given.into is None:
        print(text)
        return
    old = given.into.read_text() if given.into.exists() else ""
    kept = old[old.index(EARLIER) :] if EARLIER in old else ""
    given.into.write_text(f"{text}\n{kept}" if kept else text)


if __name__ == "__main__":
    main()
