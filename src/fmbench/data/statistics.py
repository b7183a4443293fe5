"""Mean and standard deviation of the training inputs, with which models standardise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fmbench.data.dataset import WindowDataset
from fmbench.data.recording import upright_frames
from fmbench.nn import Standardize

_FRAMES = 2000
"""Evenly spaced frames; enough for mean and deviation of three channels."""


_CONSTANT = 1e-6
"""Deviation of a constant channel as a share of its mean; float32 resolves 1e-7."""


class Statistics(NamedTuple):
    """Per channel over the training part; None for a modality that is not used."""

    video_mean: Tensor | None
    """(3,) float32, 0-255."""
    video_std: Tensor | None
    """(3,) float32, 0-255."""
    current_mean: Tensor | None
    """(C,) float32, amperes, or the channels' units."""
    current_std: Tensor | None
    """(C,) float32, the same; 1 for a constant channel of another unit than A, as a set-point."""


def measure_inputs(windows: WindowDataset) -> Statistics:
    """Mean and standard deviation of frames and samples of `windows`.

    Video: the last frames of up to 2000 evenly spaced windows. Current: the samples of the second
    in which each window ends, each sample once.
    """
    video = _of_frames(windows.evenly(_FRAMES)) if windows.modality.has_video else (None, None)
    current = _of_currents(windows) if windows.modality.has_current else (None, None)
    return Statistics(*video, *current)


def standardize_inputs(model: nn.Module, statistics: Statistics) -> None:
    """Write statistics into a model, which standardises its inputs with them.

    Args:
        model: its `fmbench.nn.Standardize` modules take them.
        statistics: of `FurnaceData.statistics`.
    """
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


def _of_currents(windows: WindowDataset) -> tuple[Tensor, Tensor]:
    plant = windows.spec.plant
    seen = np.zeros(len(windows.amperes) + 1, np.int64)
    np.add.at(seen, np.maximum(windows.end - plant.samples, windows.base[windows.which]), 1)
    np.add.at(seen, windows.end, -1)
    rows = windows.amperes[np.cumsum(seen)[:-1] > 0].astype(np.float64)
    mean, std = rows.mean(0), rows.std(0)
    if plant.channels:
        others = np.array([each.unit != "A" for each in plant.channels])
        std = np.where(others & (std <= _CONSTANT * np.abs(mean)), 1.0, std)
    return torch.tensor(mean).float(), torch.tensor(std).float()


def _of_frames(windows: WindowDataset) -> tuple[Tensor, Tensor]:
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for recording, rows in windows.runs(windows.which):
        frames = windows.frame[rows]
        for start in range(0, len(frames), 64):
            values = upright_frames(recording, frames[start : start + 64]).astype(np.float64)
            total += values.sum((0, 2, 3))
            squares += np.square(values).sum((0, 2, 3))
            count += values.size // 3
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return torch.tensor(mean).float(), torch.tensor(deviation).float()
