"""A headless Chromium that opens pages of fmbench, where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip

Browse = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Open a page in Chromium."""
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")

    def run(page: Path | str, *flags: str) -> subprocess.CompletedProcess[str]:
        address = page.as_uri() if isinstance(page, Path) else page
        words = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags]
        return subprocess.run(
            [*words, address], capture_output=True, text=True, timeout=120, check=True
        )

    return run


def asked_by_a_page(log: Path, origin: str = "file:") -> set[str]:
    """Addresses that a page asked for, without those that the browser asks for on its own."""
    requests = [line for line in log.read_text().splitlines() if '"initiator"' in line]
    of_page = [line for line in requests if f'"network_isolation_key":"{origin}' in line]
    return set(re.findall(r'"url":"(\w+://[^"]*)"', "".join(of_page)))
