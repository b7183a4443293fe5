"""How fast a model trains and answers on this machine, and what it costs.

`fmbench speed` measures; two files of it can be compared.
"""

from fmbench.speed.measure import conditions_here, measure
from fmbench.speed.report import (
    FIGURES,
    Figures,
    Report,
    Row,
    aligned,
    check_alike,
    compared,
    differences,
    in_words,
    read_report,
    table,
    write_report,
)

__all__ = [
    "FIGURES",
    "Figures",
    "Report",
    "Row",
    "aligned",
    "check_alike",
    "compared",
    "conditions_here",
    "differences",
    "in_words",
    "measure",
    "read_report",
    "table",
    "write_report",
]
