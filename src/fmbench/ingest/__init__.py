"""A raw video and a PLC's log -> a recording in the benchmark's files."""

from fmbench.ingest.plc import PlcLog, read_plc
from fmbench.ingest.region import Region, read_region, write_contact_sheet
from fmbench.ingest.video import RawVideo
from fmbench.ingest.write import Report, ingest

__all__ = [
    "PlcLog",
    "RawVideo",
    "Region",
    "Report",
    "ingest",
    "read_plc",
    "read_region",
    "write_contact_sheet",
]
