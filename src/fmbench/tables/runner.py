"""Rows -> results: what is not there yet is trained and tested, some rows at a time.

Each row runs as commands of its own (`fmbench fit`, `fmbench test`), so that one that fails, or
that takes all memory, takes no other with it. A row that was broken off goes on from its last
checkpoint.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fmbench.atomic import write_text
from fmbench.data import FurnaceData
from fmbench.run import Config
from fmbench.tables.results import Result, gather, read_result, stem_of, write_result

NOT_YET = "not trained yet"
STOP_SECONDS = 60
"""How long a row may take to write its last checkpoint when it is stopped."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training to be done, or found done.

    Attributes:
        label: of the row, with the seed.
        config: resolved.
        key: see `fmbench.tables.results.key_of`.
    """

    label: str
    config: Config
    key: str


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Why a row has no result, in a line."""

    reason: str


def run_all(
    jobs: Sequence[Job],
    *,
    data: Callable[[Config], FurnaceData],
    results: Path,
    runs: Path,
    at_once: int,
    say: Callable[[str], None],
    train: bool = True,
    patience: float = 60,
) -> dict[str, Result | Failed]:
    """Results by key. Those in `results` are taken from there; the others are made.

    Args:
        jobs: what is wanted; of equal keys one.
        data: the data that a configuration names.
        results: folder of the result files.
        runs: folder of the runs.
        at_once: how many rows train at the same time.
        say: where progress goes, line by line.
        train: whether to make what has no result yet.
        patience: seconds between two lines while nothing ends.

    Raises:
        ValueError: a result file is damaged.
        KeyboardInterrupt: Ctrl-C; every row under way has written its checkpoint.
    """
    found: dict[str, Result | Failed] = {}
    todo: dict[str, Job] = {}
    for job in jobs:
        path = results / f"{stem_of(job.config, job.key)}.json"
        if path.is_file():
            found[job.key] = _known(path, job.key)
        else:
            todo.setdefault(job.key, job)
    if found:
        say(f"{len(found)} of {len(found) + len(todo)} results are there ({results})")
    if not train:
        return found | {key: Failed(reason=NOT_YET) for key in todo}
    crew = _Crew(results, runs, data, at_once)
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        waiting = {pool.submit(crew.run, job): job for job in todo.values()}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=patience, return_when=FIRST_COMPLETED)
                for future in done:
                    job = waiting.pop(future)
                    found[job.key] = outcome = future.result()
                    minutes = (time.monotonic() - began) / 60
                    say(f"[{minutes:5.1f} min] {job.label}: {_words(outcome)}")
                if not done:
                    for line in crew.under_way():
                        say(f"[{(time.monotonic() - began) / 60:5.1f} min] {line}")
        except KeyboardInterrupt:
            say("stopping: every row under way writes its checkpoint")
            pool.shutdown(wait=False, cancel_futures=True)
            crew.stop()
            raise
    return found


class _Crew:
    """Runs rows; can be stopped from another thread."""

    def __init__(
        self, results: Path, runs: Path, data: Callable[[Config], FurnaceData], at_once: int
    ) -> None:
        self.results, self.runs, self.data = results, runs, data
        self.threads = max(1, (os.cpu_count() or 1) // at_once)
        self.stopped = False
        self.working: dict[subprocess.Popen[bytes], tuple[str, Path]] = {}
        self.elsewhere: set[str] = set()
        self.reading = threading.Lock()  # one thread at a time opens recordings

    def run(self, job: Job) -> Result | Failed:
        """Fit, test and keep a row; whatever is wrong with it is its own."""
        try:
            return self._made(job)
        except (ValueError, OSError) as error:
            return Failed(reason=str(error))

    def _made(self, job: Job) -> Result | Failed:
        stem = stem_of(job.config, job.key)
        run, path = self.runs / stem, self.results / f"{stem}.json"
        run.mkdir(parents=True, exist_ok=True)
        with self._alone(job, run) as lock:
            if path.is_file():  # another process has made it while we waited
                return _known(path, job.key)
            asked = run / "asked.yaml"
            write_text(asked, job.config.to_yaml())
            words = ["fit", "--config", str(asked), "--run", str(run), "--resume", "auto"]
            best = run / "checkpoints" / "best.ckpt"
            engine = [
                f"--trainer.{name}={job.config.trainer[name]}"
                for name in ("accelerator", "precision")
                if name in job.config.trainer
            ]
            steps = [] if (run / "val.json").is_file() else [words]
            if not (run / "test.json").is_file():
                steps.append(["test", "--checkpoint", str(best), *engine])
            for step in steps:
                failed = self._command(job, step, run, lock)
                if failed:
                    return failed
            with self.reading:
                result = gather(run, job.config, job.key, self.data(job.config))
            write_result(result, path)
            return result

    @contextmanager
    def _alone(self, job: Job, run: Path) -> Iterator[int]:
        """Nobody else works in this run's folder, on this machine or on a shared disk; the lock."""
        with (run / "lock").open("w") as file:
            self.elsewhere.add(job.label)
            fcntl.flock(file, fcntl.LOCK_EX)
            self.elsewhere.discard(job.label)
            yield file.fileno()

    def _command(self, job: Job, words: list[str], run: Path, lock: int) -> Failed | None:
        if self.stopped:
            return Failed(reason="stopped")
        log, errors = run / "log.txt", run / "errors.txt"
        environment = {"OMP_NUM_THREADS": str(self.threads)} | os.environ
        with log.open("ab") as out, errors.open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "fmbench", *words],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,  # Ctrl-C is ours to hand on, once
                pass_fds=[lock],  # should we be killed, the run stays locked until it ends
            )
            self.working[process] = (job.label, log)
            try:
                status = process.wait()
            finally:
                self.working.pop(process, None)
        if status == 0:
            return None
        text = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
        told = next((line for line in text if line.startswith("fmbench: error:")), None)
        reason = told.removeprefix("fmbench: error:").strip() if told else (text or [""])[-1]
        return Failed(reason=reason or f"`fmbench {words[0]}` ended with status {status}")

    def under_way(self) -> Iterator[str]:
        """What the rows under way have said last."""
        waiting = sorted(self.elsewhere)
        yield from (f"{label}: waiting, another process trains it" for label in waiting)
        for label, log in list(self.working.values()):
            lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
            yield f"{label}: {lines[-1].strip() if lines else 'starting'}"

    def stop(self) -> None:
        """Ask every row to write its checkpoint and end; insist after STOP_SECONDS."""
        self.stopped = True
        for process in list(self.working):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in list(self.working):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()


def _known(path: Path, key: str) -> Result:
    try:
        result = read_result(path)
        if result.key != key:
            raise ValueError(
                f"{path} was made with another configuration or other data than its name says"
            )
    except ValueError as error:
        remedy = "restore it, or delete it to have the row trained again"
        raise ValueError(f"{error}; {remedy}") from None
    return result


def _words(outcome: Result | Failed) -> str:
    if isinstance(outcome, Failed):
        return f"FAILED: {outcome.reason}"
    metrics = outcome.facts["metrics"]
    names = ("acc", "f1", "fdr", "mdr", "miou")
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)
