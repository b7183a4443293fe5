"""A log's column of class names -> the class of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.format.columns import format_second
from fmbench.prepare.ingest.layout import Table

Floats = NDArray[np.float64]


class States(NamedTuple):
    """The class of each row of a log that names one, in the order of time."""

    seconds: Floats
    """(R,)"""
    kinds: Floats
    """(R,) class indices."""


def without_column(table: Table, name: str) -> tuple[Table, pd.Series]:
    """A table without a column, and the column's cells.

    Raises:
        ValueError: the log has no such column.
    """
    if name not in table.names:
        raise ValueError(
            f"{table.path}: no column {name!r}{nearest(name, table.names)} (--label_column)."
            f" Columns: {', '.join(table.names)}"
        )
    at = table.names.index(name)
    rest = table._replace(
        names=table.names[:at] + table.names[at + 1 :],
        units=table.units[:at] + table.units[at + 1 :],
        cells=table.cells.drop(columns=name),
    )
    return rest, table.cells[name]


def kinds_of(cells: pd.Series, table: Table, classes: Sequence[str]) -> Floats:
    """(R,) class index of each row's cell; NaN where it is empty.

    Raises:
        ValueError: a cell that is no class's name.
    """
    kinds = np.array(cells.map({name: k for k, name in enumerate(classes)}), np.float64)
    wrong = np.flatnonzero(np.isnan(kinds) & (cells != "").to_numpy())
    if wrong.size:
        found = str(cells.iloc[wrong[0]])
        raise ValueError(
            f"{table.path}, line {table.lines[wrong[0]]}: {found!r} in the column {cells.name!r} is"
            f" no class{nearest(found, classes)}\nAllowed: {', '.join(classes)} (root.yaml names"
            " the classes)"
        )
    if np.isnan(kinds).all():
        raise ValueError(f"{table.path}: the column {cells.name!r} is empty")
    return kinds


def at_frames(states: States, instants: Floats) -> NDArray[np.uint8]:
    """(n,) class of each frame: that of the last row at or before its instant.

    Args:
        states: of the log.
        instants: (n,) seconds, by the log's clock.

    Raises:
        ValueError: there is no row with a class before the first frame.
    """
    known = ~np.isnan(states.kinds)
    seconds, kinds = states.seconds[known], states.kinds[known]
    last = np.searchsorted(seconds, instants + 1e-6, side="right") - 1
    if (last < 0).any():
        raise ValueError(
            f"the log names no class before {format_second(seconds[0])}, but the first frame is at"
            f" {format_second(instants[0])}; name the class in the log's first row"
        )
    return kinds[last].astype(np.uint8)
