"""What a checkpoint says of its model and its data, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fmbench.data import FurnaceData
from fmbench.format.plant import plant_content, read_plant
from fmbench.types import BENCHMARK, Problem


def stamp(
    model: str,
    net: Mapping[str, Any],
    problem: Problem,
    data: Mapping[str, Any],
    trained_on: str,
    classes: Sequence[str] = BENCHMARK.classes,
) -> dict[str, Any]:
    """The `fmbench` entry of a checkpoint.

    Args:
        model: registered name.
        net: the hyperparameters that were set.
        problem: the problem that the model was built for.
        data: options of the training's `FurnaceData`, the defaults of `test` and `predict`.
        trained_on: one line that describes the data, and states if it was simulated.
        classes: their names, in the order of the problem's K classes.
    """
    plain = asdict(problem) | {
        "modality": str(problem.modality),
        "image_size": list(problem.image_size),
    }
    kept = {key: str(value) if isinstance(value, Path) else value for key, value in data.items()}
    return {
        "model": model,
        "net": dict(net),
        "problem": plain,
        "data": kept,
        "trained_on": trained_on,
        "classes": list(classes),
    }


def stamp_of_data(data: FurnaceData) -> dict[str, Any]:
    """Further entries of the `fmbench` entry: the plant and the fingerprint of a data set."""
    opened = data.opened
    plant = replace(read_plant(opened.folder), frame_size=opened.recordings[0].size)
    return {"plant": plant_content(plant), "data_fingerprint": data.fingerprint()}
