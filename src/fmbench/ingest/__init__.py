"""A raw video and a PLC's log -> a recording in the benchmark's files."""

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
