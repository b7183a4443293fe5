"""Run fmbench commands in parallel, each in its own process and folder.

A command that fails or runs out of memory does not affect the others. Ctrl-C is forwarded once to
every command, which then writes its last checkpoint.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from fmbench.files.lock import locked

_Task = TypeVar("_Task")
_Outcome = TypeVar("_Outcome")
STOP_SECONDS = 60
"""Seconds for a stopped command to write its last checkpoint, before it is killed."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The outcome of a task that failed.

    Attributes:
        reason: one line.
    """

    reason: str


class BusyError(Exception):
    """Another process works in the folder of the run."""


class JobRunner:
    """Works on tasks in parallel threads, and runs commands for them.

    Args:
        at_once: number of tasks in parallel; their commands share the cores.
        print_line: receives progress line by line.
        patience: seconds between two reports while no task ends.
    """

    def __init__(
        self, at_once: int, print_line: Callable[[str], None], *, patience: float = 60
    ) -> None:
        self.at_once, self.patience = at_once, patience
        self.threads = max(1, (os.cpu_count() or 1) // at_once)
        self.started = time.monotonic()
        self.stopped = False
        self._print_line = print_line
        self._running: dict[subprocess.Popen[bytes], tuple[str, Path]] = {}
        self._waiting: list[str] = []

    def work(
        self, tasks: Iterable[_Task], do: Callable[[_Task], _Outcome]
    ) -> Iterator[tuple[_Task, _Outcome]]:
        """Yield each task with its outcome, in the order in which the tasks end.

        A task is taken from `tasks` only when a thread is free, so that it may depend on the
        outcomes so far; `tasks` may grow meanwhile.

        Raises:
            KeyboardInterrupt: Ctrl-C; every running command has written its checkpoint.
        """
        queue = iter(tasks)
        with ThreadPoolExecutor(self.at_once) as pool:
            running: dict[Future[_Outcome], _Task] = {}
            try:
                while True:
                    for task in islice(queue, self.at_once - len(running)):
                        running[pool.submit(do, task)] = task
                    if not running:
                        return
                    done, _ = wait(running, timeout=self.patience, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield running.pop(future), future.result()
                    if not done:
                        for line in self.status():
                            self.log(line)
            except BaseException:  # Ctrl-C, or an error of the caller that takes the outcomes
                if self._running:
                    self._print_line("stopping: the running commands write their checkpoints")
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def log(self, line: str) -> None:
        """Print a line of progress with the minutes since the start."""
        self._print_line(f"[{(time.monotonic() - self.started) / 60:5.1f} min] {line}")

    @contextmanager
    def alone(self, label: str, run: Path, *, seconds: float = math.inf) -> Iterator[int]:
        """Lock the folder of a run, on a shared disk too; yields the lock's file descriptor.

        Raises:
            BusyError: after `seconds` another process still holds the lock.
        """
        run.mkdir(parents=True, exist_ok=True)
        (run / "lock").touch()
        until = time.monotonic() + seconds
        with ExitStack() as held:
            self._waiting.append(label)
            try:
                handle = held.enter_context(
                    locked(run / "lock", lambda: not self.stopped and time.monotonic() < until)
                )
            finally:
                self._waiting.remove(label)
            if handle is None:
                raise BusyError
            yield handle

    def command(self, label: str, words: list[str], run: Path, lock: int) -> Failed | None:
        """Run `fmbench <words>`, its output in `log.txt` of the run; None if it succeeds."""
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
                start_new_session=True,  # `stop` forwards Ctrl-C once
                pass_fds=[lock],  # the run stays locked if this process is killed first
            )
            self._running[process] = (label, log)
            try:
                status = process.wait()
            finally:
                self._running.pop(process, None)
        if status == 0:
            return None
        text = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
        error = next((line for line in text if line.startswith("fmbench: error:")), None)
        reason = error.removeprefix("fmbench: error:").strip() if error else (text or [""])[-1]
        return Failed(reason=reason or f"`fmbench {words[0]}` ended with status {status}")

    def status(self) -> Iterator[str]:
        """One line per unfinished task: the last output of its command, or what it waits for."""
        yield from (f"{label}: waiting for the lock of its run" for label in sorted(self._waiting))
        for label, log in list(self._running.values()):
            lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
            yield f"{label}: {lines[-1].strip() if lines else 'starting'}"

    def stop(self) -> None:
        """Interrupt every command, so that it writes its checkpoint; kill it after STOP_SECONDS."""
        self.stopped = True
        for process in list(self._running):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in list(self._running):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
