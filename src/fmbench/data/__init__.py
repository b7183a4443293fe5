"""The benchmark's files on disk to Batches: windows, the LightningDataModule, checks, counts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmbench.data.check import check_root
    from fmbench.data.datamodule import FurnaceData
    from fmbench.data.faults import Fault
    from fmbench.data.moments import Statistics
    from fmbench.data.root import open_root
    from fmbench.data.stats import table_one

__all__ = ["Fault", "FurnaceData", "Statistics", "check_root", "open_root", "table_one"]

_HOME = {
    "Fault": "faults",
    "FurnaceData": "datamodule",
    "Statistics": "moments",
    "check_root": "check",
    "open_root": "root",
    "table_one": "stats",
}


def __getattr__(name: str) -> Any:
    """Import on first use: a check of files need not wait for Lightning."""
    if name in _HOME:
        return getattr(import_module(f"fmbench.data.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fmbench.data' has no attribute {name!r}")
