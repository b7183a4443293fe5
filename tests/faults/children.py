"""`fmbench` in processes forked from one that has imported it: start in 1 s, not 10."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["fmbench.cli.train", "fmbench.models", "fmbench_baselines"])


def start(*words: str | Path, log: Path) -> ForkServerProcess:
    """Start a process that runs a command and exits with its status; its output goes to `log`."""
    process = CONTEXT.Process(target=_run, args=([str(word) for word in words], log))
    process.start()
    return process


def _run(words: list[str], log: Path) -> None:
    from fmbench.cli import main

    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    sys.exit(main(words))
