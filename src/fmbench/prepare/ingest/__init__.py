"""A raw video and a PLC's log -> a recording in the benchmark's files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmbench.prepare.ingest.align import Offset
    from fmbench.prepare.ingest.plc import LogOptions, PlcLog, read_plc
    from fmbench.prepare.ingest.region import Region, read_region, write_contact_sheet
    from fmbench.prepare.ingest.remarks import Remarks
    from fmbench.prepare.ingest.resample import IngestReport, find_offset, ingest
    from fmbench.prepare.ingest.sampling import Samples, to_samples
    from fmbench.prepare.ingest.video import RawVideo

PART, LABELLED = "unlabelled", "class-level"
"""The parts of a data set that recordings are written to: without labels, with a log's labels."""

__all__ = [
    "LABELLED",
    "PART",
    "IngestReport",
    "LogOptions",
    "Offset",
    "PlcLog",
    "RawVideo",
    "Region",
    "Remarks",
    "Samples",
    "find_offset",
    "ingest",
    "read_plc",
    "read_region",
    "to_samples",
    "write_contact_sheet",
]

_HOME = {
    "Offset": "align",
    "Samples": "sampling",
    "LogOptions": "plc",
    "PlcLog": "plc",
    "RawVideo": "video",
    "Region": "region",
    "Remarks": "remarks",
    "IngestReport": "resample",
    "find_offset": "resample",
    "ingest": "resample",
    "read_plc": "plc",
    "read_region": "region",
    "to_samples": "sampling",
    "write_contact_sheet": "region",
}


def __getattr__(name: str) -> Any:
    """Import on first use: comparing two signals needs no decoder."""
    if name in _HOME:
        return getattr(import_module(f"fmbench.prepare.ingest.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fmbench.prepare.ingest' has no attribute {name!r}")
