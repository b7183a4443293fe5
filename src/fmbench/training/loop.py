"""Train a detector stage by stage; each stage is a training of its own that can be resumed."""

from __future__ import annotations

import logging
import math
import signal
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from fmbench.data import FurnaceData
from fmbench.progress import on_terminal
from fmbench.stages import Learn, Solve, Stage, share_epochs
from fmbench.training.checkpoint import AtomicCheckpointIO, stage_folders
from fmbench.training.console import progress_callbacks, say
from fmbench.training.guard import Best, Guard, Killable, Stopped
from fmbench.training.lit import Detector, EpochMeans
from fmbench.training.processes import watch_processes
from fmbench.training.resume import Start

LOWER_IS_BETTER = ("loss", "fdr", "mdr")
"""Endings of the metrics whose smallest value is the best; of all others the largest is."""

AT_CHANCE = 0.55
"""An AUROC below this is called chance: guesses over 1,000 windows stay below it 99.7 % of the time
(standard error 0.018)."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The outcome of a training.

    Attributes:
        best: the checkpoint that validation chose; without a validation part, the last one.
        epochs: completed in all stages.
        steps: of all optimizers.
        is_global_zero: whether this process is the first of its training.
    """

    best: Path
    epochs: int
    steps: int
    is_global_zero: bool


def train_stages(
    detector: Detector,
    data: FurnaceData,
    *,
    run: Path,
    select: str,
    options: Mapping[str, Any],
    loggers: list[Logger],
    callbacks: Sequence[Callback] = (),
    resume: Start | None = None,
) -> Trained:
    """Train every stage of the detector, writing `best.ckpt` and `last.ckpt` of each.

    Args:
        detector: to train; on `resume` it holds the checkpoint's weights already.
        data: every stage trains on its training windows.
        run: folder of the run.
        select: validation metric that chooses the best checkpoint of the last stage.
        options: of Lightning's Trainer; the stages share its `max_epochs`.
        loggers: of the run.
        callbacks: of the caller, beside those of every training.
        resume: where the training resumes.

    Raises:
        ValueError: several stages and no `max_epochs` to share.
    """
    stages = detector.stages
    epochs = _epochs(stages, options.get("max_epochs"))
    folders = stage_folders(run, stages)
    first = resume.stage if resume else 0
    total_epochs = total_steps = 0
    for k in range(first, len(stages)):
        stage, last = stages[k], k == len(stages) - 1
        if len(stages) > 1:
            say(f"stage {k + 1} of {len(stages)}: {stage.name}")
            detector.stamp["stage"] = stage.name
        checked = isinstance(stage, Learn) and stage.check is not None
        detector.enter(stage)
        engine = {
            "default_root_dir": run,
            "enable_model_summary": False,
            "use_distributed_sampler": False,  # FurnaceData distributes the windows
            "plugins": [AtomicCheckpointIO()],
            **options,
        }
        with quiet(), interruptible():
            if isinstance(stage, Solve):
                trainer = _solve(detector, data, folders[k], engine, callbacks)
            else:
                engine |= {"max_epochs": epochs[k], "logger": loggers}
                engine |= {} if last or checked else {"limit_val_batches": 0}
                monitor = select if last and data.validates else None
                start = resume.checkpoint if resume and k == first else None
                trainer = _learn(detector, data, folders[k], engine, monitor, start, callbacks)
        if checked:
            say(outcome(stage.name, detector.checked))
        if trainer.is_global_zero:  # only an unfinished stage resumes from it
            (folders[k] / "previous.ckpt").unlink(missing_ok=True)
        total_epochs += trainer.current_epoch
        total_steps += trainer.global_step
    return Trained(
        best=folders[-1] / "best.ckpt",
        epochs=total_epochs,
        steps=total_steps,
        is_global_zero=trainer.is_global_zero,
    )


def outcome(name: str, auroc: float) -> str:
    """What a stage with a check has learnt, in a line."""
    if math.isnan(auroc):
        return f"stage {name}: not checked, because validation has no windows of both classes"
    if auroc < AT_CHANCE:
        return (
            f"stage {name} ENDS AT CHANCE: AUROC {auroc:.3f} on validation, where guessing has 0.5."
            " The later stages build on it: train longer, or at another learning rate"
        )
    return f"stage {name}: AUROC {auroc:.3f} on validation"


def _epochs(stages: Sequence[Stage], max_epochs: int | None) -> Sequence[int | None]:
    """The `max_epochs` of each stage; a single stage takes whatever the Trainer accepts."""
    if len(stages) == 1:
        return [max_epochs]
    if max_epochs is None or max_epochs < 1:
        raise ValueError(
            f"{len(stages)} stages share trainer.max_epochs; it is {max_epochs}, but must be a"
            " number of at least 1"
        )
    return share_epochs(stages, max_epochs)


def _learn(
    detector: Detector,
    data: FurnaceData,
    folder: Path,
    options: dict[str, Any],
    monitor: str | None,
    resume: Path | None,
    others: Sequence[Callback],
) -> L.Trainer:
    """Train one stage by gradient; `monitor` is None where the stage is not validated."""
    best = Best(
        folder,
        filename="best",
        monitor=monitor,
        mode="min" if (monitor or "").endswith(LOWER_IS_BETTER) else "max",
        enable_version_counter=False,
    )
    callbacks = [EpochMeans(), LearningRateMonitor("step"), *progress_callbacks(), *others]
    options = {
        "log_every_n_steps": 10,
        "num_sanity_val_steps": 0,
        "callbacks": [*callbacks, best, Guard(folder)],
        "enable_progress_bar": on_terminal(),
        **options,
    }
    if not detector.automatic_optimization:
        options.pop("gradient_clip_val", None)  # the detector clips
        if isinstance(L.Trainer(**options).strategy, DDPStrategy):
            # A turn uses only some of the parameters.
            options["strategy"] = "ddp_find_unused_parameters_true"
    trainer = L.Trainer(**options)
    with watch_processes(trainer):
        trainer.fit(detector, datamodule=data, ckpt_path=resume, weights_only=True)
    return trainer


def _solve(
    detector: Detector,
    data: FurnaceData,
    folder: Path,
    options: dict[str, Any],
    others: Sequence[Callback],
) -> L.Trainer:
    """Pass once over the training windows; `best.ckpt` and `last.ckpt` both hold the solution."""
    options = {
        **options,
        "logger": False,
        "enable_checkpointing": False,
        "callbacks": [*progress_callbacks(), *others, Killable()],
        "enable_progress_bar": on_terminal(),
        "limit_predict_batches": options.get("limit_train_batches"),
    }
    trainer = L.Trainer(**options)
    with watch_processes(trainer):
        trainer.predict(detector, datamodule=data, return_predictions=False, weights_only=True)
    for name in ("best", "last"):
        trainer.save_checkpoint(folder / f"{name}.ckpt", weights_only=False)
    return trainer


NOISE = (
    r".*does not have many workers.*",  # data.num_workers is the user's choice
    r".*smaller than the logging interval.*",  # losses are also logged once per epoch
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # Lightning 2.6 with torch 2.14
    r"Total length of `list` across ranks is zero.*",  # a training without validation
    r".*custom batch sampler `EvenBatches` for prediction.*",  # it returns all windows in order
    r".*Checkpoint directory .* exists and is not empty.*",  # always so in a resumed run
)
"""Lightning's warnings that do not concern a user of fmbench."""


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Lightning's tips and the warnings in NOISE."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in NOISE:
            warnings.filterwarnings("ignore", message)
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, which Lightning turns into exit status 1."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop, Stopped) and stop.signal != signal.SIGINT:
            raise
        raise KeyboardInterrupt from stop
