"""The certificate of an export: its answers beside those of PyTorch on test windows."""

from __future__ import annotations

import math
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch

from fmbench.data import FurnaceData
from fmbench.export.formats import Array, Runner
from fmbench.export.network import Network, inputs_of
from fmbench.metrics import of_each_window
from fmbench.progress import ShowProgress
from fmbench.speed.timing import durations
from fmbench.tables.intervals import compare, named_blocks, rates
from fmbench.training.lit import Detector, concatenated
from fmbench.types import Prediction

COMPARED = ("acc", "f1", "fdr", "mdr", "miou")
LATENCY_SECONDS = 0.5
TINY = 1e-12
"""Least probability of which a logarithm is taken."""


def certify(
    detector: Detector, run: Runner, data: FurnaceData, show: ShowProgress
) -> dict[str, Any]:
    """Compare an export with its detector on all test windows of `data`.

    Args:
        detector: in eval mode, on the CPU.
        run: the export.
        data: with the test part.
        show: progress, in windows.

    Returns:
        Plain values: windows; the largest difference of a probability, and of a pixel's; decisions
        and pixels that differ; `rates` of both, with the difference (export - PyTorch) and its 95 %
        interval by recordings or events, where the windows have labels.
    """
    network = Network(detector).eval()
    total, done = len(data.dataset("test")), 0
    largest, pixels_largest, pixels, pixels_differ = 0.0, 0.0, 0, 0
    columns: tuple[list[Any], list[Any]] = ([], [])
    for batch in data.test_dataloader():
        inputs = inputs_of(batch, detector.problem.modality)
        with torch.inference_mode():
            expected = [each.numpy() for each in network(*inputs)]
        found = run([each.numpy() for each in inputs])
        largest = max(largest, _largest(expected[0], found[0]))
        if detector.problem.dense:
            pixels_largest = max(pixels_largest, _largest(expected[1], found[1]))
            pixels += math.prod(expected[1].shape) // expected[1].shape[1]
            pixels_differ += int((expected[1].argmax(1) != found[1].argmax(1)).sum())
        for part, answers in zip(columns, (expected, found), strict=True):
            part.append(of_each_window(_prediction(answers), batch, detector.classes))
        done += len(batch.label)
        show(done, total, "windows")
    windows = data.table("test")
    torch_table, export_table = (
        windows.assign(**{name: value.numpy() for name, value in concatenated(part).items()})
        for part in columns
    )
    decisions = int((torch_table["decision"] != export_table["decision"]).sum())
    return {
        "windows": total,
        "largest_difference": {"probabilities": largest}
        | ({"mask": pixels_largest} if detector.problem.dense else {}),
        "decisions_that_differ": decisions,
        **({"pixels": pixels, "pixels_that_differ": pixels_differ} if pixels else {}),
        **_rates(torch_table, export_table),
    }


def latency(detector: Detector, run: Runner, inputs: Sequence[Array]) -> dict[str, Any]:
    """Median milliseconds for one window on one thread, of the export and of PyTorch.

    Args:
        detector: in eval mode, on the CPU.
        run: the export, opened with one thread.
        inputs: of one window.
    """
    network = Network(detector).eval()
    tensors = [torch.from_numpy(each) for each in inputs]
    with _one_thread(), torch.inference_mode():
        by_torch = durations(lambda: network(*tensors), seconds=LATENCY_SECONDS)
        exported = durations(lambda: run(inputs), seconds=LATENCY_SECONDS)
    return {
        "batch": 1,
        "threads": 1,
        "processor": platform.processor() or platform.machine(),
        "pytorch_ms": round(1000 * statistics.median(by_torch), 3),
        "export_ms": round(1000 * statistics.median(exported), 3),
    }


def in_words(certificate: Mapping[str, Any]) -> str:
    """certificate.md."""
    facts, speed = certificate, certificate["latency"]
    largest = facts["largest_difference"]
    lines = [
        f"# Certificate: {facts['model']} ({facts['modality']}), {facts['format']}, "
        f"{facts['precision']}",
        "",
        f"{facts['windows']:,} windows of the test part of {facts['data']}, computed by the export"
        f" ({facts['runtime']}) and by PyTorch {facts['torch']} in float32.",
        f"Trained on {facts['trained_on']}.",
    ]
    if facts["simulated"]:
        lines += ["", "**The recordings are simulated: no rate below was measured on a furnace.**"]
    lines += [
        "",
        "| comparison with PyTorch | |",
        "| --- | --- |",
        f"| largest difference of a probability | {largest['probabilities']:.1e} |",
        f"| decisions that differ | {facts['decisions_that_differ']:,} of {facts['windows']:,} |",
    ]
    if "mask" in largest:
        share = f"{facts['pixels_that_differ']:,} of {facts['pixels']:,}"
        lines += [
            f"| largest difference of a pixel's probability | {largest['mask']:.1e} |",
            f"| pixels that differ | {share} |",
        ]
    lines += [
        f"| one window on one thread | {speed['export_ms']:.1f} ms; PyTorch "
        f"{speed['pytorch_ms']:.1f} ms |",
    ]
    if facts.get("rates"):
        lines += [
            "",
            f"Rates, and their difference with a 95 % interval by {facts['blocks']}:",
            "",
            "| rate | PyTorch | export | difference |",
            "| --- | --- | --- | --- |",
            *(_rate_line(name, rate) for name, rate in facts["rates"].items()),
        ]
    return "\n".join([*lines, "", f"Checkpoint: SHA-256 {facts['checkpoint']['sha256']}", ""])


def _rate_line(name: str, rate: Mapping[str, Any]) -> str:
    low, high = rate["interval"]
    reach = "" if low is None else f" [{low:+.4f}, {high:+.4f}]"
    cells = [rate["pytorch"], rate["export"]]
    return f"| {name} | {cells[0]:.4f} | {cells[1]:.4f} | {rate['difference']:+.4f}{reach} |"


def _rates(by_torch: pd.DataFrame, exported: pd.DataFrame) -> dict[str, Any]:
    """Rates of both, if all windows have labels; an undefined one is left out."""
    if (by_torch["label"] < 0).any():
        return {}
    difference = compare([exported], [by_torch])
    here, there, found = _values(exported), _values(by_torch), {}
    for name in COMPARED:
        if name not in difference or math.isnan(here[name]) or math.isnan(there[name]):
            continue
        value, low, high = difference[name].difference
        found[name] = {
            "pytorch": there[name],
            "export": here[name],
            "difference": value,
            "interval": [None if math.isnan(end) else end for end in (low, high)],
        }
    return {"rates": found, "blocks": named_blocks(by_torch)}


def _values(windows: pd.DataFrame) -> dict[str, float]:
    return {name: float(values[0]) for name, values in rates(windows).items()}


def _prediction(answers: Sequence[Array]) -> Prediction:
    """Probabilities as logits: their logarithms."""
    logits = [torch.from_numpy(each).clamp_min(TINY).log() for each in answers]
    return Prediction(logits[0], logits[1] if len(logits) > 1 else None)


def _largest(expected: Array, found: Array) -> float:
    """The largest difference; infinite where an answer is not a number."""
    gap = float(np.abs(expected - found).max())
    return math.inf if math.isnan(gap) else gap


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
