"""`fmbench fit`, `fmbench test`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fmbench.cli.data import ensure
from fmbench.config.hints import File, Folder
from fmbench.config.resolve import DataOptions, Request, TrainerOptions
from fmbench.config.schema import Config
from fmbench.metrics import Counts
from fmbench.training import run as runs
from fmbench.training.console import say
from fmbench.training.guard import Stopped
from fmbench.training.measure import measure


def fit(request: Request) -> int:
    """Train a model. Order of options: defaults < YAML files < flags.

    Without --config, the profile is cpu; without data, a simulated set is made.
    """
    training = request.training
    if request.print_config:
        print(training.config.to_yaml(), end="")
        return 0
    run = request.folder
    if training.notice:
        say(training.notice)
    ensure(Path(training.config.data["root"]), own_root=training.own_root)
    best = train(training.config, run, resume=request.resume, force=request.force)
    say(f"best checkpoint: {best}")
    say(f"next: fmbench test --checkpoint {best}")
    return 0


def train(config: Config, run: Path, *, resume: str | None = None, force: bool = False) -> Path:
    """Run a training; returns the best checkpoint. If it is stopped, a note of the exception has
    the command that continues it."""
    try:
        return runs.fit(config, run=run, resume=resume, force=force)
    except (KeyboardInterrupt, Stopped) as stopped:
        stopped.add_note(f"go on with: fmbench fit --run {run} --resume auto")
        raise


def test(
    *,
    checkpoint: File,
    split: Literal["val", "test"] = "test",  # noqa: PT028 -- a command, not a test
    out: Folder | None = None,  # noqa: PT028
    alarms: File | None = None,  # noqa: PT028
    data: DataOptions,
    trainer: TrainerOptions,
) -> int:
    """Measure a checkpoint on recordings.

    Args:
        out: folder of metrics and predictions (default: the run's).
        alarms: alarms.yaml of the checkpoint: also measures its alarms, by event.
        data: data (default: as in training).
        trainer: Lightning's Trainer.
    """
    existing(checkpoint)
    rule = None
    if alarms is not None:
        from fmbench.alarms.file import read_alarms  # needs pydantic, which a test does not

        rule = read_alarms(alarms, checkpoint)
    metrics = measure(checkpoint, data=data, split=split, out=out, trainer=trainer)
    for name, value in metrics.items():
        say(
            f"{name:<8}{value:>10.4f}" if name not in Counts._fields else f"{name:<8}{value:>10.0f}"
        )
    if rule is not None:
        from fmbench.alarms.run import measured_alarms

        for name, value in measured_alarms(rule, checkpoint, data=data, split=split).items():
            say(f"{name:<19}{value:>10.4g}")
    return 0


def existing(checkpoint: Path) -> Path:
    """Raises: ValueError: there is no such file."""
    if not checkpoint.is_file():
        raise ValueError(f"--checkpoint {checkpoint}: no such file; `fmbench fit` prints its best")
    return checkpoint
