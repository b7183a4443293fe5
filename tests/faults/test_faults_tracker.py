"""If W&B is unreachable or fails during training, the run continues."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from faulty import environment, words
from recordings import write_root

KEY = "a" * 40
PROMISE = "the run finishes, reports the failure in one line, and stores its metrics"
REACHED = "W&B is out of reach"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=1, seconds=60, size=(8, 8))
    return folder


@pytest.fixture
def broken_server() -> Iterator[str]:
    """Address of a server that answers every request with status 500."""

    class Broken(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_error(500)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def train(root: Path, tmp_path: Path, fault: str, **settings: str) -> tuple[str, str]:
    """Train with W&B: what broke the promise, or "", and the output."""
    env = environment(tmp_path, fault, HOME=str(tmp_path))
    env = {name: value for name, value in env.items() if not name.startswith("WANDB_")}
    env |= {f"WANDB_{name}": value for name, value in settings.items()}
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-m", "fmbench", *words(run, root, logger="wandb")],
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    told = done.stdout + done.stderr
    if done.returncode or "Traceback" in told:
        return f"status {done.returncode}: {done.stderr[-500:]}", told
    log = pd.read_csv(run / "log" / "version_0" / "metrics.csv")
    kept = log["val/acc"].count() == 2 and (run / "val.json").is_file()
    return "" if kept else f"metrics: {log}", told


def test_wandb_without_a_key(root: Path, tmp_path: Path, fault: Callable[..., Any]) -> None:
    row = fault("W&B: no key", promise=PROMISE)
    wrong, told = train(root, tmp_path, "")
    row.trial(not wrong, wrong)
    row.trial(told.count(REACHED) == 1 and "No API key" in told, told)
    row.trial(len([*tmp_path.glob("run/wandb/offline-run-*/*.wandb")]) == 1, "nothing to sync")


@pytest.mark.full
def test_wandb_with_nobody_at_the_address(
    root: Path, tmp_path: Path, fault: Callable[..., Any]
) -> None:
    row = fault("W&B: no network", promise=PROMISE)
    settings = {"API_KEY": KEY, "BASE_URL": "http://127.0.0.1:9", "INIT_TIMEOUT": "3"}
    wrong, told = train(root, tmp_path, "", **settings)
    row.trial(not wrong, wrong)
    row.trial(told.count(REACHED) == 1, told)
    row.trial(len([*tmp_path.glob("run/wandb/offline-run-*/*.wandb")]) == 1, "nothing to sync")


@pytest.mark.slow
def test_wandb_with_a_server_that_fails(
    root: Path, tmp_path: Path, fault: Callable[..., Any], broken_server: str
) -> None:
    row = fault("W&B: the server answers 500", promise=PROMISE)
    settings = {"API_KEY": KEY, "BASE_URL": broken_server, "INIT_TIMEOUT": "3"}
    wrong, told = train(root, tmp_path, "", **settings)
    row.trial(not wrong, wrong)
    row.trial(told.count(REACHED) == 1, told)


def test_wandb_killed_midway(root: Path, tmp_path: Path, fault: Callable[..., Any]) -> None:
    row = fault("W&B: its process is killed during training", promise=PROMISE)
    wrong, told = train(root, tmp_path, "0 tracker", MODE="offline")
    row.trial(not wrong, wrong)
    row.trial(told.count("W&B has failed") == 1, told)
