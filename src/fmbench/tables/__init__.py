"""Experiments: rows -> runs that are made once -> tables with intervals.

An experiment is a YAML file under `experiments/`; `fmbench table NAME` makes it.
"""

from fmbench.tables.breakdown import events, events_markdown, interference_markdown
from fmbench.tables.experiment import Experiment, Row, known_experiments, read_experiment
from fmbench.tables.intervals import Comparison, Interval, compare, intervals, rates
from fmbench.tables.render import csv, latex, markdown, write_table
from fmbench.tables.results import Result, key_of, read_result, write_result, write_text
from fmbench.tables.table import Table, make

__all__ = [
    "Comparison",
    "Experiment",
    "Interval",
    "Result",
    "Row",
    "Table",
    "compare",
    "csv",
    "events",
    "events_markdown",
    "interference_markdown",
    "intervals",
    "key_of",
    "known_experiments",
    "latex",
    "make",
    "markdown",
    "rates",
    "read_experiment",
    "read_result",
    "write_result",
    "write_table",
    "write_text",
]
