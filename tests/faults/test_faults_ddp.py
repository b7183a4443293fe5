"""If one of several processes fails or stops, all end and the error names its rank."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from faulty import MESSAGE, environment, words
from fmbench.config.schema import Config
from fmbench.training.run import fit
from test_faults_resume import differences, result

LIMIT = 10
"""Seconds within which all processes must end."""


class Ended(NamedTuple):
    status: int
    seconds: float
    told: str


def train(
    root: Path,
    tmp_path: Path,
    fault: str,
    processes: int,
    *,
    epochs: int = 2,
    at: str = "the fault comes now",
    then: Callable[[int], None] = lambda group: None,
    run: str = "run",
    **more: object,
) -> Ended:
    """Train with several processes; seconds from the line `at` until the last process ends."""
    more |= {"trainer__devices": processes, "trainer__max_epochs": epochs}
    if processes > 1:
        more["trainer__strategy"] = "ddp"
    with subprocess.Popen(
        [sys.executable, "-m", "fmbench", *words(tmp_path / run, root, **more)],
        env=environment(tmp_path, fault),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as started:
        assert started.stdout is not None
        alarm = threading.Timer(240, os.killpg, (started.pid, signal.SIGKILL))
        alarm.start()
        lines, began = [], None
        for line in started.stdout:  # ends when every process has closed it
            lines.append(line)
            if at in line and began is None:
                began = time.monotonic()
                alarm.cancel()
                alarm = threading.Timer(60, os.killpg, (started.pid, signal.SIGKILL))
                alarm.start()
                then(started.pid)
        seconds = time.monotonic() - (began or 0)
        alarm.cancel()
    return Ended(started.returncode, seconds, "".join(lines))


FAST, SLOW = [(2, 1, "raise")], [(2, 1, "SIGKILL")]
CASES = [
    pytest.param(
        processes,
        rank,
        act,
        id=f"{act}-{rank}-of-{processes}",
        marks=()
        if (processes, rank, act) in FAST
        else pytest.mark.slow
        if (processes, rank, act) in SLOW
        else pytest.mark.full,
    )
    for act in ("raise", "SIGKILL", "SIGSTOP")
    for processes in (2, 3)
    for rank in range(processes)
]


@pytest.mark.parametrize(("processes", "rank", "act"), CASES)
def test_where_one_fails_all_end_and_it_is_named(
    root: Path,
    tmp_path: Path,
    fault: Callable[..., Any],
    processes: int,
    rank: int,
    act: str,
) -> None:
    what = {"raise": "raises", "SIGKILL": "is killed", "SIGSTOP": "is stopped (SIGSTOP)"}[act]
    row = fault(
        f"DDP, 2 and 3 processes: one {what}",
        promise=f"all end within {LIMIT} s; the error names the rank",
    )
    ended = train(root, tmp_path, f"{rank} {act}", processes)
    told = ended.told[-800:]
    row.measured("seconds until all ended", ended.seconds)
    row.trial(ended.status != 0 and ended.seconds <= LIMIT, f"{ended.seconds:.1f} s: {told}")
    named = [line for line in ended.told.splitlines() if f"rank {rank} of {processes}" in line]
    row.trial(bool(named), told)
    others = [each for each in range(processes) if each != rank]
    blamed = any(f"rank {each} of" in ended.told for each in others)
    row.trial(not blamed and "Traceback" not in ended.told and "gloo" not in ended.told, told)
    if act == "raise":
        row.trial(ended.told.count(f"fmbench: error: {MESSAGE}\n") == 1, told)


@pytest.mark.full
def test_where_all_are_stopped_for_a_while_all_go_on(
    root: Path, tmp_path: Path, fault: Callable[..., Any]
) -> None:
    """Ctrl-Z, or a scheduler that suspends a job."""

    def suspend(group: int) -> None:
        os.killpg(group, signal.SIGSTOP)
        time.sleep(8)
        os.killpg(group, signal.SIGCONT)

    row = fault(
        "DDP, 2 processes: all are suspended for 8 s", promise="the run continues and finishes"
    )
    ended = train(root, tmp_path, "", 2, epochs=20, at="] epoch 1 of", then=suspend)
    row.trial(ended.status == 0 and "epoch 20 of 20" in ended.told, ended.told[-800:])


@pytest.mark.full
def test_what_is_stopped_goes_on_to_the_same_bits(
    root: Path, tmp_path: Path, fault: Callable[..., Any]
) -> None:
    row = fault(
        "DDP, 2 processes: SIGTERM at a random moment; resumed",
        promise="weights, optimizer, metrics and log are bit-equal",
    )
    asked = {"epochs": 8, "model": "itransformer", "net__dropout": 0.3}  # it has random draws
    asked |= {"data__epoch_windows": 256, "trainer__log_every_n_steps": 1}
    train(root, tmp_path, "", 2, run="whole", **asked)
    whole, draw = result(tmp_path / "whole"), random.Random(0)
    for trial in range(4):

        def stop(group: int) -> None:
            time.sleep(draw.uniform(0, 0.3))
            os.kill(group, signal.SIGTERM)  # to the first process, which stops the other

        run = f"broken-{trial}"
        ended = train(root, tmp_path, "", 2, run=run, at="] epoch 2 of", then=stop, **asked)
        row.trial(ended.status == 143, f"status {ended.status}: {ended.told[-800:]}")
        train(root, tmp_path, "", 2, run=run, resume="auto", **asked)
        other = differences(whole, result(tmp_path / run))
        row.trial(not other, f"trial {trial}: {other[:3]}")


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = Config(
        model="fmformer",
        modality="cross",
        net={"dim": 24, "depth": 1},
        data={
            "root": str(root),
            "frames": 4,
            "current_samples": 12,
            "batch_size": 8,
            "epoch_windows": 64,
            "val_windows": 49,
            "test_windows": 49,  # 7 batches of 7; 25 and 24; 17, 16 and 16
            "val_fraction": 0.2,
            "guard_seconds": 5,
        },
        trainer={"max_epochs": 1, "accelerator": "cpu"},
    )
    return fit(config, run=tmp_path_factory.mktemp("runs") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", pytest.param("val", marks=pytest.mark.full)])
def test_counts_are_the_same_for_one_two_and_three_processes(
    trained: Path, tmp_path: Path, split: str, fault: Callable[..., Any]
) -> None:
    row = fault("DDP: test with 1, 2 and 3 processes", promise="identical counts and decisions")
    results, tables = [], []
    for processes in (1, 2, 3):
        out = tmp_path / str(processes)
        engine = ["--trainer.devices", str(processes), "--trainer.accelerator", "cpu"]
        engine += ["--trainer.strategy", "ddp"] if processes > 1 else []
        words = ["test", "--checkpoint", str(trained), "--split", split, "--out", str(out)]
        done = subprocess.run(
            [sys.executable, "-m", "fmbench", *words, *engine], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("acc ") == 1  # one process prints
        results.append(json.loads((out / f"{split}.json").read_text())["metrics"])
        tables.append(pd.read_csv(out / f"{split}-predictions.csv"))
    assert sum(results[0][count] for count in ("tn", "fp", "fn", "tp")) == 49
    for rates, table in zip(results[1:], tables[1:], strict=True):
        assert rates == pytest.approx(results[0], abs=1e-6)
        np.testing.assert_allclose(table["log_odds"], tables[0]["log_odds"], atol=1e-5)
        counts = [rates[name] == results[0][name] for name in ("tn", "fp", "fn", "tp", "miou")]
        exact = ["recording", "frame", "label", "decision", "pixel_tp", "pixel_fp", "pixel_fn"]
        row.trial(all(counts) and table[exact].equals(tables[0][exact]), f"{rates}")
