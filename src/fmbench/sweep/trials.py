"""The trials of a sweep, suggested by Optuna and trained here.

They are stored in an SQLite file that Optuna's own tools open; an interrupted sweep resumes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
import pandas as pd
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from fmbench.config.resolve import resolve
from fmbench.files.lock import locked
from fmbench.jobs import Failed, JobRunner
from fmbench.sweep.file import Sweep, extremes
from fmbench.training.logs import curve


class Trial(NamedTuple):
    """One training of a sweep."""

    number: int
    params: Mapping[str, Any]

    @property
    def label(self) -> str:
        """`trial 3: optim.lr=0.001`."""
        params = ", ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in self.params.items()
        )
        return f"trial {self.number}: {params}"


def run_sweep(
    sweep: Sweep,
    *,
    out: Path,
    at_once: int,
    say: Callable[[str], None],
    more: Sequence[str] = (),
    count: int | None = None,
) -> pd.DataFrame:
    """Train the trials that are not trained yet; returns one row a trial: number, parameters, the
    metric's best value on validation recordings (NaN if it failed), failed (the reason).

    Args:
        sweep: the sweep file.
        out: folder of the sweep: `trials.db`, and a run's folder for each trial.
        at_once: number of trials that train at the same time.
        say: receives lines of progress.
        more: further flags of `fit`; they override those of the sweep's command.
        count: number of trials in all; overrides `run_cap`.

    Raises:
        ValueError: flags that `fit` does not take, no number of trials, a folder of another sweep,
            or a folder in which another process runs the sweep.
        OSError: the trials cannot be stored.
        KeyboardInterrupt: Ctrl-C; every running trial has written its checkpoint.
    """
    flags = [*sweep.fixed, *more]
    _check(sweep, flags)
    limit = count or sweep.run_cap
    if limit is None and sweep.method != "grid":
        raise ValueError(
            f"{sweep.name}: method {sweep.method} has no end; say how many: --count 20"
        )
    with _alone(out):
        study = _study(sweep, flags, out / "trials.db")
        runner = JobRunner(at_once, say)

        def train(trial: Trial) -> float | Failed:
            """An error of a trial does not stop the others."""
            run = out / f"{trial.number:03d}"
            try:
                with runner.alone(trial.label, run) as lock:
                    return _trained(sweep, trial, run, flags, runner, lock)
            except (ValueError, OSError) as error:
                return Failed(reason=str(error))

        try:
            for trial, outcome in runner.work(_trials(sweep, study, limit), train):
                if isinstance(outcome, Failed):
                    runner.log(f"{trial.label}: FAILED: {outcome.reason}")
                    study.set_user_attr(f"failed {trial.number}", outcome.reason)
                    study.tell(trial.number, state=TrialState.FAIL)
                else:
                    runner.log(f"{trial.label}: {sweep.metric.name} {outcome:.4f}")
                    study.tell(trial.number, outcome)
        except StorageInternalError as error:
            raise OSError(
                f"{out / 'trials.db'} cannot be written ({_brief(error)}); trained trials are"
                " kept, go on with the same command"
            ) from None
    rows = [
        {
            "trial": trial.number,
            **trial.params,
            sweep.metric.name: trial.value if trial.value is not None else math.nan,
            "failed": study.user_attrs.get(f"failed {trial.number}", ""),
        }
        for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.FAIL))
    ]
    return pd.DataFrame(rows)


def _trained(
    sweep: Sweep, trial: Trial, run: Path, flags: Sequence[str], runner: JobRunner, lock: int
) -> float | Failed:
    """The best value of the metric over the epochs of a trial."""
    if not (run / "val.json").is_file():
        words = ["fit", *flags, *_flags(trial.params), "--logger=csv"]
        words += [f"--run={run}", "--resume=auto"]
        failed = runner.command(trial.label, words, run, lock)
        if failed:
            return failed
    seen = curve(run, sweep.metric.name)
    if not seen:
        return Failed(reason=f"no metric {sweep.metric.name} was logged")
    return max(seen) if sweep.metric.goal == "maximize" else min(seen)


def _trials(sweep: Sweep, study: optuna.Study, limit: int | None) -> Iterator[Trial]:
    """Interrupted trials, then new ones, suggested from the outcomes so far."""
    unfinished = study.get_trials(states=(TrialState.RUNNING,))
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    left = math.inf if limit is None else limit - len(complete) - len(unfinished)
    for trial in unfinished:
        yield Trial(trial.number, trial.params)
    if sweep.method == "grid":
        known = [
            trial.user_attrs["grid"] for trial in study.trials if trial.state != TrialState.FAIL
        ]
        for combination in sweep.combinations():
            if combination not in known:
                study.enqueue_trial(combination, user_attrs={"grid": combination})
        left = min(left, len(study.get_trials(states=(TrialState.WAITING,))))
    while left > 0:
        # A new sampler for each trial: its draws do not depend on where a sweep was interrupted.
        seed = int(np.random.SeedSequence(len(study.trials)).generate_state(1)[0])
        study.sampler = (
            optuna.samplers.GPSampler(seed=seed)  # W&B's is a Gaussian process, too
            if sweep.method == "bayes"
            else optuna.samplers.RandomSampler(seed=seed)
        )
        asked = study.ask(dict(sweep.space))
        yield Trial(asked.number, asked.params)
        left -= 1


def _study(sweep: Sweep, flags: Sequence[str], path: Path) -> optuna.Study:
    """The stored trials.

    Raises:
        ValueError: they are of another sweep, or `path` is no database of trials.
    """
    spaces = {name: optuna.distributions.distribution_to_json(d) for name, d in sweep.space.items()}
    asked = [sweep.method, sweep.metric.name, sweep.metric.goal, list(flags), spaces]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}",
            study_name=sweep.name,
            direction=sweep.metric.goal,
            load_if_exists=True,
        )
        known = study.user_attrs.get("digest")
        if known is None:
            study.set_user_attr("digest", digest)
    except Exception as error:  # of several libraries
        raise ValueError(
            f"{path} is no database of trials, or a damaged one, or cannot be written"
            f" ({_brief(error)})"
        ) from None
    if known not in (None, digest):
        raise ValueError(
            f"{path.parent} holds trials of other settings than these; choose another --out"
        )
    return study


def _brief(error: Exception) -> str:
    """The database's message, without the SQL statement that failed."""
    return str(error.__cause__ or error).splitlines()[0]


def _check(sweep: Sweep, flags: Sequence[str]) -> None:
    """Resolve `fit`'s options at the extremes of every parameter.

    Raises:
        ValueError: `fit` does not take one of them.
    """
    firsts = {name: extremes(each)[0] for name, each in sweep.space.items()}
    resolve([*flags, *_flags(firsts)])
    for name, each in sweep.space.items():
        for value in extremes(each)[1:]:
            resolve([*flags, *_flags({**firsts, name: value})])


def _flags(params: Mapping[str, Any]) -> list[str]:
    """Parameters as W&B's agent writes them for `${args}`."""
    return [f"--{name}={value}" for name, value in params.items()]


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Nobody else runs the sweep in this folder.

    Raises:
        ValueError: somebody does.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "lock").touch()
    with locked(out / "lock") as handle:
        if handle is None:
            raise ValueError(
                f"another process runs the sweep in {out}; several machines share one by W&B's"
                " agents: wandb sweep FILE"
            )
        yield
