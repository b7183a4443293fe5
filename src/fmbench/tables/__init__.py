"""Experiments: rows -> trained and tested runs, each made once -> tables with intervals.

An experiment is a YAML file under `experiments/`; `fmbench table NAME` runs it.
"""

from fmbench.tables.area import area_markdown, draw_area
from fmbench.tables.breakdown import (
    events_markdown,
    interference_markdown,
    orders_markdown,
)
from fmbench.tables.dataset_counts import write_counts
from fmbench.tables.experiment import known_experiments, read_experiment
from fmbench.tables.figures import cases_drawn, draw_lengths, draw_windows
from fmbench.tables.grid import ceilings, grid_drawn, simulate_cells
from fmbench.tables.intervals import compare
from fmbench.tables.rates import read_rates
from fmbench.tables.render import draw_rows, write_table
from fmbench.tables.results import read_result
from fmbench.tables.table import make
from fmbench.tables.tune import tune

__all__ = [
    "area_markdown",
    "cases_drawn",
    "ceilings",
    "compare",
    "draw_area",
    "draw_lengths",
    "draw_rows",
    "draw_windows",
    "events_markdown",
    "grid_drawn",
    "interference_markdown",
    "known_experiments",
    "make",
    "orders_markdown",
    "read_experiment",
    "read_rates",
    "read_result",
    "simulate_cells",
    "tune",
    "write_counts",
    "write_table",
]
