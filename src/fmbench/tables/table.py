"""An experiment's rows with their results: rates, intervals, spread over seeds, data."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import log_softmax, logsumexp

from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.jobs import Failed
from fmbench.metrics import LOG_P, classes_of
from fmbench.tables.experiment import LENGTHS, Experiment, Row, check_metrics, config_for
from fmbench.tables.intervals import (
    LEVEL,
    Interval,
    blocks,
    intervals,
    named_blocks,
    rates,
)
from fmbench.tables.rates import RATES, Rates, tuned
from fmbench.tables.results import Job, Result, code_changed
from fmbench.tables.runner import run_all
from fmbench.tabular import SIMULATED
from fmbench.training.loop import LOWER_IS_BETTER
from fmbench.training.precision import FLOAT32
from fmbench.types import BENCHMARK

SMOKE = "SMOKE: shows that everything runs; nothing has been learnt."
RISE = 0.01
"""Gain of the validation metric in the last quarter above which a curve is still rising."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of an experiment and its results.

    Attributes:
        row: the row's definition.
        jobs: the row's trainings, one a seed; empty for a row that joins others.
        results: one a seed, or one a seed and joined row; empty if the row failed.
        windows: the test windows of each seed.
        intervals: mean over seeds and interval of each rate.
        spread: standard deviation of each rate over seeds; empty with one seed.
        failed: the reason why the row has no result; empty if it has one.
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
        """Number of learnt parameters; None for a row that joins others."""
        return self.results[0].facts["parameters"] if self.results and not self.row.join else None

    @property
    def fit_seconds(self) -> float | None:
        """Duration of one training on its machine, mean over seeds; None for a joined row."""
        taken = [result.facts["fit_seconds"] for result in self.results]
        return float(np.mean(taken)) if taken and not self.row.join else None

    @property
    def still_learning(self) -> bool:
        """Whether the validation curve of any seed is `rising` at its end."""
        return any(rising(r.facts["curve"], r.facts["config"]["select"]) for r in self.results)


@dataclass(frozen=True, kw_only=True)
class Table:
    """The content of a table, for every format.

    Attributes:
        experiment: the experiment's definition.
        profile: name of the profile with which the rows were trained.
        seeds: trainings of each row.
        lines: rows with results, in the experiment's order.
        rates: tuned learning rates of rows; None without any.
    """

    experiment: Experiment
    profile: str
    seeds: int
    lines: tuple[Line, ...]
    rates: Rates | None = None

    @property
    def measured(self) -> list[Line]:
        """The lines that have results."""
        return [line for line in self.lines if line.results]

    @property
    def synthetic(self) -> bool:
        """Whether any line was measured on simulated recordings."""
        return any(result.facts["synthetic"] for line in self.lines for result in line.results)

    def head(self) -> list[str]:
        """Sentences on data, profile, seeds, intervals and model selection."""
        if not self.measured:
            return ["No row has a result."]
        first = self.measured[0]
        facts = first.results[0].facts
        notes = [
            f"Measured on {facts['data']}, test part: {len(first.windows[0]):,} windows of"
            f" {window_text({**facts['config'].get('data', {}), **facts.get('window', {})})}."
        ]
        if cells := self.experiment.cells():
            notes.append(
                f"Each of the {len(cells)} cells has a data set of this size, with its knobs."
            )
        if self.synthetic:
            notes += [SIMULATED, "The paper's values were measured on other data."]
        if self.profile == "smoke":
            notes.insert(0, SMOKE)
        plural = "s, mean of them" if self.seeds > 1 else ""
        notes.append(
            f"Profile {self.profile}, {self.seeds} seed{plural}; {self._uncertainty()} Checkpoints"
            " and thresholds were chosen on validation and training recordings."
        )
        return notes + self._rate_notes() + self._code_notes()

    def _rate_notes(self) -> list[str]:
        """Sentences on the rows that train at a tuned learning rate, and on those that do not."""
        if self.rates is None:
            return []
        learn = [line.row for line in self.measured if line.row.model and line.parameters]
        usual = [row.name for row in learn if not row.reference and not tuned(self.rates, row)]
        notes = [
            "Learning rates are the best of the same few for every method, by short trainings"
            f" judged on validation recordings ({RATES})."
        ]
        if usual:
            notes.append(f"The profile's rate, not tuned: {', '.join(usual)}.")
        return notes

    def _code_notes(self) -> list[str]:
        """Sentences on rows whose code is not today's, or not known."""
        states = {
            line.row.name: [code_changed(result.facts) for result in line.results]
            for line in self.measured
        }
        changed = [name for name, found in states.items() if True in found]
        unknown = [name for name, found in states.items() if None in found and True not in found]
        notes = []
        if changed:
            notes.append(
                f"Code changed since: {', '.join(changed)} (`--stale retrain` trains them again)."
            )
        if unknown:
            which = "any row" if len(unknown) == len(states) else ", ".join(unknown)
            notes.append(f"It is not recorded with which code {which} was trained.")
        return notes

    def _uncertainty(self) -> str:
        """A sentence on what the intervals hold, or why there are none."""
        windows = self.measured[0].windows[0]
        if blocks(windows).max() == 0:
            return (
                "No intervals: the test windows are one block (a recording, or too few events to"
                " divide it)."
            )
        hold = "and over seeds" if self.seeds > 1 else "(other recordings, not other seeds)"
        return f"{LEVEL:.0%} intervals by block jackknife over {named_blocks(windows)} {hold}."

    def precisions(self) -> str:
        """A sentence on the precisions of the trainings; empty if all were in float32."""
        rows: dict[str, list[str]] = {}
        for line in self.measured:
            for precision in sorted({trained_in(result) for result in line.results}):
                rows.setdefault(precision, []).append(line.row.name)
        if set(rows) <= {FLOAT32}:
            return ""
        one = len(rows) == 1
        parts = [name if one else f"{name}: {', '.join(rows[name])}" for name in sorted(rows)]
        return f"Precision of the trainings: {'; '.join(parts)}."


def trained_in(result: Result) -> str:
    """The precision of a result's training; of a result that does not hold it, the one asked for,
    by default float32."""
    asked = result.facts["config"].get("trainer", {}).get("precision")
    return str(result.facts.get("precision") or asked or FLOAT32)


class Opened:
    """Opens the test data of a configuration, each root and part once."""

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
    retrain: bool = False,
    rates: Rates | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Table:
    """Tabulate every row; train and test those without a result.

    Args:
        experiment: the rows to tabulate.
        profile: a profile's name, or the path of a YAML file.
        seeds: number of trainings of each row, with seeds 0 to seeds - 1.
        results: folder of the result files.
        runs: folder of the runs.
        at_once: number of rows that train at the same time.
        say: receives progress, line by line.
        train: train and test rows that have no result; if false, they are reported as failed.
        retrain: train rows again whose result is of other code than today's.
        rates: learning rates of `fmbench.tables.tune`; the profile's for rows without one.
        changes: settings that override those of every row.

    Raises:
        ValueError: an invalid setting, a metric that the data do not have, a damaged result, or
            unequal numbers of parameters in the rows of `equal_parameters`.
    """
    data = Opened()
    jobs: dict[str, list[Job]] = {row.name: [] for row in experiment.trained()}
    for row in experiment.trained():
        for seed in range(seeds):
            config = config_for(
                row, profile=profile, seed=seed, tuned=tuned(rates, row), changes=changes
            )
            check_metrics(experiment, data(config).classes)
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
        retrain=retrain,
    )
    outcomes = {name: [found[job.key] for job in of_row] for name, of_row in jobs.items()}
    lines = tuple(
        replace(_line(row, experiment.joined_in(row), outcomes), jobs=tuple(jobs.get(row.name, ())))
        for row in experiment.rows
    )
    table = Table(
        experiment=experiment,
        profile=Path(profile).stem,
        seeds=seeds,
        lines=lines,
        rates=rates,
    )
    _check_parameters(table)
    return table


def joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Sum of the class logits of two detectors for each window: eq. (12) without training.

    The mask is the first detector's.

    Raises:
        ValueError: the detectors were tested on different windows.
    """
    place = ["recording", "frame"]
    if not first[[*place, "label"]].equals(second[[*place, "label"]]):
        raise ValueError("the two rows were tested on different windows; they cannot be joined")
    classes = classes_of(first)
    if len(classes) > 2:
        columns = [f"{LOG_P}{name}" for name in classes]
        log_p = log_softmax(first[columns].to_numpy() + second[columns].to_numpy(), axis=1)
        log_odds = logsumexp(log_p[:, 1:], axis=1) - log_p[:, 0]
        of_classes = {column: log_p[:, k] for k, column in enumerate(columns)}
        return first.assign(log_odds=log_odds, decision=log_p.argmax(1), **of_classes)
    total = first["log_odds"] + second["log_odds"]
    return first.assign(log_odds=total, decision=(total > 0).astype(int))


def window_text(data: Mapping[str, Any]) -> str:
    """The window of a data configuration: `4 frames over 1.44 s, 240 samples of current (120 s)`.

    A default that is not in `data` is FurnaceData's; a rate that is not, the benchmark's.
    """
    defaults = inspect.signature(FurnaceData).parameters
    frames, stride, samples = (data.get(name, defaults[name].default) for name in LENGTHS)
    span = (frames - 1) * stride / data.get("frame_rate", BENCHMARK.frame_rate)
    current = samples / data.get("current_rate", BENCHMARK.current_rate)
    return f"{frames} frames over {span:.2f} s, {samples} samples of current ({current:g} s)"


def rising(curve: Sequence[float], metric: str) -> bool:
    """Whether the best value of a curve's last quarter exceeds its best before by over RISE."""
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
    equal = set(table.experiment.equal_parameters)
    counts = {
        line.row.label: line.parameters
        for line in table.lines
        if line.row.label in equal and line.parameters is not None
    }
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{label} {count:,}" for label, count in counts.items())
        raise ValueError(
            f"{table.experiment.name}: these must have equally many parameters: {found}"
        )
