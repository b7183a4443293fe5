"""What a report is about: a run's folder, or an experiment with its stored results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fmbench.config.profiles import find_config
from fmbench.data import FurnaceData
from fmbench.files.checksum import sha256
from fmbench.files.yaml_json import read_json, read_yaml
from fmbench.report.alarms import alarm_section
from fmbench.speed.timing import durations
from fmbench.tables import make, read_rates
from fmbench.tables.experiment import METRICS, Experiment, Row
from fmbench.tables.intervals import intervals
from fmbench.tables.results import Result, with_truth
from fmbench.tables.table import Line, Table
from fmbench.training.checkpoint import load
from fmbench.training.lit import Detector
from fmbench.training.logs import curve
from fmbench.training.measure import open_data

LATENCY_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Source:
    """The content of a report.

    Attributes:
        title: of the page.
        table: its rows; a run is a table of one row.
        shown: the row whose events are summarised in words and whose mistakes are shown.
        data: the recordings of its test windows.
        speed: facts on speed, by name.
        made: facts on how it was made, by name.
        alarms: what `alarm_section` shows, if a rule was chosen.
    """

    title: str
    table: Table
    shown: Line
    data: FurnaceData
    speed: Mapping[str, str] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)
    alarms: Mapping[str, Any] | None = None


def of_run(run: Path, data: Mapping[str, Any], alarms: Path | None = None) -> Source:
    """A run that was fitted and tested.

    Args:
        run: its folder.
        data: options of `FurnaceData` that differ from those of the training.
        alarms: the folder that `fmbench alarms` wrote, if a rule was chosen.

    Raises:
        ValueError: the folder holds no tested run, the test was on other recordings, or the rule is
            that of another checkpoint.
    """
    best, tested = run / "checkpoints" / "best.ckpt", run / "test.json"
    if not best.is_file():
        raise ValueError(f"{run} holds no run of `fmbench fit`: {best} does not exist")
    if not tested.is_file():
        raise ValueError(f"{run} is not tested yet; run `fmbench test --checkpoint {best}`")
    section = None if alarms is None else alarm_section(alarms, best)
    detector = load(best)
    opened = open_data(detector, data)
    facts = read_json(tested)
    if facts["data_fingerprint"] != opened.fingerprint():
        raise ValueError(
            f"{run} was tested on other recordings than those of {opened.opened.folder}; name"
            " theirs by --data.root, or test again"
        )
    config = read_yaml(run / "config.yaml") if (run / "config.yaml").is_file() else {}
    config = {**config, "model": detector.stamp["model"], "data": detector.stamp["data"]}
    config.setdefault("select", "val/acc")
    validated = read_json(run / "val.json") if (run / "val.json").is_file() else {}
    windows = with_truth(pd.read_csv(run / "test-predictions.csv").drop(columns="score"), opened)
    own = {"config": config, "curve": curve(run, config["select"])}
    code = {name: detector.stamp[name] for name in ("code",) if name in detector.stamp}
    result = Result(key="", facts={**validated, **facts, **code, **own}, windows=windows)
    row = Row(label=config["model"], modality=str(detector.problem.modality), model=config["model"])
    found = intervals([windows])
    names = [name for name in found if name in METRICS or name == "macro_f1"]
    experiment = Experiment(
        name=run.name, title=run.name, metrics=tuple(names), rows=(row,), references=False
    )
    line = Line(row=row, results=(result,), windows=(windows,), intervals=found)
    made = {"run": run.name, "checkpoint, SHA-256": sha256(best), **_made(line)}
    return Source(
        title=f"{row.label}, {row.modality} input",
        table=Table(experiment=experiment, profile="", seeds=1, lines=(line,)),
        shown=line,
        data=opened,
        speed=_latency(detector, opened),
        made=made,
        alarms=section,
    )


def of_table(
    experiment: Experiment, *, profile: str, seeds: int, results: Path, data: Mapping[str, Any]
) -> Source:
    """An experiment with the results that `fmbench table` has stored.

    Args:
        experiment: its rows.
        profile: with which they were trained.
        seeds: trainings of each row.
        results: folder of results and tables.
        data: data options that `fmbench table` was given.

    Raises:
        ValueError: no row has a result.
    """
    find_config(profile)
    table = make(
        experiment,
        profile=profile,
        seeds=seeds,
        results=results / "runs",
        runs=Path("runs/experiments"),
        at_once=1,
        say=lambda line: None,
        train=False,
        rates=read_rates(results),
        changes={"data": dict(data)} if data else {},
    )
    if not table.measured:
        raise ValueError(
            f"no row of {experiment.name} has a result in {results}; run `fmbench table"
            f" {experiment.name}` with the same options"
        )
    named = {line.row.name: line for line in table.measured}
    best = max(
        (line for line in table.measured if not line.row.reference),
        key=lambda line: line.intervals[experiment.metrics[0]].value,
        default=table.measured[0],
    )
    shown = named.get(experiment.against, best)
    stated = shown.results[0].facts["config"]["data"]
    place = {name: stated[name] for name in ("root", "part") if name in stated}
    return Source(
        title=experiment.title,
        table=table,
        shown=shown,
        data=FurnaceData(**place | dict(data)),
        speed=_stored_speed(results / "speed.json"),
        made={"experiment": experiment.name, "profile": table.profile, **_made(shown)},
    )


def _made(line: Line) -> dict[str, str]:
    """Versions, code and data of a row's first result."""
    facts = line.results[0].facts
    found = {
        "trained on": facts.get("trained_on", facts["data"]),
        "tested on": facts["data"],
        "data, SHA-256": facts["data_fingerprint"],
        "parameters": f"{facts['parameters']:,}",
    }
    if "fit_seconds" in facts:
        taken = f"{facts['fit_seconds'] / 60:.1f} min"
        found["training"] = f"{facts['epochs']} epochs, {facts['steps']:,} steps, {taken}"
    if "precision" in facts:
        found["precision of the test"] = str(facts["precision"])
    if facts.get("git_commit"):
        found["commit"] = facts["git_commit"]
    found["versions"] = ", ".join(f"{name} {each}" for name, each in facts["versions"].items())
    return found


def _latency(detector: Detector, data: FurnaceData) -> dict[str, str]:
    """One window on this machine, measured now."""
    batch = data.dataset("test").evenly(1).__getitems__([0])
    with torch.inference_mode():
        taken = durations(lambda: detector(batch), seconds=LATENCY_SECONDS)
    threads = torch.get_num_threads()
    return {
        "one window, on the machine of this report": f"{1000 * statistics.median(taken):.1f} ms"
        f" (median of {len(taken)}), {threads} thread{'s' if threads > 1 else ''}"
    }


def _stored_speed(path: Path) -> dict[str, str]:
    """Latency and throughput of each row of `fmbench speed`, if it was run."""
    if not path.is_file():
        return {}
    content = read_json(path)
    conditions = content["conditions"]
    found = {
        row["label"]: f"{1000 * row['figures']['latency_p50']:.1f} ms a window,"
        f" {row['figures']['forward']:,.0f} windows a second in batches of {row['batch_size']}"
        for row in content["rows"]
        if row["figures"].get("latency_p50") and row["figures"].get("forward")
    }
    measured_on = f"{conditions['processor']}, {conditions['threads']} threads"
    return {"measured on": measured_on, **found}
