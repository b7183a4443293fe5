"""Small networks are slower on several threads, and far slower where tests share the cores."""

from __future__ import annotations

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for processes that tests start


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, not in faults/, so that every way to start pytest knows them."""
    group = parser.getgroup("fmbench")
    group.addoption("--full", action="store_true", help="also tests marked full, and every trial")
    group.addoption("--report", metavar="FILE", help="tests/faults: write the table of faults here")


@pytest.fixture(scope="session", autouse=True)
def _unpacked(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests unpack goes with them, rather than to the home of who runs them."""
    os.environ["FMBENCH_CACHE"] = str(tmp_path_factory.mktemp("unpacked"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked `full` in the short form."""
    if config.getoption("full"):
        return
    left_out = [item for item in items if item.get_closest_marker("full")]
    items[:] = [item for item in items if not item.get_closest_marker("full")]
    config.hook.pytest_deselected(items=left_out)
