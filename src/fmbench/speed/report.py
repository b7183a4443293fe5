"""What was measured: rows of figures, as a file, a table, and beside another file."""

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
"""By name, in SI units: seconds, bytes, operations; absent or None where there is none."""
Cells = list[list[str]]


class Figure(NamedTuple):
    """How a figure is printed."""

    title: str
    scale: float
    digits: int


FIGURES = {
    "parameters": Figure("parameters", 1, 0),
    "forward": Figure("forward, windows/s", 1, 0),
    "training": Figure("training, windows/s", 1, 0),
    "latency_p50": Figure("latency p50, ms", 1e3, 1),
    "latency_p99": Figure("latency p99, ms", 1e3, 1),
    "memory": Figure("memory, MiB", 2**-20, 0),
    "flops_forward": Figure("forward, GFLOP/window", 1e-9, 3),
    "flops_training": Figure("training, GFLOP/window", 1e-9, 3),
    "achieved_forward": Figure("forward, GFLOP/s", 1e-9, 0),
    "achieved_training": Figure("training, GFLOP/s", 1e-9, 0),
    "ceiling": Figure("matrix product, GFLOP/s", 1e-9, 0),
    "loading": Figure("loading, windows/s", 1, 0),
    "epoch": Figure("epoch, windows/s", 1, 0),
    "waiting": Figure("epoch waits for data, %", 100, 1),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model for one Problem.

    Attributes:
        label: what the table calls it.
        model: registered name.
        net: its options.
        problem: what it was built for.
        batch_size: windows of a batch.
        stage: whose steps were timed; None if none learns by gradient.
        compiled: whether its forward went through `torch.compile`.
        data: what windows were loaded from; None if from nothing.
        figures: by name of FIGURES.
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
class Report:
    """Rows that were measured under the same conditions."""

    conditions: Mapping[str, Any]
    rows: Sequence[Row]


def conditions(device: torch.device, precision: str) -> dict[str, Any]:
    """What must be the same for two figures to be comparable."""
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        listed = Path("/proc/cpuinfo")
        text = listed.read_text() if listed.is_file() else ""
        found = re.search(r"^model name\s*: (.*)$", text, re.M)
        processor = f"{found[1] if found else platform.processor()}, {os.cpu_count()} cores"
    return {"processor": processor, "threads": torch.get_num_threads(), "precision": precision}


def write_report(path: Path, report: Report) -> None:
    """JSON: the report, and the code and packages that it is of."""
    content = {**asdict(report), "git_commit": git_commit(), "versions": versions()}
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_report(path: Path) -> Report:
    """What `write_report` wrote.

    Raises:
        ValueError: no such file, or another kind of file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; `fmbench speed --out FILE` writes one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row(**row) for row in content["rows"]]
        return Report(conditions=content["conditions"], rows=rows)
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is no file of `fmbench speed --out`") from None


def in_words(report: Report) -> str:
    """The conditions, and what the rows are of where they are all of the same."""
    batches = {row.batch_size for row in report.rows}
    sizes = {
        "{frames} frames of {image_size}, {current_samples} samples".format_map(row.problem)
        for row in report.rows
    }
    parts = [_words(report.conditions)]
    if len(batches) == len(sizes) == 1:
        parts += [f"batch {batches.pop()}", sizes.pop()]
    return "; ".join([*parts, *sorted({row.data for row in report.rows if row.data})])


def table(rows: Sequence[Row]) -> Cells:
    """A line a row under a line of titles."""
    titles = [figure.title for figure in FIGURES.values()]
    lines = [
        [row.label, *(_number(name, row.figures.get(name)) for name in FIGURES)] for row in rows
    ]
    return [["", *titles], *lines]


def check_alike(here: Mapping[str, Any], old: Report) -> None:
    """Ratios of what is measured under the conditions `here` to `old` mean something.

    Raises:
        ValueError: they do not.
    """
    if here != old.conditions:
        raise ValueError(
            f"measured on {_words(old.conditions)}; this is {_words(here)}; ratios would mean"
            " little (--anywhere compares them all the same)"
        )


def compared(new: Report, old: Report, *, anywhere: bool = False) -> Cells:
    """New over old, figure by figure, for the rows of the same label, or where each has one row.

    Args:
        new: the numerators.
        old: the denominators.
        anywhere: whether they may be of unlike conditions.

    Raises:
        ValueError: unlike conditions, or no row in common.
    """
    if not anywhere:
        check_alike(new.conditions, old)
    before = {row.label: row for row in old.rows}
    if len(new.rows) == len(old.rows) == 1:
        before = {new.rows[0].label: old.rows[0]}
    rows = [row for row in new.rows if row.label in before]
    if not rows:
        raise ValueError(f"no row in common; the file has {', '.join(before)}")

    def ratio(row: Row, name: str) -> str:
        now, was = row.figures.get(name), before[row.label].figures.get(name)
        return f"{now / was:.2f}" if now is not None and was else ""

    titles = [figure.title for figure in FIGURES.values()]
    lines = [[row.label, *(ratio(row, name) for name in FIGURES)] for row in rows]
    return [["new / old", *titles], *lines]


def differences(new: Report, old: Report) -> list[str]:
    """What else is not the same, a line each: conditions, and what single rows are of."""
    lines = []
    if new.conditions != old.conditions:
        lines.append(f"new: {_words(new.conditions)}; old: {_words(old.conditions)}")
    if len(new.rows) == len(old.rows) == 1:
        now, was = _facts(new.rows[0]), _facts(old.rows[0])
        for name in sorted({*now, *was}):
            if now.get(name) != was.get(name):
                lines.append(f"{name}: new {now.get(name)}, old {was.get(name)}")
    return lines


def _facts(row: Row) -> dict[str, str]:
    """What a row is of, by dotted name, as JSON has it."""
    content = asdict(replace(row, figures={}))
    return {name: json.dumps(value) for name, value in flat(content).items()}


def aligned(cells: Cells) -> str:
    """A Markdown table for a terminal too; one of a single row is transposed, a figure a line."""
    if len(cells) == 2:
        cells = [list(column) for column in zip(*cells, strict=True)]
    return markdown(cells, aligned=True)


def _number(name: str, value: float | None) -> str:
    figure = FIGURES[name]
    return "" if value is None else f"{value * figure.scale:,.{figure.digits}f}"


def _words(conditions: Mapping[str, Any]) -> str:
    return "{processor}, threads {threads}, precision {precision}".format_map(conditions)
