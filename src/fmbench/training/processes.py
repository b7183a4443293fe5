"""End all processes of a distributed training when one of them fails, and name its rank.

Otherwise the other processes wait in a collective operation, by default for half an hour. Lightning
ends the processes that it started when one of them fails, but prints no reason; it watches neither
the first process nor processes that are stopped (Ctrl-Z, SIGSTOP).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from fmbench.training.guard import SIGNALS

INTERVAL = 0.1
"""Seconds between two checks of the other processes."""
STOPPED_SECONDS = 5
"""Seconds for which a process may be stopped while another one runs. If Ctrl-Z or a scheduler stops
all processes, their watching threads stop too, and the training continues later."""
GRACE_SECONDS = 3
"""Seconds for the watching thread to report the end of another process, which this process sees as
a broken connection."""
INTERRUPTED = tuple(128 + each for each in SIGNALS)
"""Exit statuses after a stop signal: no failure, since all processes stop at the same step."""
FIRST = "FMBENCH_FIRST_PROCESS"
"""Environment variable with the id of the first process on this machine."""
WATCH = "fmbench-watch"
"""Name of the watching thread."""


@contextmanager
def watch_processes(trainer: L.Trainer) -> Iterator[None]:
    """Watch the other processes of a training on this machine; add the rank to an error.

    SLURM and torchrun watch the processes that they start themselves.
    """
    launcher = trainer.strategy.launcher
    over = threading.Event()
    if (
        trainer.world_size > 1
        and isinstance(launcher, _SubprocessScriptLauncher)
        and isinstance(launcher.cluster_environment, LightningEnvironment)
        and all(
            each.name != WATCH for each in threading.enumerate()
        )  # no watcher of an earlier stage
    ):
        if trainer.local_rank == 0:
            os.environ[FIRST] = str(os.getpid())
        watch = _watch_started if trainer.local_rank == 0 else _watch_first
        threading.Thread(target=watch, args=(trainer, over), name=WATCH, daemon=True).start()
    try:
        yield
    except Exception as error:
        if trainer.world_size > 1:
            if isinstance(error, RuntimeError):  # raised by a collective when another process ended
                time.sleep(GRACE_SECONDS)
            error.add_note(f"in rank {trainer.global_rank} of {trainer.world_size}")
        raise
    if trainer.local_rank > 0:
        over.set()  # from here on, the end of the first process is no failure


def _watch_started(trainer: L.Trainer, over: threading.Event) -> None:
    """In the first process of a machine: end all processes when one that it started fails."""
    launcher = trainer.strategy.launcher
    assert isinstance(launcher, _SubprocessScriptLauncher)
    stopped: Counter[int] = Counter()
    while not over.wait(INTERVAL):
        for rank, process in enumerate(launcher.procs, trainer.global_rank + 1):
            status = process.poll()
            stopped[rank] = stopped[rank] + 1 if _is_stopped(process.pid) else 0
            if status and status not in INTERRUPTED:
                why = f"ended with status {status}" if status > 0 else _killed(-status)
            elif stopped[rank] * INTERVAL >= STOPPED_SECONDS:
                why = f"(process {process.pid}) has been stopped for {STOPPED_SECONDS} s"
            else:
                continue
            _print_error(rank, trainer, why)
            launcher.kill(signal.SIGKILL)
            os._exit(1)  # the main thread may hang in a collective


def _watch_first(trainer: L.Trainer, over: threading.Event) -> None:
    """In every other process: end when the first process ended or is stopped."""
    first, stopped = int(os.environ[FIRST]), 0
    rank = trainer.global_rank - trainer.local_rank
    while not over.wait(INTERVAL):
        stopped = stopped + 1 if _is_stopped(first) else 0
        gone = os.getppid() != first
        if not gone and stopped * INTERVAL < STOPPED_SECONDS:
            continue
        if trainer.local_rank == 1:
            why = f"(process {first}) has been stopped for {STOPPED_SECONDS} s"
            _print_error(rank, trainer, "has ended" if gone else why)
        if not gone:
            with suppress(ProcessLookupError):  # another process has already killed it
                os.kill(first, signal.SIGKILL)
        os._exit(1)


def _killed(number: int) -> str:
    name = signal.Signals(number).name
    return f"was killed by {name}" + (", perhaps for lack of memory" if name == "SIGKILL" else "")


def _is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal; False on a system without /proc."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "T"


def _print_error(rank: int, trainer: L.Trainer, why: str) -> None:
    print(
        f"fmbench: error: rank {rank} of {trainer.world_size} {why}; the training ends in all "
        "processes\n--resume auto resumes from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
