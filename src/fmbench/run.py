"""One resolved config -> fit and test.

A run has its own folder: config.yaml, log/version_N/metrics.csv, checkpoints/{best,last}.ckpt,
val.json after `fit`, test.json and test-predictions.csv after `test`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L
import pandas as pd
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from fmbench import checkpoint as checkpoints
from fmbench.atomic import on_the_disk_of, remove_halves, write_text
from fmbench.checkpoint import load
from fmbench.config import flat
from fmbench.data import FurnaceData
from fmbench.guard import Killable
from fmbench.lit import Detector, Loss, Optim
from fmbench.nn import Standardize
from fmbench.progress import describe, say
from fmbench.provenance import git_commit, versions
from fmbench.ranks import together
from fmbench.registry import create_model, find_model
from fmbench.tracker import Tracker, track
from fmbench.train import interruptible, places, quiet, train
from fmbench.types import Modality

__all__ = ["Config", "curve", "fit", "load", "test"]


NO_OTHER_RUN = (
    "logger",
    "compile",
    "data.root",
    "data.num_workers",
    "optim.fused",
    "net.checkpoint",
)
"""Options that make no other training: where the data lies, who loads it, where the log goes, how
fast it is computed."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training, resolved.

    Attributes:
        model: registered name.
        modality: current, visual or cross.
        dense: whether a mask is asked for; where not said, if model and data both have masks.
        seed: of weights, data order and augmentation.
        select: validation metric that picks the best checkpoint.
        logger: csv (needs nothing), or wandb as well (works offline with WANDB_MODE=offline).
        compile: mode of torch.compile for the model, or none: default, reduce-overhead (CUDA
            graphs) or max-autotune. Pays where one training takes longer than the compiling.
        net: options of the model.
        data: options of `FurnaceData`.
        optim: options of `Optim`.
        loss: options of `Loss`.
        trainer: options of Lightning's Trainer.
    """

    model: str = "fmformer"
    modality: str = "cross"
    dense: bool | None = None
    seed: int = 0
    select: str = "val/f1"
    logger: Literal["csv", "wandb"] = "csv"
    compile: Literal["default", "reduce-overhead", "max-autotune"] | None = None
    net: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    optim: Mapping[str, Any] = field(default_factory=dict)
    loss: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)

    def to_yaml(self) -> str:
        """A file that `fit --config` resolves to the same Config; empty groups are left out."""
        values = {name: value for name, value in _plain(asdict(self)).items() if value != {}}
        return yaml.safe_dump(values, sort_keys=False)


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
    standardize(model, data)
    about = checkpoints.stamp(config.model, config.net, problem, config.data, data.description) | {
        "config": _plain(asdict(config)),
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
    start = _resume_from(resume, run, detector, force=force)
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
        "config": _plain(asdict(config)),
    }
    here = {
        key: config.trainer[key] for key in ("accelerator", "precision") if key in config.trainer
    }
    here |= {"devices": 1}
    test(done.best, data=config.data, split="val", out=run, trainer=here, extra=extra)
    return done.best


def test(
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


def standardize(model: torch.nn.Module, data: FurnaceData) -> None:
    """Give the model's `Standardize` modules the statistics of the training part."""
    statistics = data.statistics()
    measured = {
        "video": (statistics.video_mean, statistics.video_std),
        "current": (statistics.current_mean, statistics.current_std),
    }
    for module in model.modules():
        if isinstance(module, Standardize):
            mean, std = measured[module.source]
            assert mean is not None, f"no statistics of {module.source}"
            assert std is not None
            module.set_statistics(mean, std)


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


UNTIL_WHEN = re.compile(
    r"trainer\.(max_epochs|max_steps|max_time|accelerator|devices|num_nodes|strategy)"
)
"""On what a training runs, and until when: it may go on with others of these, and of
NO_OTHER_RUN."""


def _resume_from(
    resume: str | Path | None, run: Path, detector: Detector, *, force: bool
) -> Path | None:
    """The checkpoint to go on from, seen to be of the same training."""
    if resume is None:
        return None
    if str(resume) == "auto":
        found = _newest(run, detector)
        if found is None:
            say(f"nothing to resume in {run}; starting anew")
            return None
        path, content = found
    else:
        path = Path(resume)
        content = checkpoints.read(path)
    about = content["fmbench"]
    for key in ("model", "problem"):
        was, now = about[key], detector.stamp[key]
        if was != now:
            raise ValueError(f"{path}: its {key} is {was}, this run's is {now}; nothing resumed")
    changed = _changed(about, detector.stamp)
    if changed and not force:
        listed = [*changed[:3], *([f"and {len(changed) - 3} more"] if len(changed) > 3 else [])]
        raise ValueError(
            f"{path}: of another training; nothing resumed. --force goes on all the same\n"
            + "\n".join(listed)
        )
    checkpoints.load_weights(detector, content["state_dict"], path)
    detector.stamp["seconds"] = about.get("seconds", 0)
    detector.resumed = content.get("processes", [])
    return path


def _newest(run: Path, detector: Detector) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a run that is whole, and its content.

    Raises:
        ValueError: there are some, and none is whole.
    """
    made = [
        folder / f"{name}.ckpt"
        for folder in reversed(places(run, detector.stages))
        for name in ("last", "previous", "best")
    ]
    broken = None
    for path in made:
        if path.is_file():
            try:
                return path, checkpoints.read(path)
            except ValueError as error:
                say(str(error).partition("\n")[0] + "; the one before it is tried")
                broken = error
    if broken is not None:
        raise broken
    return None


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two trainings, a line each; nothing of checkpoints before 0.2."""
    if "config" not in was:
        return []
    before, after = flat(was["config"]), flat(now["config"])
    lines = [
        f"{name} is {after.get(name)!r}, was {before.get(name)!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
        and name not in NO_OTHER_RUN
        and not UNTIL_WHEN.fullmatch(name)
    ]
    if was["data_fingerprint"] != now["data_fingerprint"]:
        lines.append(f"the recordings are {now['trained_on']}, were {was['trained_on']}")
    return lines


def _loggers(config: Config, run: Path) -> list[Logger]:
    loggers: list[Logger] = [CSVLogger(run, name="log")]
    if config.logger == "wandb":
        loggers.append(track(run, flat(_plain(asdict(config)))))  # a sweep names parameters so
    return loggers


def _plain(value: Any) -> Any:
    """Only what YAML and JSON know."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)
