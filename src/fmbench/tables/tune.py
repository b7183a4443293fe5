"""The learning rate of each row, chosen on validation recordings: the same budget for every method.

A recipe that was tuned on one method favours it. `tune` therefore trains each gradient-trained row
of an experiment shortly with each of a few rates, and writes the best ones beside the results;
`fmbench.tables.table.make` trains these rows at their own rate. Rows of other experiments with the
same model and modality use it as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.files.atomic import write_text
from fmbench.files.yaml_json import read_json
from fmbench.jobs import Failed, JobRunner
from fmbench.registry import create_model
from fmbench.stages import Learn, Stage, stages_of
from fmbench.tables.experiment import Experiment, Row, config_for
from fmbench.tables.rates import RATES, Rates, TunedRow, name_of, read_rates, write_rates
from fmbench.tables.results import Job
from fmbench.tables.table import Opened
from fmbench.training.loop import LOWER_IS_BETTER
from fmbench.training.provenance import code_of

FACTORS = (0.3, 1.0, 3.0)
"""The rates that are tried, as multiples of the profile's."""
EPOCHS = 2
"""Epochs, hence validations, of a short training of one stage; of several stages, the profile's."""


def tune(
    experiment: Experiment,
    *,
    profile: str,
    windows: int,
    folder: Path,
    runs: Path,
    at_once: int,
    say: Callable[[str], None],
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """Train each gradient-trained row with FACTORS of the profile's rate; returns the file RATES.

    Rows in the file are not tuned again. It is written after each row; an interrupted training
    resumes.

    Args:
        experiment: its rows, without reference rows, are tuned.
        profile: a profile's name, or the path of a YAML file.
        windows: training windows of each training.
        folder: of the results.
        runs: folder of the runs.
        at_once: trainings at the same time.
        say: receives progress, line by line.
        changes: settings that override those of every row.

    Raises:
        ValueError: the file holds rates of other data, profile or number of windows; the profile
            has no number of epochs; no row learns by gradient; or all trainings of a row failed.
        KeyboardInterrupt: Ctrl-C, after every running training has written its checkpoint.
    """
    opened = Opened()
    rows = {name_of(row): row for row in experiment.trained() if not row.reference}
    if not rows:
        raise ValueError(f"{experiment.name} has no row to tune beside reference rows")
    usual = {
        name: config_for(row, profile=profile, seed=0, changes=changes)
        for name, row in rows.items()
    }
    first = next(iter(usual.values()))
    rates = Rates(
        profile=Path(profile).stem,
        data=opened(first).description,
        windows=windows,
        select=first.select,
        rows={},
    )
    if known := read_rates(folder):
        if known.model_copy(update={"rows": {}}) != rates:
            raise ValueError(
                f"{folder / RATES} holds rates of other data, profile or windows; delete it to tune"
                " again, or choose another folder with --results"
            )
        rates = known
    queue: list[tuple[str, Job]] = []
    for name, row in rows.items():
        stages = _stages(usual[name])
        if name in rates.rows or not any(isinstance(stage, Learn) for stage in stages):
            continue
        fingerprint = opened(usual[name]).fingerprint()
        for factor in FACTORS:
            config = _shortened(row, usual[name], stages, factor, windows, profile, changes)
            label = f"{row.name}, rate {config.optim['lr']:g}"
            queue.append((name, Job(label=label, config=config, fingerprint=fingerprint)))
    if not queue:
        say("every row has its rate")
    runner = JobRunner(at_once, say)
    ended: dict[str, dict[float, float | Failed]] = {name: {} for name, _ in queue}
    for (name, job), outcome in runner.work(queue, lambda task: _trained(task[1], runs, runner)):
        text = f"FAILED: {outcome.reason}" if isinstance(outcome, Failed) else f"{outcome:.4f}"
        runner.log(f"{job.label}: {job.config.select} {text}")
        ended[name][float(job.config.optim["lr"])] = outcome
        tried = {rate: x for rate, x in sorted(ended[name].items()) if not isinstance(x, Failed)}
        if len(ended[name]) == len(FACTORS) and tried:
            best = best_rate(tried, float(usual[name].optim["lr"]), job.config.select)
            tuned_row = TunedRow(lr=best, tried=tried)
            rates = rates.model_copy(update={"rows": {**rates.rows, name: tuned_row}})
            write_rates(rates, folder)
    if missing := [name for name in ended if name not in rates.rows]:
        raise ValueError(f"without a rate, because every training failed: {', '.join(missing)}")
    return folder / RATES


def best_rate(tried: Mapping[float, float], usual: float, select: str) -> float:
    """The rate with the best metric; of equal ones the usual one, or else the smallest."""
    sign = -1 if select.endswith(LOWER_IS_BETTER) else 1
    return max(tried, key=lambda rate: (sign * tried[rate], rate == usual, -rate))


def _stages(config: Config) -> list[Stage]:
    """The stages in which the model of a configuration trains."""
    data = FurnaceData(**config.data, modality=config.modality)
    return stages_of(create_model(config.model, data.problem(False), **config.net))


def _shortened(
    row: Row,
    usual: Config,
    stages: list[Stage],
    factor: float,
    windows: int,
    profile: str,
    changes: Mapping[str, Any] | None,
) -> Config:
    epochs = usual.trainer.get("max_epochs")
    if epochs is None or epochs < 1:
        raise ValueError(f"profile {profile} has no trainer.max_epochs; tuning shortens it")
    epochs = EPOCHS if len(stages) == 1 else epochs
    over: dict[str, dict[str, Any]] = {
        "optim": {"lr": float(f"{usual.optim['lr'] * factor:.3g}")},
        "data": {"epoch_windows": max(1, windows // epochs)},
        "trainer": {"max_epochs": epochs},
    }
    given = changes or {}
    merged = {**given, **{key: {**given.get(key, {}), **part} for key, part in over.items()}}
    return config_for(row, profile=profile, seed=0, changes=merged)


def _trained(job: Job, runs: Path, runner: JobRunner) -> float | Failed:
    """The validation metric of a training's chosen checkpoint."""
    run = runs / job.run(code_of(job.config.model))  # changed code is trained anew
    measured = run / "val.json"
    try:
        with runner.alone(job.label, run) as lock:
            if not measured.is_file():
                settings = run / "asked.yaml"
                write_text(settings, job.config.to_yaml())
                words = ["fit", "--config", str(settings), "--run", str(run), "--resume", "auto"]
                if failed := runner.command(job.label, words, run, lock):
                    return failed
            name = job.config.select.removeprefix("val/")
            return float(read_json(measured)["metrics"][name])
    except (ValueError, OSError, KeyError) as error:
        return Failed(reason=str(error))
