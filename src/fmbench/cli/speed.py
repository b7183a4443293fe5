"""`fmbench speed`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from fmbench import speed as speeds
from fmbench import tables
from fmbench.cli.data import ensure
from fmbench.config.dotted import peek
from fmbench.config.hints import File
from fmbench.config.resolve import DEFAULT_PROFILE, TrainingOptions
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.data.windows import IN_SECONDS
from fmbench.files.atomic import write_text
from fmbench.registry import find_model
from fmbench.training.console import say
from fmbench.types import Modality, Problem


def speed(
    experiment: str | None = None,
    *,
    seconds: float = 1.0,
    threads: int | None = None,
    stage: str | None = None,
    image_size: tuple[int, int] | None = None,
    out: File | None = None,
    compare: File | None = None,
    anywhere: bool = False,
    training: TrainingOptions,
) -> int:
    """Measure how fast a model is on this machine, and what it costs.

    Takes the options of `fit`. Every row of an experiment is measured in a process of its own.

    Args:
        experiment: measure every row of an experiment, such as table2.
        seconds: how long each figure is measured.
        threads: threads of PyTorch (default: PyTorch's choice).
        stage: time the steps of this stage (default: the last that learns).
        image_size: [H, W]: random frames of this size, no data; loading and epoch are not measured.
        out: write JSON here, and a .md beside it.
        compare: print ratios to such a file.
        anywhere: compare with a file of another machine, too.
    """
    config = training.config
    if seconds <= 0:
        raise ValueError(f"--seconds is {seconds:g}; it must be above 0")
    if threads is not None:
        if threads < 1:
            raise ValueError(f"--threads is {threads}; it must be at least 1")
        torch.set_num_threads(threads)
    old = speeds.read_report(compare) if compare else None
    if old and not anywhere:  # now, not after minutes of measuring
        speeds.check_alike(speeds.conditions_here(config), old)
    if image_size is None:
        ensure(Path(config.data["root"]), own_root=training.own_root)
    if experiment:
        report = _of_rows(experiment, training.argv)
    else:
        report = _of_one(config, image_size, seconds=seconds, stage=stage)
    text = f"{speeds.in_words(report)}\n\n{speeds.aligned(speeds.figure_cells(report.rows))}\n"
    print(text, end="")
    if out:
        speeds.write_report(out, report)
        write_text(out.with_suffix(".md"), text)
    if old:
        ratios = speeds.ratio_cells(report, old, anywhere=anywhere)
        print("\n".join(["", *speeds.differences(report, old), "", speeds.aligned(ratios)]))
    return 0


def _of_one(
    config: Config, image_size: tuple[int, int] | None, *, seconds: float, stage: str | None
) -> speeds.SpeedReport:
    modality = Modality(config.modality)
    drawn = modality in find_model(config.model, modality).dense
    data = None
    if image_size:
        if given := [name for name in IN_SECONDS if config.data.get(name) is not None]:
            raise ValueError(
                f"data.{given[0]} needs the rates of a data set, and --image_size reads none; give "
                "data.stride and data.current_samples instead"
            )
        problem = Problem(
            modality=modality,
            dense=drawn if config.dense is None else config.dense,
            frames=config.data["frames"],
            image_size=image_size,
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
        seconds=seconds,
        stage=stage,
    )


def _of_rows(name: str, argv: Sequence[str]) -> speeds.SpeedReport:
    """Measure each row of an experiment by a separate command, with the flags of this one."""
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


def _without(argv: Sequence[str], flag: str) -> Iterator[str]:
    """A command line without a flag and its value."""
    words = iter(argv)
    for word in words:
        if word == flag:
            next(words)
        elif not word.startswith(f"{flag}="):
            yield word
