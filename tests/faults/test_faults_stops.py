"""Signals, kills and full disks during `fmbench fit` in a child process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from children import start
from conftest import Fault
from fmbench.cli import main
from fmbench.training import checkpoint
from fmbench.training.run import fit
from test_faults_resume import STEPS, config, differences, result

pytestmark = pytest.mark.slow

PATIENCE = 120
EPOCHS = 20


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run; the other runs start from its config.yaml."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    asked = config(root, "itransformer", "current")
    fit(replace(asked, trainer={**asked.trainer, "max_epochs": EPOCHS}), run=run)
    return run


def words(whole: Path, run: Path) -> list[str | Path]:
    return ["fit", "--config", whole / "config.yaml", "--run", run, "--resume", "auto"]


def differs(whole: Path, run: Path, log: Path) -> str:
    """Resume a run to its end; its differences from `whole`, or how it failed."""
    return ", ".join(differences(result(whole), result(resumed(run, log, whole)))[:3])


def begun(run: Path, log: Path, whole: Path) -> ForkServerProcess:
    """Start a training and wait for its first checkpoint."""
    child = start(*words(whole, run), log=log)
    deadline = time.monotonic() + PATIENCE
    while not (run / "checkpoints" / "last.ckpt").is_file():
        assert child.is_alive(), log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)
    return child


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_ends_a_training_after_the_step_and_saves_it(
    whole: Path,
    tmp_path: Path,
    number: signal.Signals,
    fault: Callable[..., Fault],
    trials: Callable[[int, int], int],
) -> None:
    line = fault(
        f"{number.name} at a random moment of a training",
        promise=f"no step is lost; status {128 + number}; the resumed run is bit-equal",
    )
    draw = random.Random(int(number))
    for trial in range(trials(1, 10)):
        run, log = tmp_path / f"run-{trial}", tmp_path / f"log-{trial}"
        child = begun(run, log, whole)
        time.sleep(draw.uniform(0, 1))
        assert child.pid is not None
        os.kill(child.pid, number)
        sent = time.monotonic()
        child.join(PATIENCE)
        line.measured("seconds until exit", time.monotonic() - sent)
        saved = checkpoint.read_checkpoint(run / "checkpoints" / "last.ckpt")["global_step"]
        taken = pd.read_csv(run / "log" / "version_0" / "metrics.csv")["train/loss_step"].count()
        said = log.read_text()
        told = "interrupted" if number == signal.SIGINT else f"after step {saved},"
        stopped = child.exitcode == 128 + number and told in said
        ended = saved == EPOCHS * STEPS and child.exitcode in (-number, 128 + number)
        ok = (stopped or ended) and "Traceback" not in said and saved == taken
        note = f"status {child.exitcode}, {taken} steps, {saved} saved: {said[-300:]}"
        other = differs(whole, run, log)
        line.trial(ok and not other, f"{note}; {other}")


@pytest.mark.parametrize("place", ["the same file system as", "another file system than"])
def test_whenever_a_training_is_killed_its_newest_checkpoint_is_whole(
    whole: Path,
    tmp_path: Path,
    place: str,
    fault: Callable[..., Fault],
    trials: Callable[[int, int], int],
) -> None:
    """Half of the kills are aimed at a file write."""
    line = fault(
        f"SIGKILL at a random moment, saves included; run on {place} $TMPDIR",
        promise="every checkpoint loads, no saved step is lost, the next start leaves no partial "
        "file, the final run is bit-equal",
    )
    draw = random.Random(place)
    with memory_disk() if place.startswith("another") else nullcontext(tmp_path) as folder:
        run, before = folder / "run", -1
        for trial in range(trials(4, 50)):
            log = tmp_path / f"log-{trial}"
            child = start(*words(whole, run), log=log)
            moment = time.monotonic() + draw.uniform(0, 4)
            in_a_save = trial % 2 == 1
            while child.is_alive() and time.monotonic() < moment:
                if in_a_save and any((run / "checkpoints").glob(f".{child.pid}.*")):
                    break
            child.kill()
            child.join()
            halves = [path for path in run.rglob(".*") if f".{child.pid}." not in path.name]
            if "; run: " not in log.read_text():
                halves = []  # killed while reading data, before it removes partial files
            steps = []
            for path in sorted(run.glob("checkpoints/[!.]*.ckpt")):
                steps.append(checkpoint.read_checkpoint(path)["global_step"])
            line.trial(
                max(steps, default=-1) >= before and not halves, f"{steps} {before} {halves}"
            )
            line.measured("killed during a checkpoint write", any(run.rglob(f".{child.pid}.*")))
            before = max(steps, default=-1)
            if child.exitcode == 0:
                shutil.rmtree(run)
                before = -1
        run_to_its_end = resumed(run, tmp_path / "log-end", whole)
        other = differences(*map(result_without_log, (whole, run_to_its_end)))[:3]
        line.trial(not other and not [*run.rglob(".*")], str(other))


def test_a_full_disk_ends_a_training_and_what_was_there_stays(
    whole: Path,
    tmp_path: Path,
    fault: Callable[..., Fault],
    trials: Callable[[int, int], int],
) -> None:
    line = fault(
        "full disk while a checkpoint or log is written",
        promise="status 2 and a line with path, bytes needed (for a checkpoint) and free; "
        "checkpoints and log load; the run resumed with space is bit-equal",
    )
    draw = random.Random(0)
    for trial in range(trials(1, 10)):
        with memory_disk() as disk:
            run, log = disk / "run", tmp_path / f"log-{trial}"
            child = begun(run, log, whole)
            time.sleep(draw.uniform(0, 0.5))
            fill(disk / "ballast")
            child.join(PATIENCE)
            said = log.read_text()
            left = [checkpoint.read_checkpoint(path) for path in run.glob("checkpoints/[!.]*.ckpt")]
            rows = len(pd.read_csv(run / "log" / "version_0" / "metrics.csv"))
            (disk / "ballast").unlink()
            few = "No space left on device (" in said and " free)" in said
            ok = child.exitcode == 2 and few and str(run) in said and "Traceback" not in said
            found = [result_without_log(each) for each in (whole, resumed(run, log, whole))]
            other = differences(*found)
            line.trial(ok and bool(left) and rows > 0 and not other, f"{other[:2]} {said[-500:]}")


def test_a_full_disk_leaves_the_results_that_were_there(
    whole: Path, fault: Callable[..., Fault], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fault(
        "full disk while results are written",
        promise="status 2 and a line with bytes needed and free; existing results stay",
    )
    with memory_disk("64k") as disk:
        (disk / "test-predictions.csv").write_text("before")
        fill(disk / "ballast")
        capsys.readouterr()
        best = whole / "checkpoints" / "best.ckpt"
        status = main(["test", "--checkpoint", str(best), "--out", str(disk)])
        said = capsys.readouterr().err
        kept = (disk / "test-predictions.csv").read_text() == "before"
        names = sorted(path.name for path in disk.iterdir())
        ok = status == 2 and kept and names == ["ballast", "test-predictions.csv"]
        line.trial(ok and "bytes needed, 0 free" in said, f"{status} {names} {said}")


def resumed(run: Path, log: Path, whole: Path) -> Path:
    child = start(*words(whole, run), log=log)
    child.join(PATIENCE)
    assert child.exitcode == 0, log.read_text()
    return run


def result_without_log(run: Path) -> dict[str, Any]:
    """The outcome without the log, which a killed process or a full disk may leave incomplete."""
    return {key: value for key, value in result(run).items() if not key.startswith("log")}


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))


@contextmanager
def memory_disk(size: str = "200m") -> Iterator[Path]:
    """Mount an empty file system of the given size."""
    folder = Path(tempfile.mkdtemp())
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder])
    if made.returncode:
        folder.rmdir()
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()
