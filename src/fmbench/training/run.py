"""Train one resolved configuration.

The folder of a run holds config.yaml, log/version_N/metrics.csv, checkpoints/{best,last}.ckpt and,
of a model with several stages, stages/<name>/{best,last}.ckpt. `fit` adds val.json and
val-predictions.csv, `fmbench.training.measure.measure` test.json and test-predictions.csv.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.data.statistics import standardize_inputs
from fmbench.files.atomic import on_the_disk_of, remove_halves, write_text
from fmbench.objective import Loss, Optim
from fmbench.registry import create_model, find_model
from fmbench.training.classes import rare_classes
from fmbench.training.console import say
from fmbench.training.lit import Detector
from fmbench.training.logs import open_loggers
from fmbench.training.loop import train_stages
from fmbench.training.measure import measure
from fmbench.training.precision import FLOAT32, with_precision
from fmbench.training.provenance import code_of, git_commit, versions
from fmbench.training.resume import resume_from
from fmbench.training.stamp import stamp, stamp_of_data
from fmbench.training.wandb_logger import TolerantWandbLogger
from fmbench.types import Modality


def fit(
    config: Config,
    *,
    run: str | Path,
    resume: str | Path | None = None,
    force: bool = False,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> Path:
    """Train a model and measure its best checkpoint on the validation part.

    Args:
        config: the resolved configuration.
        run: folder of the run, made if missing.
        resume: a checkpoint to resume from, or "auto" for the newest intact one of the run, if any.
        force: resume although the configuration or the recordings differ from the checkpoint's.
        callbacks: of Lightning, beside fmbench's own.
        loggers: of Lightning, beside fmbench's own.

    Returns:
        The checkpoint that validation chose; without a validation part, the last one.

    Raises:
        ValueError: options or data that do not fit together, a checkpoint of another model or
            training, or a loss or gradient that is not finite.
        OSError: a file cannot be written; its former content is left.
        KeyboardInterrupt: Ctrl-C; the last step is saved.
        Stopped: SIGTERM or SIGUSR1; the last step is saved. A SystemExit.
    """
    for name, other in (("callbacks", "callbacks"), ("logger", "loggers")):
        if name in config.trainer:
            raise ValueError(
                f"trainer.{name} would replace those of fmbench, which write checkpoints and logs;"
                f" give {other}=[...] to fit instead"
            )
    run = Path(run)
    detector, data = _build(config)
    trainer = with_precision(config.trainer)
    start = resume_from(resume, run, detector, force=force)
    if start is None and any(run.rglob("[!.]*.ckpt")):
        raise ValueError(
            f"{run} holds a run already; resume it with --resume auto, or choose another folder"
        )

    run.mkdir(parents=True, exist_ok=True)
    # In the first process only: another one would remove files that the first is writing.
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        remove_halves(run)
        write_text(run / "config.yaml", config.to_yaml())
    size, precision = f"{detector.num_parameters:,} parameters", detector.stamp["precision"]
    say(
        f"{config.model} ({config.modality}, {size}) on {data.description};"
        f" precision {precision}; run: {run}"
    )
    for warning in rare_classes(data):
        say(warning)
    if config.compile:
        detector.model.compile(mode=config.compile)  # in place: the checkpoint's names stay
    detector.started = time.monotonic()
    own = open_loggers(config, run)
    with on_the_disk_of(run):
        trained = train_stages(
            detector,
            data,
            run=run,
            select=config.select,
            options=trainer,
            loggers=[*own, *loggers],
            callbacks=callbacks,
            resume=start,
        )
    for logger in own:
        if isinstance(logger, TolerantWandbLogger) and trained.is_global_zero:
            logger.finish()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()  # one process measures the whole part
        if not trained.is_global_zero:
            return trained.best
    data.release()  # the validation part is held again
    if not data.validates:
        say("there is no validation part: best.ckpt holds the last weights")
        return trained.best
    extra = {
        "fit_seconds": round(detector.seconds, 1),
        "epochs": trained.epochs,
        "steps": trained.steps,
        "code": detector.stamp["code"],
        "config": config.to_plain(),
    }
    options = {"devices": 1} | {
        name: value for name, value in trainer.items() if name in ("accelerator", "precision")
    }
    measure(trained.best, data=config.data, split="val", out=run, trainer=options, extra=extra)
    return trained.best


def _build(config: Config) -> tuple[Detector, FurnaceData]:
    """The detector, its inputs standardised, and its data; seeds the random number generators."""
    modality = Modality(config.modality)
    model_class = find_model(config.model, modality)
    L.seed_everything(config.seed, workers=True, verbose=False)
    data = FurnaceData(**config.data, modality=modality, seed=config.seed)
    can = modality in model_class.dense and data.has_masks
    problem = data.problem(can if config.dense is None else config.dense)
    model = create_model(config.model, problem, **config.net)
    standardize_inputs(model, data.statistics())
    facts = stamp(
        config.model, config.net, problem, config.data, data.description, data.classes
    ) | {
        "config": config.to_plain(),
        **stamp_of_data(data),
        "precision": with_precision(config.trainer).get("precision") or FLOAT32,
        "code": code_of(config.model),
        "git_commit": git_commit(),
        "versions": versions(),
    }
    detector = Detector(
        model,
        problem=problem,
        loss=Loss(**config.loss),
        optim=Optim(**config.optim),
        stamp=facts,
        clip=config.trainer.get("gradient_clip_val"),
    )
    return detector, data
