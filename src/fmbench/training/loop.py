"""A detector through its stages, each a training of its own that can be resumed."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from fmbench.data import FurnaceData
from fmbench.stages import Solve, Stage, share_epochs
from fmbench.training import checkpoint as checkpoints
from fmbench.training.guard import Best, Guard, Killable, Stopped
from fmbench.training.lit import Detector, Means
from fmbench.training.processes import together
from fmbench.training.progress import on_terminal, progress, say

LOWER_IS_BETTER = ("loss", "fdr", "mdr")


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training came to.

    Attributes:
        best: the checkpoint that validation chose, or the last one.
        epochs: completed, in all stages.
        steps: of all optimizers.
        is_global_zero: whether this process is the first of its training.
    """

    best: Path
    epochs: int
    steps: int
    is_global_zero: bool


def places(run: Path, stages: Sequence[Stage]) -> list[Path]:
    """The folders of the stages' checkpoints: the run's own for the last, one each before it."""
    return [run / "stages" / stage.name for stage in stages[:-1]] + [run / "checkpoints"]


def train(
    detector: Detector,
    data: FurnaceData,
    *,
    run: Path,
    select: str,
    options: Mapping[str, Any],
    loggers: list[Logger],
    resume: Path | None = None,
) -> Trained:
    """Go through the detector's stages, writing `best.ckpt` and `last.ckpt`.

    Args:
        detector: what is trained; on `resume` it has the checkpoint's weights already.
        data: whose training windows every stage sees.
        run: folder of the run.
        select: validation metric that picks the best checkpoint of the last stage.
        options: of Lightning's Trainer; its `max_epochs` is shared out among the stages.
        loggers: of the run.
        resume: a checkpoint of the stage to go on with.

    Raises:
        ValueError: several stages and no `max_epochs` to share, or a checkpoint of another stage.
    """
    stages = detector.stages
    asked = options.get("max_epochs")
    epochs: list[int | None] = [asked]  # one stage takes what the Trainer takes
    if len(stages) > 1:
        if asked is None or asked < 1:
            raise ValueError(
                f"{len(stages)} stages share trainer.max_epochs; it is {asked}, give it a number"
            )
        epochs = [*share_epochs(stages, asked)]
    folders = places(run, stages)
    first = _stage_of(resume, stages) if resume else 0
    done = steps = 0
    for k in range(first, len(stages)):
        last = k == len(stages) - 1
        if len(stages) > 1:
            say(f"stage {k + 1} of {len(stages)}: {stages[k].name}")
            detector.stamp["stage"] = stages[k].name
        detector.enter(stages[k])
        engine = {
            "default_root_dir": run,
            "enable_model_summary": False,
            "use_distributed_sampler": False,  # FurnaceData shares the windows out
            "plugins": [checkpoints.Checkpoints()],
            **options,
        }
        with quiet(), interruptible():
            if isinstance(stages[k], Solve):
                trainer = _solve(detector, data, folders[k], engine)
            else:
                engine |= {"max_epochs": epochs[k], "logger": loggers}
                engine |= {} if last else {"limit_val_batches": 0}
                monitor = select if last and data.validates else None
                start = resume if k == first else None
                trainer = _learn(detector, data, folders[k], engine, monitor, start)
        if trainer.is_global_zero:  # what it was kept for cannot come any more
            (folders[k] / "previous.ckpt").unlink(missing_ok=True)
        done += trainer.current_epoch
        steps += trainer.global_step
    return Trained(
        best=folders[-1] / "best.ckpt",
        epochs=done,
        steps=steps,
        is_global_zero=trainer.is_global_zero,
    )


def _learn(
    detector: Detector,
    data: FurnaceData,
    folder: Path,
    options: dict[str, Any],
    monitor: str | None,
    resume: Path | None,
) -> L.Trainer:
    """Gradient steps for some epochs; only the last stage is validated."""
    keep = Best(
        folder,
        filename="best",
        monitor=monitor,
        mode="min" if (monitor or "").endswith(LOWER_IS_BETTER) else "max",
        enable_version_counter=False,
    )
    options = {
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
        "callbacks": [Means(), LearningRateMonitor("step"), *progress(), keep, Guard(folder)],
        "enable_progress_bar": on_terminal(),
        **options,
    }
    if not detector.automatic_optimization:
        options.pop("gradient_clip_val", None)  # the detector clips
        if isinstance(L.Trainer(**options).strategy, DDPStrategy):  # a turn is not all parameters
            options["strategy"] = "ddp_find_unused_parameters_true"
    trainer = L.Trainer(**options)
    with together(trainer):
        trainer.fit(detector, datamodule=data, ckpt_path=resume, weights_only=True)
    return trainer


def _solve(
    detector: Detector, data: FurnaceData, folder: Path, options: dict[str, Any]
) -> L.Trainer:
    """One pass over the training windows; the solution stands in both checkpoints."""
    options = {
        **options,
        "logger": False,
        "enable_checkpointing": False,
        "callbacks": [*progress(), Killable()],
        "enable_progress_bar": on_terminal(),
        "limit_predict_batches": options.get("limit_train_batches"),
    }
    trainer = L.Trainer(**options)
    with together(trainer):
        trainer.predict(detector, datamodule=data, return_predictions=False, weights_only=True)
    for name in ("best", "last"):
        trainer.save_checkpoint(folder / f"{name}.ckpt", weights_only=False)
    return trainer


def _stage_of(path: Path, stages: Sequence[Stage]) -> int:
    """The stage in which a checkpoint was written."""
    name = checkpoints.read(path)["fmbench"].get("stage", stages[-1].name)
    names = [stage.name for stage in stages]
    if name not in names:
        raise ValueError(
            f"{path} is of stage {name}; this training's are {', '.join(names)}; nothing resumed"
        )
    return names.index(name)


NOISE = (
    r".*does not have many workers.*",  # data.num_workers is the user's to choose
    r".*smaller than the logging interval.*",  # losses are logged for every epoch besides
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning 2.6 with torch 2.14
    r"Total length of `list` across ranks is zero.*",  # no validation: asked for
    r".*custom batch sampler `EvenBatches` for prediction.*",  # it returns every window, in order
    r".*Checkpoint directory .* exists and is not empty.*",  # so it is where a run goes on
)
"""Warnings of Lightning that tell a user of fmbench nothing."""


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's tips and the warnings in NOISE."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in NOISE:
            warnings.filterwarnings("ignore", message)
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Lightning turns Ctrl-C into exit status 1; hand it on as what it was."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop, Stopped) and stop.signal != signal.SIGINT:
            raise
        raise KeyboardInterrupt from stop
