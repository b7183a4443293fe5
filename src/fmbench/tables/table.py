"""An experiment's rows, measured: values, intervals, spread, and what they were measured on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.jobs import Failed
from fmbench.tables.experiment import Experiment, Row, config_for
from fmbench.tables.intervals import LEVEL, Interval, intervals, named_blocks, rates
from fmbench.tables.results import PIXELS, Job, Result
from fmbench.tables.runner import run_all
from fmbench.tabular import SIMULATED
from fmbench.training.loop import LOWER_IS_BETTER

SMOKE = "SMOKE: shows that everything runs; nothing has been learnt."
RISE = 0.01
"""A validation metric that still gains this much in the last quarter has not flattened."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row as measured.

    Attributes:
        row: what was asked.
        jobs: the row's trainings, one a seed; none of a row that joins others.
        results: one a seed; empty where the row failed.
        windows: of each seed.
        intervals: of each rate, the mean over seeds.
        spread: standard deviation of each rate over seeds; empty of one seed.
        failed: why there is no measurement.
    """

    row: Row
    jobs: tuple[Job, ...] = ()
    results: tuple[Result, ...] = ()
    windows: tuple[pd.DataFrame, ...] = ()
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    failed: str = ""

    @property
    def parameters(self) -> int | None:
        """How many were learnt; None of a row that only joins others."""
        return self.results[0].facts["parameters"] if self.results and not self.row.join else None

    @property
    def fit_seconds(self) -> float | None:
        """Of one training, on the machine that it was made on; mean over seeds."""
        taken = [result.facts["fit_seconds"] for result in self.results]
        return float(np.mean(taken)) if taken and not self.row.join else None

    @property
    def still_learning(self) -> bool:
        """Whether the validation curve of any seed was `rising` when its training ended."""
        return any(rising(r.facts["curve"], r.facts["config"]["select"]) for r in self.results)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Everything that a table in any format says.

    Attributes:
        experiment: what was asked.
        profile: by which the rows were trained.
        seeds: how many trainings a row is.
        lines: in the experiment's order.
    """

    experiment: Experiment
    profile: str
    seeds: int
    lines: tuple[Line, ...]

    @property
    def measured(self) -> list[Line]:
        """The lines that have a measurement."""
        return [line for line in self.lines if line.results]

    @property
    def synthetic(self) -> bool:
        """Whether any line was measured on simulated recordings."""
        return any(result.facts["synthetic"] for line in self.lines for result in line.results)

    def head(self) -> list[str]:
        """What the numbers are, in a few sentences."""
        if not self.measured:
            return ["No row has a result."]
        first = self.measured[0]
        facts = first.results[0].facts
        said = [f"Measured on {facts['data']}, test part: {len(first.windows[0]):,} windows."]
        if self.synthetic:
            said += [SIMULATED, "The paper's values were measured on other data."]
        if self.profile == "smoke":
            said.insert(0, SMOKE)
        plural = "s, mean of them" if self.seeds > 1 else ""
        said.append(
            f"Profile {self.profile}, {self.seeds} seed{plural}; {LEVEL:.0%} intervals by block"
            f" jackknife over {named_blocks(first.windows[0])}. Checkpoints and thresholds were"
            " chosen on validation and training recordings."
        )
        return said


class Opened:
    """The data that a configuration names, as tests see it; the same root is opened once."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str], FurnaceData] = {}

    def __call__(self, config: Config) -> FurnaceData:
        given = {name: config.data[name] for name in ("root", "part")}
        place = (str(given["root"]), str(given["part"]))
        if place not in self._parts:
            self._parts[place] = FurnaceData(**given)
        return self._parts[place]


def make(
    experiment: Experiment,
    *,
    profile: str,
    seeds: int,
    results: Path,
    runs: Path,
    at_once: int,
    say: Callable[[str], None],
    train: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> Table:
    """Measure every row, training what has no result yet.

    Args:
        experiment: what is wanted.
        profile: a profile's name, or the path of a YAML file.
        seeds: 0 to seeds - 1.
        results: folder of the result files.
        runs: folder of the runs.
        at_once: how many rows train at the same time.
        say: where progress goes.
        train: whether to make what has no result yet.
        changes: settings over those of every row.

    Raises:
        ValueError: settings that are not allowed, a damaged result, or rows that must have equally
            many parameters and do not.
    """
    data = Opened()
    jobs: dict[str, list[Job]] = {row.name: [] for row in experiment.trained()}
    for row in experiment.trained():
        for seed in range(seeds):
            config = config_for(row, profile=profile, seed=seed, changes=changes)
            job = Job(
                label=f"{row.name}, seed {seed}",
                config=config,
                fingerprint=data(config).fingerprint(),
                test={k: v for k, v in row.test.items() if v != config.data[k]},
            )
            jobs[row.name].append(job)
    found = run_all(
        [job for of_row in jobs.values() for job in of_row],
        data=data,
        results=results,
        runs=runs,
        at_once=at_once,
        say=say,
        train=train,
    )
    outcomes = {name: [found[job.key] for job in of_row] for name, of_row in jobs.items()}
    lines = tuple(
        replace(_line(row, experiment.joined_in(row), outcomes), jobs=tuple(jobs.get(row.name, ())))
        for row in experiment.rows
    )
    table = Table(experiment=experiment, profile=Path(profile).stem, seeds=seeds, lines=lines)
    _check_parameters(table)
    return table


def joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Eq. (12) without training: the class logits of two detectors added, window by window.

    Raises:
        ValueError: they were tested on different windows.
    """
    place = ["recording", "frame"]
    if not first[[*place, "label"]].equals(second[[*place, "label"]]):
        raise ValueError("tested on different windows")
    total = first["log_odds"] + second["log_odds"]
    kept = first.drop(columns=[name for name in PIXELS if name in first])
    return kept.assign(log_odds=total, decision=(total > 0).astype(int))


def rising(curve: Sequence[float], metric: str) -> bool:
    """Whether a validation curve gains more than RISE in its last quarter over all before."""
    last = math.ceil(len(curve) / 4)
    if len(curve) < 3:
        return False
    sign = -1 if metric.endswith(LOWER_IS_BETTER) else 1
    signed = [sign * value for value in curve]
    return max(signed[-last:]) - max(signed[:-last]) > RISE


def _line(
    row: Row, parts: Sequence[Row], outcomes: Mapping[str, Sequence[Result | Failed]]
) -> Line:
    gathered: list[list[Result]] = []
    for part in parts:
        failed = [each.reason for each in outcomes[part.name] if isinstance(each, Failed)]
        if failed:
            return Line(row=row, failed=f"{part.label}: {failed[0]}" if row.join else failed[0])
        gathered.append([each for each in outcomes[part.name] if isinstance(each, Result)])
    windows = [result.windows for result in gathered[0]]
    try:
        if row.join:
            windows = [joined(a.windows, b.windows) for a, b in zip(*gathered, strict=True)]
        measured = intervals(windows)
    except ValueError as error:
        return Line(row=row, failed=str(error))
    seeds = [rates(each) for each in windows] if len(windows) > 1 else []
    spread = {
        name: float(np.std([values[name] for values in seeds], ddof=1))
        for name in (measured if seeds else ())
    }
    return Line(
        row=row,
        results=tuple(result for part in gathered for result in part),
        windows=tuple(windows),
        intervals=measured,
        spread=spread,
    )


def _check_parameters(table: Table) -> None:
    asked = set(table.experiment.equal_parameters)
    counts = {
        line.row.label: line.parameters
        for line in table.lines
        if line.row.label in asked and line.parameters is not None
    }
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{label} {count:,}" for label, count in counts.items())
        raise ValueError(
            f"{table.experiment.name}: these must have equally many parameters: {told}"
        )
