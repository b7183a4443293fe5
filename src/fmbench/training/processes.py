"""The processes of one training end together, and the one at fault is named.

Where one is gone or hangs, the others would wait for it in a collective, for half an hour by
default. Lightning looks after the processes that it has started, but says nothing where one has
failed; it does not look after the first one, nor for one that is stopped.
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

LOOK = 0.1
"""Seconds from one look at the others to the next."""
STOPPED = 5
"""Seconds for which a process may be stopped while another one runs. Where Ctrl-Z or a scheduler
stops all of them, nobody looks, and they go on later as if nothing had been."""
GRACE = 3
"""Seconds in which a broken connection turns out to be the end of another process."""
INTERRUPTED = tuple(128 + each for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1))
"""Exit statuses of a process that was asked to end; all of them are, and the first one writes."""
FIRST = "FMBENCH_FIRST_PROCESS"
WATCH = "fmbench-ranks"


@contextmanager
def together(trainer: L.Trainer) -> Iterator[None]:
    """Watch the other processes of this training on this machine; an error is told with its rank.

    Under SLURM or torchrun the watching is theirs.
    """
    launcher = trainer.strategy.launcher
    over = threading.Event()
    if (
        trainer.world_size > 1
        and isinstance(launcher, _SubprocessScriptLauncher)
        and isinstance(launcher.cluster_environment, LightningEnvironment)
        and all(thread.name != WATCH for thread in threading.enumerate())  # since an earlier stage
    ):
        if trainer.local_rank == 0:
            os.environ[FIRST] = str(os.getpid())
        look = _watch_started if trainer.local_rank == 0 else _watch_first
        threading.Thread(target=look, args=(trainer, over), name=WATCH, daemon=True).start()
    try:
        yield
    except Exception as error:
        if trainer.world_size > 1:
            if isinstance(error, RuntimeError):  # a collective raises it where another has ended
                time.sleep(GRACE)
            error.add_note(f"in rank {trainer.global_rank} of {trainer.world_size}")
        raise
    if trainer.local_rank > 0:
        over.set()  # the first process has more to do, and ends when it likes


def _watch_started(trainer: L.Trainer, over: threading.Event) -> None:
    """In the first process of a machine: where one that it has started fails, all end."""
    launcher = trainer.strategy.launcher
    assert isinstance(launcher, _SubprocessScriptLauncher)
    stopped: Counter[int] = Counter()
    while not over.wait(LOOK):
        for rank, process in enumerate(launcher.procs, trainer.global_rank + 1):
            status = process.poll()
            stopped[rank] = stopped[rank] + 1 if _is_stopped(process.pid) else 0
            if status and status not in INTERRUPTED:
                why = f"ended with status {status}" if status > 0 else _killed(-status)
            elif stopped[rank] * LOOK >= STOPPED:
                why = f"(process {process.pid}) has been stopped for {STOPPED} s"
            else:
                continue
            _say(rank, trainer, why)
            launcher.kill(signal.SIGKILL)
            os._exit(1)  # the main thread may be in a collective, deaf to everything


def _watch_first(trainer: L.Trainer, over: threading.Event) -> None:
    """In every other process: where the first one is gone, or is stopped, all end."""
    first, stopped = int(os.environ[FIRST]), 0
    rank = trainer.global_rank - trainer.local_rank
    while not over.wait(LOOK):
        stopped = stopped + 1 if _is_stopped(first) else 0
        gone = os.getppid() != first
        if not gone and stopped * LOOK < STOPPED:
            continue
        if trainer.local_rank == 1:
            why = "has ended" if gone else f"(process {first}) has been stopped for {STOPPED} s"
            _say(rank, trainer, why)
        if not gone:
            with suppress(ProcessLookupError):  # another one was quicker
                os.kill(first, signal.SIGKILL)
        os._exit(1)


def _killed(number: int) -> str:
    name = signal.Signals(number).name
    return f"was killed by {name}" + (", for lack of memory perhaps" if name == "SIGKILL" else "")


def _is_stopped(pid: int) -> bool:
    """Whether a signal holds a process; False where the system has no /proc to ask."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "T"


def _say(rank: int, trainer: L.Trainer, why: str) -> None:
    print(
        f"fmbench: error: rank {rank} of {trainer.world_size} {why}; the training ends in all of "
        "them\n--resume auto goes on from the last checkpoint",
        file=sys.stderr,
        flush=True,
    )
