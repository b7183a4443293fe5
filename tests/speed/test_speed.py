"""How fast a model is: the figures of `fmbench speed`, and two of its files side by side."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn

from fmbench.cli import main
from fmbench.config.schema import Config
from fmbench.nn import Standardize
from fmbench.registry import catalogue, create_model
from fmbench.speed import (
    FIGURES,
    SpeedReport,
    aligned,
    measure_speed,
    ratio_cells,
    read_report,
    write_report,
)
from fmbench.speed.benchmark import random_batch, standardize_noise
from fmbench.speed.flops import count
from fmbench.speed.timing import StepTimer, Waits, durations
from fmbench.training.loop import quiet
from fmbench.types import Batch, Modality, Prediction, Problem
from recordings import write_root

PROBLEM = Problem(modality=Modality.CURRENT, current_samples=24)
NAP = 0.02


class Stack(nn.Module):
    """Three linear layers over all samples; sleeps `nap` seconds in every forward."""

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    def __init__(self, problem: Problem, *, width: int = 256, nap: float = 0.0) -> None:
        super().__init__()
        self.nap = nap
        self.standardize = Standardize.current(problem.current_channels)
        inputs = problem.current_samples * problem.current_channels
        self.layers = nn.Sequential(
            nn.Linear(inputs, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, problem.num_classes),
        )

    def forward(self, batch: Batch) -> Prediction:
        time.sleep(self.nap)
        assert batch.current is not None
        return Prediction(self.layers(self.standardize(batch.current).flatten(1)))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalogue(), "stack", Stack)


def of_stack(**net: Any) -> SpeedReport:
    config = Config(model="stack", modality="current", net=net, trainer={"accelerator": "cpu"})
    return measure_speed(config, PROBLEM, batch_size=16, seconds=0.1)


def test_figures_of_a_stack_of_linear_layers_are_those_counted_by_hand() -> None:
    figures = of_stack().rows[0].figures
    shapes = [(72, 256), (256, 256), (256, 2)]
    assert figures["parameters"] == sum(a * b + b for a, b in shapes)
    products = sum(2 * a * b for a, b in shapes)
    assert figures["flops_forward"] == products
    # Backward: as much for the weights, and for every layer's input but the first one's.
    assert figures["flops_training"] == 3 * products - 2 * 72 * 256
    for name, value in figures.items():
        assert value is not None, name
        assert math.isfinite(value), name
        # A process that has done other work before may find room without growing.
        assert value > 0 or (name == "memory" and value == 0), name
    assert figures["latency_p50"] <= figures["latency_p99"]  # type: ignore[operator]
    for side in ("forward", "training"):
        assert figures[f"achieved_{side}"] == pytest.approx(
            figures[f"flops_{side}"] * figures[side]  # type: ignore[operator]
        )
        assert figures[f"achieved_{side}"] < figures["ceiling"]  # type: ignore[operator]


def test_random_currents_are_amperes_that_the_model_standardises() -> None:
    """The expert system, whose fit measures a set-point, refuses currents around 0."""
    batch = random_batch(PROBLEM, 64)
    assert batch.current is not None
    assert batch.current.min() > 0
    model = create_model("rms_current", PROBLEM)
    model.standardize = Standardize.current(PROBLEM.current_channels)
    standardize_noise(model, PROBLEM)
    seen = model.standardize(batch.current)
    assert seen.mean().abs() < 0.1
    assert abs(seen.std() - 1) < 0.1
    config = Config(model="expert_system", modality="current", trainer={"accelerator": "cpu"})
    problem = Problem(modality="current", current_samples=60)  # type: ignore[arg-type]
    figures = measure_speed(config, problem, batch_size=4, seconds=0.1).rows[0].figures
    assert figures["forward"] is not None
    assert figures["forward"] > 0


def test_attention_is_counted_on_a_cpu_too() -> None:
    q, k, v = (torch.randn(2, 3, n, 8, requires_grad=True) for n in (10, 14, 14))

    def attend() -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)

    product = 2 * 2 * 3 * 10 * 14 * 8
    assert count(attend)[0] == 2 * product
    assert count(lambda: attend().sum().backward())[0] == (2 + 5) * product


def test_a_model_that_sleeps_is_slower_by_its_sleep() -> None:
    def seconds(nap: float) -> list[float]:
        figures = of_stack(nap=nap).rows[0].figures
        rates = [16 / figures[name] for name in ("forward", "training")]  # type: ignore[operator]
        return [*rates, figures["latency_p50"]]  # type: ignore[list-item]

    slow = seconds(NAP)
    assert min(slow) >= NAP
    for _ in range(3):  # other work on the machine is no fault of ours
        swift = seconds(0)
        if all(a - b > 0.5 * NAP for a, b in zip(slow, swift, strict=True)):
            return
    pytest.fail(f"{slow} with a nap of {NAP}, {swift} without")


def test_an_epoch_waits_for_slow_data_and_not_for_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fmbench.data import FurnaceData
    from fmbench.data.dataset import WindowDataset

    write_root(tmp_path, recordings=1)
    options: dict[str, Any] = {"root": tmp_path, "modality": "current", "batch_size": 4}
    options |= {"current_samples": 24, "guard_seconds": 5}
    config = Config(model="stack", modality="current", trainer={"accelerator": "cpu"})

    def figures() -> dict[str, float]:
        data = FurnaceData(**options)
        report = measure_speed(config, PROBLEM, batch_size=4, data=data, seconds=0.1)
        return {name: value for name, value in report.rows[0].figures.items() if value is not None}

    fast = figures()
    read = WindowDataset.__getitems__

    def slowly(self: WindowDataset, items: list[Any]) -> Any:
        time.sleep(5 * NAP)
        return read(self, items)

    monkeypatch.setattr(WindowDataset, "__getitems__", slowly)
    slow = figures()
    assert slow["loading"] <= 4 / (5 * NAP)
    assert slow["epoch"] <= 4 / (5 * NAP)
    assert 0 < fast["waiting"] < slow["waiting"] < 1
    assert slow["waiting"] > 0.5


class Line(L.LightningModule):
    """One weight; sleeps NAP in a step, and NAP while a batch goes to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor) -> Tensor:
        time.sleep(NAP)
        return (self.weight * batch).sum()

    def transfer_batch_to_device(self, *given: Any) -> Any:
        time.sleep(NAP)
        return super().transfer_batch_to_device(*given)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Slow(list[Tensor]):
    """Sleeps 3 NAP before it hands out an item."""

    def __getitem__(self, index: Any) -> Any:
        time.sleep(3 * NAP)
        return super().__getitem__(index)


def test_waiting_for_data_is_told_from_steps_and_from_what_the_trainer_does_between() -> None:
    clock, waits = StepTimer(0, least=4), Waits(torch.device("cpu"))
    between = LambdaCallback(on_train_batch_end=lambda *_: time.sleep(2 * NAP))
    with quiet():
        L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            callbacks=[clock, between],
            profiler=waits,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(Line(), torch.utils.data.DataLoader(Slow([torch.ones(1)] * 9), batch_size=None))
    pauses, steps = clock.warm()
    assert len(pauses) == len(steps) == 4
    assert len(waits.taken) == len(clock.steps) == 6
    # The least of each: other work on the machine is no fault of ours.
    assert 4 * NAP <= min(waits.taken) < 5 * NAP
    assert min(pauses) >= 6 * NAP
    assert NAP <= min(steps) < 2 * NAP


def test_peak_memory_counts_what_was_freed_again() -> None:
    code = (  # in a process that holds no freed memory to take it from
        "import torch; from fmbench.speed.timing import forget, highest\n"
        "device = torch.device('cpu'); torch.ones(64, 1024, 1024).sum(); forget(device)\n"
        "before = highest(device); torch.ones(32, 1024, 1024).sum()  # 128 MiB\n"
        "print((highest(device) - before) / 2**20)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert 120 < float(done.stdout) < 200


def test_durations_go_on_for_the_time_and_the_number_asked_for() -> None:
    naps: Callable[[], None] = lambda: time.sleep(0.002)  # noqa: E731
    assert len(durations(naps, seconds=0, least=7)) == 7
    began = time.perf_counter()
    assert all(each >= 0.002 for each in durations(naps, seconds=0.1))
    assert time.perf_counter() - began >= 0.1


def test_a_report_is_read_as_it_was_written_and_compared_figure_by_figure(tmp_path: Path) -> None:
    new = of_stack()
    write_report(tmp_path / "new.json", new)
    again = read_report(tmp_path / "new.json")
    assert again.rows[0].figures == new.rows[0].figures
    row = new.rows[0]
    old = replace(new, rows=[replace(row, figures={**row.figures, "forward": 1.0, "waiting": 0.5})])
    cells = ratio_cells(new, old)
    ratios = dict(zip(cells[0][1:], cells[1][1:], strict=True))
    assert ratios["training, windows/s"] == "1.00"
    assert ratios["forward, windows/s"] == f"{row.figures['forward']:.2f}"
    assert ratios[FIGURES["waiting"].title] == ""
    text = aligned(cells)
    assert len(text.splitlines()) == len(FIGURES) + 2
    assert len({len(line) for line in text.splitlines()}) == 1


SPEED = ("speed", "--model", "stack", "--modality", "current", "--image_size", "[8, 8]")
SHORT = ("--seconds", "0.05", "--data.current_samples", "24", "--trainer.accelerator", "cpu")


def test_the_command_prints_a_table_writes_it_and_compares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "stack.json"
    assert main([*SPEED, *SHORT, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "training, windows/s" in printed
    assert out.with_suffix(".md").read_text() == printed
    content = json.loads(out.read_text())
    assert content["rows"][0]["problem"]["current_samples"] == 24
    assert torch.__version__.startswith(content["versions"]["torch"])

    assert main([*SPEED, *SHORT, "--net.width", "64", "--compare", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "net.width: new 64, old 256" in printed
    assert "new / old" in printed

    content["conditions"]["processor"] = "another"
    out.write_text(json.dumps(content))
    assert main([*SPEED, *SHORT, "--compare", str(out)]) == 2
    refused = capsys.readouterr()
    assert "another" in refused.err
    assert not refused.out, "refused before anything is measured"
    assert main([*SPEED, *SHORT, "--compare", str(out), "--anywhere"]) == 0
    assert "old: another" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--seconds", "0"), "--seconds is 0; it must be above 0"),
        (("--threads", "0"), "--threads is 0; it must be at least 1"),
        (("--stage", "none"), "no stage that learns is called 'none'; this model's: fit"),
        (("--compare", "missing.json"), "missing.json: no such file"),
        (("--image_size", "large"), "--image_size"),
    ],
)
def test_what_cannot_be_measured_is_said_in_a_few_lines(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SPEED, *SHORT, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) <= 3


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="no file of `fmbench speed --out`"):
        read_report(tmp_path / "other.json")
