"""Figures of `fmbench speed`: as a file, as a table, and as ratios to another file."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fmbench.config.dotted import flat
from fmbench.files.atomic import write_text
from fmbench.tabular import markdown
from fmbench.training.provenance import git_commit, versions

Figures = dict[str, float | None]
"""By name, in SI units (seconds, bytes, operations); absent or None if not measured."""
Cells = list[list[str]]


class Column(NamedTuple):
    """Title, unit and digits of a figure in a table."""

    title: str
    scale: float
    digits: int


FIGURES = {
    "parameters": Column("parameters", 1, 0),
    "forward": Column("forward, windows/s", 1, 0),
    "training": Column("training, windows/s", 1, 0),
    "latency_p50": Column("latency p50, ms", 1e3, 1),
    "latency_p99": Column("latency p99, ms", 1e3, 1),
    "memory": Column("memory, MiB", 2**-20, 0),
    "flops_forward": Column("forward, GFLOP/window", 1e-9, 3),
    "flops_training": Column("training, GFLOP/window", 1e-9, 3),
    "achieved_forward": Column("forward, GFLOP/s", 1e-9, 0),
    "achieved_training": Column("training, GFLOP/s", 1e-9, 0),
    "ceiling": Column("matrix product, GFLOP/s", 1e-9, 0),
    "loading": Column("loading, windows/s", 1, 0),
    "epoch": Column("epoch, windows/s", 1, 0),
    "waiting": Column("epoch waits for data, %", 100, 1),
}


@dataclass(frozen=True, kw_only=True)
class SpeedRow:
    """The figures of one model for one Problem.

    Attributes:
        label: the row's name in a table.
        model: registered name.
        net: the model's options.
        problem: fields of the Problem that the model is built for.
        batch_size: windows in a batch.
        stage: the stage whose steps are timed; None if none learns by gradient.
        compiled: whether `torch.compile` compiles the forward pass.
        data: description of the data set; None for random windows.
        figures: values by name of FIGURES.
    """

    label: str
    model: str
    net: Mapping[str, Any]
    problem: Mapping[str, Any]
    batch_size: int
    stage: str | None
    compiled: bool
    data: str | None
    figures: Figures


@dataclass(frozen=True, kw_only=True)
class SpeedReport:
    """Rows measured under the same conditions."""

    conditions: Mapping[str, Any]
    rows: Sequence[SpeedRow]


def conditions(device: torch.device, precision: str) -> dict[str, Any]:
    """Processor, threads and precision: figures are comparable if these are equal."""
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        listed = Path("/proc/cpuinfo")
        text = listed.read_text() if listed.is_file() else ""
        found = re.search(r"^model name\s*: (.*)$", text, re.M)
        processor = f"{found[1] if found else platform.processor()}, {os.cpu_count()} cores"
    return {"processor": processor, "threads": torch.get_num_threads(), "precision": precision}


def write_report(path: Path, report: SpeedReport) -> None:
    """Write a report with git commit and package versions as JSON."""
    content = {**asdict(report), "git_commit": git_commit(), "versions": versions()}
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_report(path: Path) -> SpeedReport:
    """Read what `write_report` wrote.

    Raises:
        ValueError: the file is missing or of another kind.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `fmbench speed --out FILE` writes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [SpeedRow(**row) for row in content["rows"]]
        return SpeedReport(conditions=content["conditions"], rows=rows)
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no file of `fmbench speed --out`") from None


def in_words(report: SpeedReport) -> str:
    """The conditions, the data, and the batch and window sizes if equal for all rows."""
    batches = {row.batch_size for row in report.rows}
    sizes = {
        "{frames} frames of {image_size}, {current_samples} samples".format_map(row.problem)
        for row in report.rows
    }
    parts = [_words(report.conditions)]
    if len(batches) == len(sizes) == 1:
        parts += [f"batch {batches.pop()}", sizes.pop()]
    return "; ".join([*parts, *sorted({row.data for row in report.rows if row.data})])


def figure_cells(rows: Sequence[SpeedRow]) -> Cells:
    """Titles, then the figures of each row."""
    titles = [column.title for column in FIGURES.values()]
    lines = [
        [row.label, *(_number(name, row.figures.get(name)) for name in FIGURES)] for row in rows
    ]
    return [["", *titles], *lines]


def check_alike(here: Mapping[str, Any], old: SpeedReport) -> None:
    """Check that figures measured under the conditions `here` are comparable to `old`.

    Raises:
        ValueError: they are not.
    """
    if here != old.conditions:
        raise ValueError(
            f"measured on {_words(old.conditions)}; this is {_words(here)}; ratios would mean"
            " little (--anywhere compares them all the same)"
        )


def ratio_cells(new: SpeedReport, old: SpeedReport, *, anywhere: bool = False) -> Cells:
    """Titles, then new / old of each figure, for rows with equal labels or for two single rows.

    Args:
        new: the numerators.
        old: the denominators.
        anywhere: accept different conditions.

    Raises:
        ValueError: different conditions, or no row in common.
    """
    if not anywhere:
        check_alike(new.conditions, old)
    before = {row.label: row for row in old.rows}
    if len(new.rows) == len(old.rows) == 1:
        before = {new.rows[0].label: old.rows[0]}
    rows = [row for row in new.rows if row.label in before]
    if not rows:
        raise ValueError(f"no row in common; the file has {', '.join(before)}")

    def ratio(row: SpeedRow, name: str) -> str:
        now, was = row.figures.get(name), before[row.label].figures.get(name)
        return f"{now / was:.2f}" if now is not None and was else ""

    titles = [column.title for column in FIGURES.values()]
    lines = [[row.label, *(ratio(row, name) for name in FIGURES)] for row in rows]
    return [["new / old", *titles], *lines]


def differences(new: SpeedReport, old: SpeedReport) -> list[str]:
    """Differences of the conditions and, for two single rows, of their fields, a line each."""
    lines = []
    if new.conditions != old.conditions:
        lines.append(f"new: {_words(new.conditions)}; old: {_words(old.conditions)}")
    if len(new.rows) == len(old.rows) == 1:
        now, was = _facts(new.rows[0]), _facts(old.rows[0])
        for name in sorted({*now, *was}):
            if now.get(name) != was.get(name):
                lines.append(f"{name}: new {now.get(name)}, old {was.get(name)}")
    return lines


def _facts(row: SpeedRow) -> dict[str, str]:
    """All fields of a row but its figures: JSON values by dotted name."""
    content = asdict(replace(row, figures={}))
    return {name: json.dumps(value) for name, value in flat(content).items()}


def aligned(cells: Cells) -> str:
    """A Markdown table for a terminal too; one of a single row is transposed, a figure a line."""
    if len(cells) == 2:
        cells = [list(column) for column in zip(*cells, strict=True)]
    return markdown(cells, aligned=True)


def _number(name: str, value: float | None) -> str:
    column = FIGURES[name]
    return "" if value is None else f"{value * column.scale:,.{column.digits}f}"


def _words(conditions: Mapping[str, Any]) -> str:
    return "{processor}, threads {threads}, precision {precision}".format_map(conditions)
