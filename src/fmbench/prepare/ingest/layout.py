"""Where the table of a log begins, and what stands between its cells."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.prepare.ingest.encodings import read_text
from fmbench.prepare.ingest.numbers import is_number
from fmbench.prepare.ingest.remarks import Remarks, at_lines
from fmbench.prepare.ingest.times import has_clock, is_time
from fmbench.prepare.ingest.units import AMPERES, known_unit, units_of

SEPARATORS = {"tab": "\t", "semicolon": ";", "pipe": "|", "comma": ",", "blanks": " "}
"""In the order in which they are preferred where a file fits several."""
_LOOKED_AT = 400
"""Lines from which the layout is found."""
_SPARE = 3
"""Columns beyond the header's in which cells are looked for."""


class Table(NamedTuple):
    """A log's cells as text."""

    path: Path
    names: list[str]
    """Names of the columns, without units."""
    units: list[str]
    """Unit of each column by the header; "" where it has none."""
    cells: pd.DataFrame
    """(R, columns) text without blanks around it; columns are called by `names`."""
    lines: NDArray[np.int64]
    """(R,) line of each row in the file, from 1."""
    separator: str
    """Its name."""
    encoding: str
    header_line: int
    """From 1; 0 where the file has no header."""


def read_table(
    path: Path,
    remarks: Remarks,
    *,
    separator: str | None = None,
    encoding: str | None = None,
    header_line: int | None = None,
) -> Table:
    """Cells of a text file; what is None is found by looking.

    Raises:
        ValueError: the file is no text, no table, has no header, or a row has more cells than the
            header.
    """
    text, encoding = read_text(path, encoding)
    return table_of(
        text, path, remarks, separator=separator, encoding=encoding, header_line=header_line
    )


def table_of(
    text: str,
    path: Path,
    remarks: Remarks,
    *,
    separator: str | None,
    encoding: str,
    header_line: int | None,
) -> Table:
    """`read_table` of text that was read already."""
    lines = text.split("\n", _LOOKED_AT)[:_LOOKED_AT]
    if not any(line.strip() for line in lines):
        raise ValueError(f"{path}: no CSV with a header line: it is empty")
    if separator is not None and separator not in SEPARATORS and len(separator) != 1:
        known = ", ".join(sorted(SEPARATORS))
        raise ValueError(
            f"--separator is {separator!r}{nearest(separator, SEPARATORS)}; it takes {known}, or"
            " one character"
        )
    name = _named(separator) if separator else _find_separator(lines, path)
    between = SEPARATORS.get(name, name)
    rows = [_cells(line, between) for line in lines]
    header, units, first = _find_header(rows, header_line, path)
    names = _unique(rows[header] if header >= 0 else [])
    begin = rows[first] if first < len(rows) else []
    if between == " " and len(begin) == len(names) + 1 and has_clock(begin[1]):
        names.insert(1, f"{names[0]} of day")  # a blank is in each time, too
    try:
        cells = pd.read_csv(
            io.StringIO(text),
            sep=r"\s+" if between == " " else between,
            header=None,
            names=list(range(max(len(names), *map(len, rows[first : first + 50]), 1) + _SPARE)),
            skiprows=first,
            dtype=str,
            keep_default_na=False,
            skip_blank_lines=False,
            skipinitialspace=True,
        )
    except pd.errors.EmptyDataError:
        cells = pd.DataFrame(columns=list(range(len(names) + _SPARE)), dtype=str)
    except (pd.errors.ParserError, csv.Error) as error:
        raise ValueError(f"{path}: {_tokenizer(str(error), first)}") from None
    at = np.arange(len(cells)) + first + 1
    cells, at = _within_header(cells, at, names, path, remarks)
    bare, given = units_of([str(name) for name in cells.columns])
    if units >= 0:
        below = dict(zip(names, (cell.strip("[]() ") for cell in rows[units]), strict=False))
        given = [
            unit or below.get(name, "") for unit, name in zip(given, cells.columns, strict=True)
        ]
    cells.columns = pd.Index(bare)
    return Table(path, bare, given, cells, at, name, encoding, header + 1)


def _named(separator: str) -> str:
    return next((name for name, each in SEPARATORS.items() if each == separator), separator)


def _cells(line: str, separator: str) -> list[str]:
    if separator == " ":
        line = re.sub(r"\s+(?=[\[(])", "_", line.strip().replace("\t", " "))  # Ia [kA]
    try:
        (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    except (csv.Error, ValueError):  # a line of no cells, or of more than csv takes
        return line.split(separator)
    return [cell.strip() for cell in cells]


def _find_separator(lines: list[str], path: Path) -> str:
    """The separator that leaves most cells of the later lines numbers or times."""
    some = [line for line in lines if line.strip()]
    later = some[len(some) // 2 :][:100]
    best, found = -1.0, ""
    for name, separator in SEPARATORS.items():
        rows = [_cells(line, separator) for line in later]
        width, count = Counter(map(len, rows)).most_common(1)[0]
        if width < 2 or count < 0.5 * len(rows):
            continue
        filled = [cell for row in rows for cell in row if cell]
        score = sum(is_number(cell) or is_time(cell) for cell in filled) / max(len(filled), 1)
        if score > best + 0.05:
            best, found = score, name
    if not found:
        raise ValueError(
            f"{path}: no CSV with a header line: no separator divides its lines into cells; a log"
            " has a time and at least one current in each row (--separator sets it)"
        )
    return found


def _find_header(
    rows: list[list[str]], header_line: int | None, path: Path
) -> tuple[int, int, int]:
    """Index of the header's line, of the units' (-1 for none), and of the first row's."""
    filled = [k for k, row in enumerate(rows) if any(row)]
    if header_line is not None:
        if not 0 <= header_line <= len(rows):
            raise ValueError(f"--header_line is {header_line}; {path} is shorter, or use 0")
        after = [k for k in filled if k >= header_line]
        header = header_line - 1
        units = bool(after) and header >= 0 and _are_units(rows[after[0]], rows[header])
        return header, after[0] if units else -1, (after[0] if units else header) + 1
    data = [k for k in filled if _is_row(rows[k])]
    starts = [k for k in data if _starts(rows, filled, k)]
    if max(len(rows[k]) for k in filled) < 2:
        raise ValueError(f"{path}: --separator divides none of its lines into cells")
    before = [k for k in filled if len(rows[k]) >= 2 and (not starts or k < starts[0])]
    if not before:
        raise ValueError(
            f"{path}: no CSV with a header line: line {filled[0] + 1} is a row already; if it has"
            " no header, --header_line 0 numbers the columns from 1"
        )
    if not starts:
        return before[0], -1, before[0] + 1
    header = before[-1]
    if len(before) > 1 and _are_units(rows[header], rows[before[-2]]):
        return before[-2], header, starts[0]
    return header, -1, starts[0]


def _starts(rows: list[list[str]], filled: list[int], k: int) -> bool:
    """Whether the table's rows begin with line k: below a line as wide, or as rows in sequence."""
    above = [j for j in filled if j < k]
    headed = bool(above) and not _is_row(rows[above[-1]])
    if headed and sum(map(bool, rows[above[-1]])) >= sum(map(bool, rows[k])):
        return True
    return all(_is_row(rows[j]) for j in filled if k <= j <= k + 2)


def _is_row(cells: list[str]) -> bool:
    """Whether a line is one of the table: a time, or two numbers."""
    if len(cells) < 2:
        return False
    dated = is_time(cells[0])
    return dated or sum(is_number(cell) or is_time(cell) for cell in cells) >= 2


def _are_units(cells: list[str], header: list[str]) -> bool:
    """Whether a line below the header holds the columns' units."""
    inside = [cell.strip("[]() ") for cell in cells]
    return (
        sum(map(bool, header)) >= sum(map(bool, inside))
        and any(unit in AMPERES for unit in inside)
        and all(known_unit(unit) for unit in inside[1:] if unit)
    )


def _unique(header: list[str]) -> list[str]:
    """Names of columns; empty ones and those at the end of a line with a separator too many go by
    their number, repeated ones get one."""
    while header and not header[-1]:
        header = header[:-1]
    names: list[str] = []
    for k, name in enumerate(header, 1):
        name = name or f"column {k}"
        names.append(name if name not in names else f"{name} ({k})")
    return names


def _within_header(
    cells: pd.DataFrame, at: NDArray[np.int64], names: list[str], path: Path, remarks: Remarks
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Rows that fit the header: none has more cells, and empty columns without a name go."""
    cells = cells.fillna("").apply(lambda column: column.str.strip())
    filled = (cells != "").to_numpy()
    if not names:
        width = int(np.flatnonzero(np.array(filled.any(axis=0))).max(initial=0)) + 1
        names = [str(k + 1) for k in range(width)]
    width = len(names)
    long = np.flatnonzero(filled[:, width:].any(axis=1))
    if long.size:
        row = cells.iloc[long[0]].tolist()
        count = max(k for k, cell in enumerate(row) if cell) + 1
        raise ValueError(
            f"{path}, line {at[long[0]]}: {count} cells, but the header has {width}"
            f" ({', '.join(names)}); cells may hold the separator (--separator sets another), or"
            " --header_line is another"
        )
    kept = np.array(filled.any(axis=1))
    several = np.flatnonzero(filled[:, 1:].any(axis=1))
    if width > 1 and several.size and kept[several[-1] + 1 :].any():
        after = several[-1] + 1 + np.flatnonzero(kept[several[-1] + 1 :])
        remarks.append(
            f"{at_lines(at[after])} at the end, {cells.iloc[after[0], 0]!r}: no row of the table,"
            " or cut off; left out"
        )
        kept[after] = False
    cells = cells.iloc[:, :width].set_axis(names, axis=1)
    again = kept & (cells == np.array(names)).all(axis=1).to_numpy()
    if again.any():
        remarks.append(f"the header comes again in {at_lines(at[again])}; exports were joined")
        kept &= ~again
    unnamed = [
        k for k, name in enumerate(names) if name == f"column {k + 1}" and not filled[:, k].any()
    ]
    cells = cells.drop(columns=[names[k] for k in unnamed])
    return cells.loc[kept].reset_index(drop=True), at[kept]


def _tokenizer(message: str, first: int) -> str:
    """pandas' message, with the line in the file."""
    found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", message)
    if found:
        return (
            f"line {found[2]} has {found[3]} cells, more than the header; cells may hold the"
            " separator (--separator sets another)"
        )
    return f"no CSV with a header line: {message.strip()}"
