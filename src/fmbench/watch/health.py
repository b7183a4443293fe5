"""What cannot be trusted at present: camera, currents, clocks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fmbench.format.columns import Currents
from fmbench.health import Failed, Looks, failed_currents, failed_frames, look
from fmbench.nn import Standardize
from fmbench.types import Plant

REMEMBERED = 60
"""Looks, one a second, by which the camera is judged."""
DARK = (Failed.BLACK, Failed.UNIFORM, Failed.CAPPED)
SOON = 2
"""Looks after which a picture without content is one; a frozen or saturated one takes longer."""
FAR = 20.0
"""Standard deviations of the training from its mean: a sample beyond is no current of this plant.
A short circuit of the simulated furnace is 7 away."""
NO_FAILURE = (Failed.OFF, Failed.SMALL)
"""The furnace is off: the model has to know it."""


class Camera:
    """Judges pictures, one a second.

    Args:
        clip_seconds: of a clip; a clip that still shows a failure is not judged.
    """

    def __init__(self, clip_seconds: float) -> None:
        self._looks: deque[Looks] = deque(maxlen=REMEMBERED)
        self._before: NDArray[np.uint8] | None = None
        self._shown = math.ceil(clip_seconds)

    def see(self, small: NDArray[np.uint8]) -> None:
        """The picture (3, H, W) of the next second."""
        self._looks.append(look(small[None], self._before))
        self._before = small

    def forget(self) -> None:
        """The stream was lost: the next picture has no one before it."""
        self._looks.clear()
        self._before = None

    def failure(self) -> str:
        """What has failed, and is seen in the newest clip; empty if nothing is."""
        if not self._looks:
            return ""
        looks = Looks.joined(list(self._looks))
        end = len(looks.level) - self._shown
        for found in failed_frames(looks):
            if found.stop >= end:
                return found.what
        for found in failed_frames(looks, SOON / 5):  # a failure takes 2 looks, not 5
            if found.kind in DARK and found.stop >= end:
                return found.what
        return ""


class CurrentRange:
    """Mean and deviation of the currents of the training, which a checkpoint stores.

    Args:
        model: the network of a detector.
        phases: number of channels.

    Attributes:
        mean: (C,) of each channel; None if it is not known.
    """

    def __init__(self, model: nn.Module, phases: int) -> None:
        self.mean: NDArray[np.float32] | None = None
        for module in model.modules():
            if isinstance(module, Standardize) and module.source == "current":
                mean, std = module.mean.numpy(), module.std.numpy()
                if len(mean) == phases and not (np.allclose(mean, 0) and np.allclose(std, 1)):
                    self.mean, self._std = mean, std

    def outside(self, newest: NDArray[np.float32], names: Sequence[str]) -> str:
        """A sentence about samples (n, C) that are far from those of the training; empty if none
        is."""
        if self.mean is None:
            return ""
        far = np.abs(newest - self.mean) / self._std
        if not (far > FAR).any():
            return ""
        row, phase = divmod(int(np.nanargmax(far)), far.shape[1])
        return (
            f"currents out of range: phase {names[phase]} reads {newest[row, phase]:.6g},"
            f" {far[row, phase]:.0f} standard deviations from the training's"
            f" {self.mean[phase]:.6g}"
        )


def currents_failure(currents: Currents, plant: Plant, within: CurrentRange) -> str:
    """What has failed in the newest samples; empty if nothing has.

    Args:
        currents: without those that are not known.
        plant: rate and channels.
        within: what the training saw.
    """
    values = currents.values
    names = [each.name for each in plant.channels] or [str(k + 1) for k in range(values.shape[1])]
    newest = values[-2 * plant.samples :]
    if said := within.outside(newest, names):
        return said
    end = len(values) - plant.samples
    for found in failed_currents(values, plant.current_rate, plant.channels, within.mean):
        if found.stop > end and found.kind not in NO_FAILURE:
            return found.what
    return ""
