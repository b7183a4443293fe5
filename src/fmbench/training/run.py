"""One resolved config -> fit and test.

A run has its own folder: config.yaml, log/version_N/metrics.csv, checkpoints/{best,last}.ckpt,
val.json after `fit`, test.json and test-predictions.csv after `test`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pandas as pd
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from fmbench.config.dotted import flat
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.data.statistics import standardize_inputs
from fmbench.files.atomic import on_the_disk_of, remove_halves, write_text
from fmbench.objective import Loss, Optim
from fmbench.registry import create_model, find_model
from fmbench.training import checkpoint as checkpoints
from fmbench.training.checkpoint import load
from fmbench.training.guard import Killable
from fmbench.training.lit import Detector
from fmbench.training.loop import interruptible, quiet, train
from fmbench.training.processes import together
from fmbench.training.progress import describe, say
from fmbench.training.provenance import git_commit, versions
from fmbench.training.resume import resume_from
from fmbench.training.wandb_logger import Tracker, track
from fmbench.types import Modality

__all__ = ["curve", "fit", "load", "measure"]


def fit(
    config: Config, *, run: Path, resume: str | Path | None = None, force: bool = False
) -> Path:
    """Train; returns the best checkpoint by validation.

    Args:
        config: what to train, on what, how.
        run: folder of the run, made if missing.
        resume: a checkpoint to go on from, or "auto" for the run's newest that is whole, if any.
        force: go on although configuration or recordings are others than the checkpoint's.

    Raises:
        ValueError: options or data that do not fit together, a checkpoint of another model or
            training, or a loss or gradient that is not finite.
        OSError: a file cannot be written; what was there is left.
        KeyboardInterrupt: Ctrl-C; the step is saved.
        Stopped: SIGTERM or SIGUSR1, likewise; a SystemExit.
    """
    modality = Modality(config.modality)
    model_class = find_model(config.model, modality)
    L.seed_everything(config.seed, workers=True, verbose=False)
    data = FurnaceData(**config.data, modality=modality, seed=config.seed)
    can = modality in model_class.dense and data.has_masks
    problem = data.problem(can if config.dense is None else config.dense)
    model = create_model(config.model, problem, **config.net)
    standardize_inputs(model, data.statistics())
    about = checkpoints.stamp(config.model, config.net, problem, config.data, data.description) | {
        "config": config.to_plain(),
        "data_fingerprint": data.fingerprint(),
        "git_commit": git_commit(),
        "versions": versions(),
    }
    detector = Detector(
        model,
        problem=problem,
        loss=Loss(**config.loss),
        optim=Optim(**config.optim),
        stamp=about,
        clip=config.trainer.get("gradient_clip_val"),
    )
    start = resume_from(resume, run, detector, force=force)
    if start is None and any(run.rglob("[!.]*.ckpt")):
        raise ValueError(f"{run} holds a run already; go on with --resume auto, or choose another")

    run.mkdir(parents=True, exist_ok=True)
    # By one process alone: another would remove what it is writing.
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        remove_halves(run)
        write_text(run / "config.yaml", config.to_yaml())
    say(f"{config.model} ({modality}, {describe(detector)}) on {data.description}; run: {run}")
    if config.compile:
        model.compile(mode=config.compile)  # in place: a checkpoint has the same names
    detector.began = time.monotonic()
    loggers = _loggers(config, run)
    with on_the_disk_of(run):
        done = train(
            detector,
            data,
            run=run,
            select=config.select,
            options=config.trainer,
            loggers=loggers,
            resume=start,
        )
    for logger in loggers:
        if isinstance(logger, Tracker) and done.is_global_zero:
            logger.finish()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()  # one process measures, over the whole part
        if not done.is_global_zero:
            return done.best
    if not data.validates:
        say("no part to validate on: best.ckpt holds the last weights, chosen by nothing")
        return done.best
    extra = {
        "fit_seconds": round(detector.seconds, 1),
        "epochs": done.epochs,
        "steps": done.steps,
        "config": config.to_plain(),
    }
    here = {
        key: config.trainer[key] for key in ("accelerator", "precision") if key in config.trainer
    }
    here |= {"devices": 1}
    measure(done.best, data=config.data, split="val", out=run, trainer=here, extra=extra)
    return done.best


def measure(
    checkpoint: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    split: Literal["val", "test"] = "test",
    out: Path | None = None,
    trainer: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Measure a checkpoint on recordings; returns metrics by name.

    Writes `<split>.json` and `<split>-predictions.csv` (recording, frame, time, and what
    `fmbench.metrics.of_each_window` keeps) into `out`, by default the run's folder.

    Args:
        checkpoint: a file that `fit` or `import_official` wrote.
        data: options of `FurnaceData` that differ from those of the training.
        split: the part to measure on.
        out: folder of the results.
        trainer: options of Lightning's Trainer (devices, precision, …).
        extra: further entries for the results.

    Raises:
        ValueError: not a checkpoint of ours, or data that it cannot read.
    """
    detector = load(checkpoint)
    about = detector.stamp
    part = open_data(detector, data)
    say(f"{about['model']} ({detector.problem.modality}), {split} part of {part.description}")
    part.judged = split
    with quiet(), interruptible():
        engine = L.Trainer(
            **(trainer or {}),
            callbacks=[Killable()],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
        )
        with together(engine):
            engine.test(detector, datamodule=part, verbose=False)
    metrics = detector.rates
    if engine.world_size > 1:
        distributed.destroy_process_group()
        if not engine.is_global_zero:
            return metrics
    folder = out or run_folder(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    columns = {name: column.numpy() for name, column in detector.tested.items()}
    table = part.table(split).assign(**columns)
    lines = table.to_csv(index=False, float_format="%.6g")
    write_text(folder / f"{split}-predictions.csv", lines)
    result = {
        "model": about["model"],
        "problem": about["problem"],
        "parameters": detector.num_parameters,
        "split": split,
        "data": part.description,
        "synthetic": part.synthetic,
        "trained_on": about["trained_on"],
        "metrics": metrics,
        **(extra or {}),
        "checkpoint": str(checkpoint),
        "data_fingerprint": part.fingerprint(),
        "git_commit": git_commit(),
        "versions": versions(),
    }
    write_text(folder / f"{split}.json", json.dumps(result, indent=2) + "\n")
    return metrics


def open_data(detector: Detector, options: Mapping[str, Any] | None) -> FurnaceData:
    """The data module for a loaded detector: as in its training, save for `options`.

    Raises:
        ValueError: recordings that the detector cannot read.
    """
    chosen = {**detector.stamp["data"], **(options or {})}
    data = FurnaceData(**chosen, modality=detector.problem.modality)
    found = data.problem(detector.problem.dense and data.has_masks)
    if found.current_channels != detector.problem.current_channels:
        raise ValueError(
            f"the recordings have {found.current_channels} phases of current, "
            f"the checkpoint was trained on {detector.problem.current_channels}"
        )
    return data


def run_folder(checkpoint: str | Path) -> Path:
    """The run that a checkpoint belongs to, or the folder that it stands in."""
    folder = Path(checkpoint).resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder


def curve(run: Path, metric: str) -> list[float]:
    """What was logged of a metric, epoch after epoch, over all parts of a resumed run."""
    logs = sorted(run.glob("log/version_*/metrics.csv"), key=lambda path: int(path.parent.name[8:]))
    seen: dict[int, float] = {}
    for path in logs:
        table = pd.read_csv(path)
        if metric in table:
            known = table.dropna(subset=[metric])
            seen |= dict(zip(known["epoch"].astype(int), known[metric].astype(float), strict=True))
    return [seen[epoch] for epoch in sorted(seen)]


def _loggers(config: Config, run: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(run, name="log")]
    if config.logger == "wandb":
        loggers.append(track(run, flat(config.to_plain())))  # a sweep names parameters so
    return loggers
