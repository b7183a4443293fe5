"""The benchmark's files on disk to Batches: windows, the LightningDataModule, checks."""

from __future__ import annotations

from fmbench.data.datamodule import FurnaceData

__all__ = ["FurnaceData"]
