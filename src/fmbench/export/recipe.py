"""recipe.json: what an export's inputs and outputs are, for programs that do not have fmbench."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fmbench.alarms.file import Alarms
from fmbench.data import FurnaceData
from fmbench.files.checksum import sha256
from fmbench.training.lit import Detector


def recipe_of(
    detector: Detector,
    checkpoint: Path,
    data: FurnaceData,
    *,
    file: str,
    quantize: str | None,
    alarms: Alarms | None = None,
) -> dict[str, Any]:
    """The content of recipe.json: plain values, no path of a machine.

    Args:
        detector: the exported one.
        checkpoint: its file.
        data: recordings that the detector can read, opened with the options of its training.
        file: name of the model's file.
        quantize: the quantization, if any.
        alarms: the alarm rule of the checkpoint, if one was chosen.
    """
    problem, plant, spec = detector.problem, data.opened.plant, data.spec
    trained_on = str(detector.stamp["trained_on"])
    inputs: dict[str, Any] = {}
    if problem.modality.has_video:
        inputs["video"] = {
            "shape": ["B", 3, problem.frames, *problem.image_size],
            "axes": "batch, RGB, frames (oldest first), height, width"
            if data.axes == "image"
            else "batch, RGB, frames (oldest first), width, height",
            "dtype": "uint8",
            "unit": "grey levels, 0-255",
        }
    if problem.modality.has_current:
        names = plant.channels or [(f"phase {k + 1}", "A") for k in range(problem.current_channels)]
        inputs["current"] = {
            "shape": ["B", problem.current_samples, problem.current_channels],
            "axes": "batch, samples (oldest first), channels",
            "dtype": "float32",
            "channels": [{"name": name, "unit": unit} for name, unit in names],
        }
    return {
        "recipe_version": 1,
        "model": detector.stamp["model"],
        "modality": str(problem.modality),
        "file": file,
        "precision": "int8 weights, dynamic" if quantize else "float32",
        "inputs": inputs,
        "outputs": outputs_of(detector),
        "classes": list(detector.classes),
        "decision": {
            "class": "index of the largest probability; 0 is normal",
            "abnormal_score": "1 - probabilities[:, 0]",
            "threshold": 0.5,
            "alarm_rule": alarms and _alarm_rule(alarms),
        },
        "window": _window(data, problem.modality.has_video, problem.modality.has_current),
        "frames": _frames(data, spec.plant.frame_size) if problem.modality.has_video else None,
        "trained_on": trained_on,
        "simulated": detector.trained_on_simulated,
        "checkpoint": {"sha256": sha256(checkpoint)},
    }


def outputs_of(detector: Detector) -> dict[str, Any]:
    """Name, shape and dtype of each output, in order."""
    problem = detector.problem
    found = {"probabilities": {"shape": ["B", problem.num_classes], "axes": "batch, class"}}
    if problem.dense:
        shape = ["B", problem.num_classes, *problem.image_size]
        found["mask"] = {"shape": shape, "axes": "batch, class, then as video"}
    return {name: {**each, "dtype": "float32"} for name, each in found.items()}


def _alarm_rule(alarms: Alarms) -> dict[str, Any]:
    """The rule, and the temperature that its scores need."""
    return {
        "score": "1 - softmax(log(probabilities) / temperature)[:, 0]",
        "temperature": alarms.temperature,
        **asdict(alarms.rule),
        "budget": alarms.budget,
        "budget_met": alarms.budget_met,
    }


def _window(data: FurnaceData, video: bool, current: bool) -> dict[str, Any]:
    spec, plant = data.spec, data.spec.plant
    found: dict[str, Any] = {"ends_at": "the instant that is classified"}
    if video:
        found |= {
            "frames": spec.frames,
            "stride": spec.stride,
            "frame_rate": plant.frame_rate,
            "clip_seconds": (spec.frames - 1) * spec.stride / plant.frame_rate,
            "early": spec.early,
        }
    if current:
        found |= {
            "current_samples": spec.current_samples,
            "current_rate": plant.current_rate,
            "current_seconds": spec.current_samples / plant.current_rate,
            "history": spec.history,
            "gaps": spec.gaps,
            "causal": spec.causal,
        }
    return found


def _frames(data: FurnaceData, stated: tuple[int, int] | None) -> Mapping[str, Any]:
    """Size of the recordings' frames, and how they get the size of the input."""
    height, width = stated or data.opened.recordings[0].size
    fit = None if data.fit is None else data.fit.way
    return {"recorded_size": [height, width], "fit": fit, "region": None}
