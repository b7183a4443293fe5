"""A raw video and a PLC's log -> a recording in the benchmark's files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmbench.ingest.align import Offset
    from fmbench.ingest.plc import PlcLog, read_plc
    from fmbench.ingest.region import Region, read_region, write_contact_sheet
    from fmbench.ingest.video import RawVideo
    from fmbench.ingest.write import Report, find_offset, ingest

__all__ = [
    "Offset",
    "PlcLog",
    "RawVideo",
    "Region",
    "Report",
    "find_offset",
    "ingest",
    "read_plc",
    "read_region",
    "write_contact_sheet",
]

_HOME = {
    "Offset": "align",
    "PlcLog": "plc",
    "RawVideo": "video",
    "Region": "region",
    "Report": "write",
    "find_offset": "write",
    "ingest": "write",
    "read_plc": "plc",
    "read_region": "region",
    "write_contact_sheet": "region",
}


def __getattr__(name: str) -> Any:
    """Import on first use: who compares two signals needs no decoder."""
    if name in _HOME:
        return getattr(import_module(f"fmbench.ingest.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fmbench.ingest' has no attribute {name!r}")
