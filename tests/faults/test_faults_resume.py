"""A resumed training ends bit-equal to an uninterrupted one, wherever it was stopped."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from conftest import Fault
from fmbench.config.profiles import shipped
from fmbench.config.schema import Config
from fmbench.stages import Learn, stages_of
from fmbench.training.guard import Stopped
from fmbench.training.lit import Detector
from fmbench.training.run import fit
from recordings import write_root
from test_contract import SMALL, build

ROWS = [
    (row["model"], row["modality"])
    for row in yaml.safe_load((shipped("experiments") / "table2.yaml").read_text())["rows"]
]
FAST = [("itransformer", "current")]
SLOW = [("fmformer", "cross"), ("ssfggan", "cross"), ("dcnn_svm", "cross"), ("bilm", "cross")]
"""Rows of the short form: one loss, alternating optimizers, stages with a solver, learning stages.
tests/training/test_rows.py also interrupts every row, and compares less."""
EPOCHS, STEPS = 3, 4  # epochs: the largest number of stages of a method; steps per epoch

every_row = pytest.mark.parametrize(
    ("name", "modality"),
    [
        pytest.param(
            *row,
            marks=() if row in FAST else pytest.mark.slow if row in SLOW else pytest.mark.full,
        )
        for row in ROWS
    ],
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=3, seconds=90, size=(32, 32))
    return folder


def config(root: Path, name: str, modality: str, workers: int = 0, **changes: Any) -> Config:
    net = SMALL.get(name, {}) | (
        {"block_seconds": 24, "held_out": 0.5} if name == "dcnn_svm" else {}
    )
    data = {
        "root": str(root),
        "frames": 4,
        "current_samples": 24,
        "batch_size": 8,
        "epoch_windows": 8 * STEPS * (2 if name == "dcnn_svm" else 1),  # its SVM needs both classes
        "val_windows": 16,
        "val_fraction": 0.2,
        "guard_seconds": 5,
        "num_workers": workers,
    }
    return Config(
        model=name,
        modality=modality,
        seed=3,
        net=net,
        data=data,
        optim={"schedule": "cosine", "warmup_steps": 3},
        trainer={"max_epochs": EPOCHS, "accelerator": "cpu", "log_every_n_steps": 1},
        **changes,
    )


def result(run: Path) -> dict[str, Any]:
    """The outcome of a training: every tensor of its checkpoints, its metrics, its log."""
    found: dict[str, Any] = {"val": json.loads((run / "val.json").read_text())["metrics"]}
    for name in ("best", "last"):
        content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "processes"):
            found[f"{name} {part}"] = content[part]
    logs = sorted(run.glob("log/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    rows = pd.concat([pd.read_csv(path) for path in logs]).set_index("step") if logs else ()
    for metric in sorted(rows):
        found[f"log {metric}"] = rows[metric].dropna().groupby(level=0).last().to_dict()
    return found


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Paths at which two results are not bit-equal."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{where}: other keys"]
        return [text for key in one for text in differences(one[key], other[key], f"{where} {key}")]
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=True)
        return [
            text for k, (a, b) in enumerate(pairs) for text in differences(a, b, f"{where} {k}")
        ]
    return [] if one == other else [where]


@contextmanager
def interrupted(call: str, number: int, how: Callable[[], None]) -> Iterator[None]:
    """Call `how` at the start of the `number`-th call of a step of Detector."""
    step, calls = getattr(Detector, call), 0

    def counted(self: Detector, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            how()
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, call, counted)
        yield


def crash() -> None:
    raise RuntimeError("pulled out")


def steps_of(name: str, modality: str) -> tuple[int, bool]:
    """Minimum number of training steps of a row, and whether its last stage takes any."""
    model, _ = build(name, modality)
    stages = stages_of(model)
    learning = any(isinstance(stage, Learn) for stage in stages)
    return EPOCHS * STEPS * learning, isinstance(stages[-1], Learn)


@every_row
def test_a_row_that_is_broken_off_ends_where_an_unbroken_one_does(
    root: Path,
    tmp_path: Path,
    name: str,
    modality: str,
    fault: Callable[..., Fault],
    trials: Callable[[int, int], int],
) -> None:
    line = fault(
        "stopped within an epoch or validation, or crashed; resumed (18 rows, 0 and 2 workers)",
        promise="weights, optimizer, metrics and log are bit-equal",
    )
    (steps, learns_last), draw = steps_of(name, modality), random.Random(f"{name}-{modality}")
    for workers in (0, 2)[: trials(1, 2)]:
        asked = config(root, name, modality, workers)
        fit(asked, run=tmp_path / f"whole-{workers}")
        whole = result(tmp_path / f"whole-{workers}")
        places: list[tuple[str, int, Callable[[], None]]] = []
        if steps:
            places += [("training_step", draw.randrange(1, steps + 1), ask)]
            places += [("training_step", draw.randrange(STEPS + 1, steps + 1), crash)]
        places += [("validation_step", 2, ask) if learns_last else ("predict_step", 2, crash)]
        for number, (call, at, how) in enumerate(places[: trials(1, 3)]):
            run = tmp_path / f"broken-{workers}-{number}"
            with interrupted(call, at, how), pytest.raises((Stopped, RuntimeError)):
                fit(asked, run=run)
            fit(asked, run=run, resume="auto")
            other = differences(whole, result(run))
            line.trial(
                not other, f"{name}, {workers} workers, {how.__name__} at {call} {at}: {other[:3]}"
            )


def ask() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
