"""How FmFormer's cost grows: with frames, length of the current, size of the picture and batch.

    python benchmarks/growth.py --into benchmarks/growth

FmFormer on video and current (dim 96, depth 6, masks), in float32, on one thread. A step is a
training step: loss, backward, AdamW. Time is the thread's own, without other work on the machine:
the least of the repeats. Each curve is fitted by a + b n + c n^2 in tokens n, for the batch by
a + b n. Memory is the largest growth of a fresh process while it trains.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import torch

from fmbench.config.schema import Config
from fmbench.models import FmFormer
from fmbench.nn import tube_grid
from fmbench.speed.benchmark import random_batch, steps_of
from fmbench.speed.timing import StepTimer, durations, forget, highest
from fmbench.tabular import markdown
from fmbench.types import Modality, Problem

matplotlib.use("agg")
from matplotlib import pyplot as plt

BASE = Problem(
    modality=Modality.CROSS, dense=True, frames=4, image_size=(64, 64), current_samples=60
)
BATCH = 2
CPU = torch.device("cpu")
TUBE, DILATIONS = (2, 8, 8), (2, 1)
AXES = {
    "frames": (2, 4, 8, 16, 32),
    "current samples": (60, 240, 480, 960, 1920),
    "image side": (32, 64, 96, 128, 192),
    "batch": (1, 2, 4, 8, 16),
}


class Point(NamedTuple):
    """One setting: its value, tokens of a window, seconds of a forward and of a step."""

    value: int
    tokens: int
    forward: float
    step: float


def setting(axis: str, value: int) -> tuple[Problem, int]:
    if axis == "batch":
        return BASE, value
    changes = {
        "frames": {"frames": value},
        "current samples": {"current_samples": value},
        "image side": {"image_size": (value, value)},
    }[axis]
    return replace(BASE, **changes), BATCH  # type: ignore[arg-type]


def tokens_of(problem: Problem) -> int:
    """Number of tokens in both streams, with class tokens."""
    grids = [tube_grid(problem.frames, problem.image_size, TUBE, d) for d in DILATIONS]
    return 2 + problem.current_samples + sum(int(np.prod(grid)) for grid in grids)


def measured(axis: str, value: int, seconds: float) -> Point:
    problem, size = setting(axis, value)
    batch = random_batch(problem, size)
    model = FmFormer(problem).eval()
    with torch.no_grad():
        forward = durations(lambda: model(batch), seconds=seconds, least=3, clock=time.thread_time)
    clock = StepTimer(seconds, clock=time.thread_time)
    steps_of(Config(trainer={"accelerator": "cpu"}), problem, batch, clock)
    return Point(value, tokens_of(problem), min(forward), min(clock.warm()[1]))


def fitted(points: list[Point], axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative coefficients of a step's seconds, by least squares of the relative error, and
    the fit at every point."""
    from scipy.optimize import nnls

    n = np.array([p.value if axis == "batch" else p.tokens for p in points], float)
    seconds = np.array([p.step for p in points])
    powers = np.stack([n**k for k in range(2 if axis == "batch" else 3)], axis=1)
    coefficients, _ = nnls(powers / seconds[:, None], np.ones(len(n)))
    return coefficients, powers @ coefficients


def grown(checkpoint: bool) -> float:
    """MiB of two steps at batch 64, ten frames of 64 x 64 and 240 samples."""
    problem = Problem(modality=Modality.CROSS, dense=True)
    batch = random_batch(problem, 64)
    forget(CPU)
    before = highest(CPU)
    config = Config(net={"checkpoint": checkpoint}, trainer={"accelerator": "cpu"})
    steps_of(config, problem, batch, StepTimer(0, least=0))
    after = highest(CPU)
    assert before is not None, "needs Linux"
    assert after is not None
    return (after - before) / 2**20


def fresh(checkpoint: bool) -> float:
    """`grown` in a process of its own."""
    command = [sys.executable, __file__, "--memory", str(checkpoint)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def draw(curves: dict[str, list[Point]], path: Path) -> None:
    figure, panels = plt.subplots(1, len(curves), figsize=(14, 3.6), layout="constrained")
    for panel, (axis, points) in zip(panels, curves.items(), strict=True):
        x = [p.value for p in points]
        panel.loglog(x, [p.step for p in points], "o", color="#0072B2", label="training step")
        panel.loglog(x, fitted(points, axis)[1], color="#0072B2", lw=1, label="fit")
        panel.loglog(x, [p.forward for p in points], "s", color="#D55E00", label="forward")
        whole = points[0].step * np.array(x) / x[0]
        panel.loglog(x, whole, color="0.7", ls=":", label="in proportion")
        panel.set_xticks(x, [f"{value}" for value in x])
        panel.minorticks_off()
        panel.set_xlabel(axis)
        panel.set_title(
            "windows" if axis == "batch" else f"{points[0].tokens} to {points[-1].tokens} tokens",
            fontsize=9,
        )
    panels[0].set_ylabel("seconds of one thread")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def text_of(curves: dict[str, list[Point]], plain: float, checkpointed: float) -> str:
    measured_rows = [["varied", "value", "tokens", "forward, s", "training step, s"]]
    for axis, points in curves.items():
        measured_rows += [
            [axis, str(p.value), str(p.tokens), f"{p.forward:.4f}", f"{p.step:.4f}"] for p in points
        ]
    lines = [
        "# How FmFormer's cost grows",
        "",
        f"`python benchmarks/growth.py`: video and current, dim 96, depth 6, masks; {BASE.frames}"
        f" frames of 64 × 64, {BASE.current_samples} samples, batch {BATCH}, where not varied."
        " Seconds of one thread, the least of the repeats.",
        "",
        "![Time against frames, current, image side and batch](growth.png)",
        "",
        markdown(measured_rows, aligned=True),
        "",
        "Fit of the step, ms, in hundreds of tokens n (of both streams), or in windows n:",
        "",
    ]
    fits = [["varied", "a", "b n", "c n²", "largest error", "share of c n² at the end"]]
    for axis, points in curves.items():
        found, curve = fitted(points, axis)
        seconds = np.array([p.step for p in points])
        error = np.abs(curve / seconds - 1).max()
        unit = 1 if axis == "batch" else 100
        scaled = [1000 * value * unit**k for k, value in enumerate(found)]
        square = f"{scaled[2]:.3f}" if len(scaled) > 2 else "–"
        share = f"{found[2] * points[-1].tokens ** 2 / curve[-1]:.0%}" if len(found) > 2 else "–"
        coefficients = [f"{scaled[0]:.1f}", f"{scaled[1]:.2f}", square]
        fits.append([axis, *coefficients, f"{error:.0%}", share])
    lines += [
        markdown(fits, aligned=True),
        "",
        "Everything but attention is done token by token: tokenizers, the linear maps of q, k, v"
        " and output, the MLPs, the heads. So it grows in proportion to the tokens, and these to"
        " frames, samples and pixels (the side's square). Each attention compares every query with"
        " every key, in self-attention of its own stream, in cross-attention of the other: its"
        " products grow with n_v² + n_c², and with 2 n_v n_c. A query and a key cost 4 D"
        " operations, the linear maps and MLPs of a token 24 D² and more: with D = 96 attention"
        " overtakes them beyond some 600 tokens of a stream. The batch is linear, and a step of few"
        " windows pays AdamW and the calls of some thousand small operations all the same (a).",
        "",
        f"Memory of training at batch 64, ten frames of 64 × 64 and 240 samples: {plain:,.0f} MiB;"
        f" with `--net.checkpoint true` {checkpointed:,.0f} MiB.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--into", type=Path, help="write INTO.md and INTO.png")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        print(grown(options.memory == "True"))
        return
    curves = {
        axis: [measured(axis, value, options.seconds) for value in values]
        for axis, values in AXES.items()
    }
    text = text_of(curves, fresh(False), fresh(True))
    print(text)
    if options.into:
        options.into.with_suffix(".md").write_text(text)
        draw(curves, options.into.with_suffix(".png"))


if __name__ == "__main__":
    main()
