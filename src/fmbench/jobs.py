"""Commands of ours that run side by side, each in a process and a folder of its own.

One that fails, or takes all memory, takes no other with it. Ctrl-C is handed on once, and everyone
may write a last checkpoint.
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

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")
STOP_SECONDS = 60
"""How long a command may take to write its last checkpoint when it is stopped."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Why something was not made, in a line."""

    reason: str


class BusyError(Exception):
    """Somebody else works in a run's folder."""


class Crew:
    """Works on tasks, some at a time.

    Args:
        at_once: how many; the cores are shared among them.
        say: where progress goes, line by line.
        patience: seconds between two lines while nothing ends.
    """

    def __init__(self, at_once: int, say: Callable[[str], None], *, patience: float = 60) -> None:
        self.at_once, self.patience = at_once, patience
        self.threads = max(1, (os.cpu_count() or 1) // at_once)
        self.began = time.monotonic()
        self.stopped = False
        self._say = say
        self._working: dict[subprocess.Popen[bytes], tuple[str, Path]] = {}
        self._waiting: list[str] = []

    def work(
        self, tasks: Iterable[Task], do: Callable[[Task], Outcome]
    ) -> Iterator[tuple[Task, Outcome]]:
        """Each task with what `do` made of it, as they end. A task is taken from `tasks` when there
        is a hand for it, so that it may depend on the outcomes so far; `tasks` may grow meanwhile.

        Raises:
            KeyboardInterrupt: Ctrl-C; every command under way has written its checkpoint.
        """
        more = iter(tasks)
        with ThreadPoolExecutor(self.at_once) as pool:
            under_way: dict[Future[Outcome], Task] = {}
            try:
                while True:
                    for task in islice(more, self.at_once - len(under_way)):
                        under_way[pool.submit(do, task)] = task
                    if not under_way:
                        return
                    done, _ = wait(under_way, timeout=self.patience, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield under_way.pop(future), future.result()
                    if not done:
                        for line in self.under_way():
                            self.say(line)
            except BaseException:  # Ctrl-C, or whoever takes the outcomes cannot go on
                if self._working:
                    self._say("stopping: what is under way writes its checkpoint")
                pool.shutdown(wait=False, cancel_futures=True)
                self.stop()
                raise

    def say(self, line: str) -> None:
        """A line of progress, with the minutes since the beginning."""
        self._say(f"[{(time.monotonic() - self.began) / 60:5.1f} min] {line}")

    @contextmanager
    def alone(self, label: str, run: Path, *, seconds: float = math.inf) -> Iterator[int]:
        """Nobody else works in this run's folder, on this machine or on a shared disk; the lock.

        Raises:
            BusyError: somebody has been working there for `seconds`.
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
        """`fmbench <words>`, its output in `log.txt` of the run; None when it has ended well."""
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
            self._working[process] = (label, log)
            try:
                status = process.wait()
            finally:
                self._working.pop(process, None)
        if status == 0:
            return None
        text = [line for line in errors.read_text(errors="replace").splitlines() if line.strip()]
        told = next((line for line in text if line.startswith("fmbench: error:")), None)
        reason = told.removeprefix("fmbench: error:").strip() if told else (text or [""])[-1]
        return Failed(reason=reason or f"`fmbench {words[0]}` ended with status {status}")

    def under_way(self) -> Iterator[str]:
        """What the commands under way have said last."""
        yield from (f"{label}: waiting for its run's folder" for label in sorted(self._waiting))
        for label, log in list(self._working.values()):
            lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
            yield f"{label}: {lines[-1].strip() if lines else 'starting'}"

    def stop(self) -> None:
        """Ask every command to write its checkpoint and end; insist after STOP_SECONDS."""
        self.stopped = True
        for process in list(self._working):
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in list(self._working):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
