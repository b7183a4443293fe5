"""From the benchmark's files to Batches: recordings, splits, windows, the LightningDataModule."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmbench.data.datamodule import FurnaceData
    from fmbench.data.root import open_root
    from fmbench.data.statistics import Statistics

__all__ = ["FurnaceData", "Statistics", "open_root"]

_HOME = {
    "FurnaceData": "datamodule",
    "Statistics": "statistics",
    "open_root": "root",
}


def __getattr__(name: str) -> Any:
    """Import on first use: checking files does not import Lightning."""
    if name in _HOME:
        return getattr(import_module(f"fmbench.data.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fmbench.data' has no attribute {name!r}")
