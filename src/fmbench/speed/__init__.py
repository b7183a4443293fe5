"""Throughput, latency, memory and operations of a model on this machine.

`fmbench speed` measures; two of its files can be compared.
"""

from fmbench.speed.benchmark import conditions_here, measure_speed
from fmbench.speed.report import (
    FIGURES,
    SpeedReport,
    aligned,
    check_alike,
    differences,
    figure_cells,
    in_words,
    ratio_cells,
    read_report,
    write_report,
)

__all__ = [
    "FIGURES",
    "SpeedReport",
    "aligned",
    "check_alike",
    "conditions_here",
    "differences",
    "figure_cells",
    "in_words",
    "measure_speed",
    "ratio_cells",
    "read_report",
    "write_report",
]
