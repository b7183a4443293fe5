"""Experiments: rows -> runs that are made once -> tables with intervals.

An experiment is a YAML file under `experiments/`; `fmbench table NAME` makes it.
"""

from fmbench.tables.breakdown import events_markdown, interference_markdown
from fmbench.tables.experiment import known_experiments, read_experiment
from fmbench.tables.intervals import compare, intervals, rates
from fmbench.tables.render import markdown, write_table
from fmbench.tables.results import read_result, write_result
from fmbench.tables.table import make

__all__ = [
    "compare",
    "events_markdown",
    "interference_markdown",
    "intervals",
    "known_experiments",
    "make",
    "markdown",
    "rates",
    "read_experiment",
    "read_result",
    "write_result",
    "write_table",
]
