"""`fmbench speed`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from fmbench import speed as speeds
from fmbench import tables
from fmbench.cli.data import ensure
from fmbench.config.dotted import peek
from fmbench.config.parser import Parser
from fmbench.config.resolve import DEFAULT_PROFILE, training
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.files.atomic import write_text
from fmbench.registry import find_model
from fmbench.training.console import say
from fmbench.types import Modality, Problem


def speed(argv: list[str]) -> int:
    """Measure a model, or every row of an experiment."""
    parser = Parser(
        "speed",
        "How fast a model is on this machine, and what it costs, for a training as `fit` takes its"
        " options; or every row of an experiment, such as table2, each in a process of its own.",
        "[EXPERIMENT] ",
    )
    parser.add_argument("experiment", nargs="?", help="an experiment, such as table2")
    parser.option("seconds", float, 1.0, "of measuring, for each figure")
    parser.option("threads", int | None, None, "of PyTorch (default: PyTorch's choice)")
    parser.option("stage", str | None, None, "time its steps (default: the last that learns)")
    parser.option(
        "image_size",
        tuple[int, int] | None,
        None,
        "[H, W]: no data, random frames of this size; loading and epoch are not measured",
    )
    parser.option("out", str | None, None, "write JSON here, and a .md beside it", metavar="FILE")
    parser.option("compare", str | None, None, "print ratios to such a file", metavar="FILE")
    parser.flag("anywhere", "compare with a file of another machine, too")
    config, values, given, _ = training(parser, argv)
    if values["seconds"] <= 0:
        raise ValueError(f"--seconds is {values['seconds']:g}; it must be above 0")
    if values["threads"] is not None:
        if values["threads"] < 1:
            raise ValueError(f"--threads is {values['threads']}; it must be at least 1")
        torch.set_num_threads(values["threads"])
    old = speeds.read_report(Path(values["compare"])) if values["compare"] else None
    if old and not values["anywhere"]:  # now, not after minutes of measuring
        speeds.check_alike(speeds.conditions_here(config), old)
    if values["image_size"] is None:
        ensure(Path(config.data["root"]), own_root="data.root" in given)
    if values["experiment"]:
        report = _of_rows(values["experiment"], argv)
    else:
        report = _of_one(config, values)
    text = f"{speeds.in_words(report)}\n\n{speeds.aligned(speeds.figure_cells(report.rows))}\n"
    print(text, end="")
    if values["out"]:
        out = Path(values["out"])
        speeds.write_report(out, report)
        write_text(out.with_suffix(".md"), text)
    if old:
        ratios = speeds.ratio_cells(report, old, anywhere=values["anywhere"])
        print("\n".join(["", *speeds.differences(report, old), "", speeds.aligned(ratios)]))
    return 0


def _of_one(config: Config, values: dict[str, Any]) -> speeds.SpeedReport:
    modality = Modality(config.modality)
    drawn = modality in find_model(config.model, modality).dense
    data = None
    if size := values["image_size"]:
        problem = Problem(
            modality=modality,
            dense=drawn if config.dense is None else config.dense,
            frames=config.data["frames"],
            image_size=size,
            current_samples=config.data["current_samples"],
        )
    else:
        data = FurnaceData(**config.data, modality=modality, seed=config.seed)
        masks = drawn and data.has_masks
        problem = data.problem(masks if config.dense is None else config.dense)
    return speeds.measure_speed(
        config,
        problem,
        batch_size=config.data["batch_size"],
        data=data,
        seconds=values["seconds"],
        stage=values["stage"],
    )


def _of_rows(name: str, argv: list[str]) -> speeds.SpeedReport:
    """Each row of an experiment by a command of its own, with the flags of this one."""
    report = None
    rows = [row for row in tables.read_experiment(name).trained() if not row.reference]
    profile = [] if peek(argv, "--config") else ["--config", DEFAULT_PROFILE]
    with tempfile.TemporaryDirectory() as folder:
        settings, out = Path(folder) / "row.yaml", Path(folder) / "row.json"
        for row in rows:
            say(row.name)
            settings.write_text(yaml.safe_dump(dict(row.config)))
            words = [word for word in _without(argv, "--compare") if word != name]
            words += [*profile, "--config", str(settings), "--out", str(out)]
            words += ["--model", str(row.model), "--modality", row.modality]
            command = [sys.executable, "-m", "fmbench", "speed", *words]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                why = done.stderr.strip().removeprefix("fmbench: error: ")
                raise ValueError(f"{row.name}: {why}")
            one = speeds.read_report(out)
            found = replace(one.rows[0], label=row.name)
            report = replace(one, rows=[*(report.rows if report else ()), found])
    if report is None:
        raise ValueError(f"{name} trains no model, so there is nothing to measure")
    return report


def _without(argv: list[str], flag: str) -> Iterator[str]:
    """A command line less a flag and its value."""
    words = iter(argv)
    for word in words:
        if word == flag:
            next(words)
        elif not word.startswith(f"{flag}="):
            yield word
