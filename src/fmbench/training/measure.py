"""Measure a checkpoint on recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
from torch import distributed

from fmbench.data import FurnaceData
from fmbench.files.atomic import write_text
from fmbench.training.checkpoint import load
from fmbench.training.console import say
from fmbench.training.guard import Killable
from fmbench.training.lit import Detector
from fmbench.training.loop import interruptible, quiet
from fmbench.training.precision import with_precision
from fmbench.training.processes import watch_processes
from fmbench.training.provenance import git_commit, versions
from fmbench.types import BENCHMARK, Channel, Problem


def measure(
    checkpoint: str | Path,
    *,
    data: Mapping[str, Any] | None = None,
    split: Literal["val", "test"] = "test",
    out: Path | None = None,
    trainer: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Measure a checkpoint on recordings.

    Writes `<split>.json` and `<split>-predictions.csv` (per window recording, frame, time and the
    columns of `fmbench.metrics.of_each_window`).

    Args:
        checkpoint: a file that `fit` or `import_official` wrote.
        data: options of `FurnaceData` that differ from those of the training.
        split: the part to measure on.
        out: folder of the results, by default the run's.
        trainer: options of Lightning's Trainer (devices, precision, …), by default those of
            Lightning: float32, whatever the precision of the training.
        extra: further entries of the JSON file.

    Returns:
        Mean loss, rates as fractions and window counts by name, as `DetectionMetrics.compute`.

    Raises:
        ValueError: not a checkpoint of fmbench, or recordings that its model cannot read.
        OSError: a result cannot be written.
    """
    detector = load(checkpoint)
    part = open_data(detector, data)
    name = detector.stamp["model"]
    say(f"{name} ({detector.problem.modality}), {split} part of {part.description}")
    part.judged = split
    with quiet(), interruptible():
        engine = L.Trainer(
            **with_precision(trainer or {}),
            callbacks=[Killable()],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
        )
        with watch_processes(engine):
            engine.test(detector, datamodule=part, verbose=False)
    metrics = detector.measured
    if engine.world_size > 1:
        distributed.destroy_process_group()
        if not engine.is_global_zero:
            return metrics
    folder = out or _run_folder(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    columns = {column: values.numpy() for column, values in detector.columns.items()}
    table = part.table(split).assign(**columns)
    lines = table.to_csv(index=False, float_format="%.6g")
    write_text(folder / f"{split}-predictions.csv", lines)
    result = {
        "model": name,
        "problem": detector.stamp["problem"],
        "parameters": detector.num_parameters,
        "split": split,
        "data": part.description,
        "synthetic": part.synthetic,
        "trained_on": detector.stamp["trained_on"],
        "metrics": metrics,
        "precision": str(engine.precision),
        **(extra or {}),
        "checkpoint": str(checkpoint),
        "data_fingerprint": part.fingerprint(),
        "git_commit": git_commit(),
        "versions": versions(),
    }
    write_text(folder / f"{split}.json", json.dumps(result, indent=2) + "\n")
    return metrics


def open_data(detector: Detector, options: Mapping[str, Any] | None) -> FurnaceData:
    """Open the data of a loaded detector with the options of its training, updated by `options`.

    Raises:
        ValueError: recordings of other classes than the model predicts, or with other channels or
            rates than it reads.
    """
    given = options or {}
    chosen = {**detector.stamp["data"], **given, "root": data_root(detector.stamp["data"], given)}
    for seconds, count in (("clip_seconds", "stride"), ("current_seconds", "current_samples")):
        if count in given and seconds not in given:
            chosen[seconds] = None
    data = FurnaceData(**chosen, modality=detector.problem.modality)
    # Recordings without labels need no root.yaml.
    stated = data.opened.recordings[0].has_labels or data.classes != BENCHMARK.classes
    if stated and data.classes != detector.classes:
        raise ValueError(
            f"the recordings have the classes {', '.join(data.classes)}; the checkpoint was trained"
            f" on {', '.join(detector.classes)} (root.yaml states the classes of a data set)"
        )
    found = data.problem(detector.problem.dense and data.has_masks)
    if found.current_channels != detector.problem.current_channels:
        raise ValueError(
            f"the recordings have {found.current_channels} phases of current, "
            f"the checkpoint was trained on {detector.problem.current_channels}"
        )
    _refuse_other_rates(detector.problem, found, data.opened.folder)
    trained_on = detector.stamp.get("plant", {}).get("channels")
    if trained_on and detector.problem.modality.has_current:
        own = [Channel(**each) for each in trained_on]
        if own != list(data.opened.plant.channels):
            raise ValueError(
                f"the recordings have the channels {_listed(data.opened.plant.channels)}, the"
                f" checkpoint was trained on {_listed(own)}: ingest the recordings with its"
                " channels (root.yaml), or train anew on these"
            )
    wanted, stored = detector.problem.image_size, found.image_size
    if detector.problem.modality.has_video and wanted != stored:
        size = list(wanted if data.axes == "image" else wanted[::-1])
        raise ValueError(
            f"the frames are {stored[0]} x {stored[1]}, the checkpoint was trained on {wanted[0]} x"
            f" {wanted[1]}: give --data.image_size '{size}' --data.fit resize (or pad)"
        )
    return data


def _listed(channels: Sequence[Channel]) -> str:
    return ", ".join(f"{each.name} [{each.unit}]" for each in channels) or "of no name"


def _refuse_other_rates(trained: Problem, found: Problem, folder: Path) -> None:
    """Raises: ValueError: an input that the model reads has another rate."""
    for what, read, own, other in (
        ("frames", trained.modality.has_video, trained.frame_rate, found.frame_rate),
        ("samples", trained.modality.has_current, trained.current_rate, found.current_rate),
    ):
        if read and own != other:
            raise ValueError(
                f"{folder} has {other:g} {what} a second, the checkpoint was trained on {own:g}: "
                "ingest the recordings at its rates (root.yaml), or train anew on these"
            )


def data_root(trained: Mapping[str, Any], options: Mapping[str, Any]) -> Path:
    """The root that `options` name, else that of the training, whose options are `trained`.

    Raises:
        ValueError: the training's root is needed and not there.
    """
    if "root" in options:
        return Path(options["root"])
    root = str(trained.get("root", "data/sim"))
    if "root" in trained and not Path(root).is_dir():
        raise ValueError(
            f"the checkpoint was trained on {root}, which is no longer there; name the folder of a"
            " data set by --data.root"
        )
    return Path(root)


def _run_folder(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint's run; of a checkpoint outside a run, its own folder."""
    folder = Path(checkpoint).resolve().parent
    return folder.parent if folder.name == "checkpoints" else folder
