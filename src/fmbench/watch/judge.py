"""The score of the window that ends at an instant, by the code that `fmbench predict` uses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmbench.alarms.file import calibrated
from fmbench.data.dataset import WindowDataset
from fmbench.data.fit import Fit
from fmbench.data.windows import WindowSpec, clip_index, samples_of, stride_of
from fmbench.format.columns import NO_CURRENTS, Currents
from fmbench.metrics import abnormal_probability
from fmbench.training.lit import Detector
from fmbench.training.measure import open_data
from fmbench.types import BENCHMARK, Channel, Plant
from fmbench.watch.grid import Pictures, Plan

SHIFTED = 64
"""Validation windows on which causal scores are compared with those of the training's windows."""


@dataclass
class LiveRecording:
    """The newest frames and samples, as a recording."""

    name: str
    plant: Plant
    size: tuple[int, int]
    pictures: Pictures
    begin: int
    """Instant of frame 0."""
    num_frames: int
    """Of which only those that a clip shows are there."""
    seconds: NDArray[np.int64]
    currents: Currents
    source: Path = Path("live")
    transposed: bool = False
    has_labels: bool = False
    has_masks: bool = False
    has_currents: bool = True
    synthetic: bool = False
    classes: tuple[str, ...] = BENCHMARK.classes

    def prepare(self, *, video: bool, masks: bool) -> None:
        """Nothing has to be unpacked."""

    def read_frames(self, index: NDArray[np.integer[Any]], out: NDArray[np.uint8]) -> None:
        """See Recording."""
        for row, k in enumerate(index.tolist()):
            out[row] = self.pictures[self.begin + k]

    def read_masks(self, index: NDArray[np.integer[Any]], out: NDArray[np.uint8]) -> None:
        """There are none."""
        raise ValueError("a live recording has no masks")

    def labels(self, index: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """There are none."""
        raise ValueError("a live recording has no labels")

    def class_of(self, index: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """There are none."""
        raise ValueError("a live recording has no labels")


class Judge:
    """A detector with the windows of its training, made causal.

    Args:
        detector: in eval mode.
        temperature: of the alarm rule's file; scores are calibrated with it. None: as predicted.

    Attributes:
        plant: rates and channels of the training.
        spec: a window's frames and samples.
        size: (H, W) of the stored frames.
        was_causal: whether the training's windows were causal, too.

    Raises:
        ValueError: the checkpoint does not say what its windows are.
    """

    def __init__(self, detector: Detector, temperature: float | None = None) -> None:
        self.detector, self._temperature = detector, temperature
        data = dict(detector.stamp["data"])
        self.plant = plant_of(detector)
        problem = detector.problem
        rates = self.plant.frame_rate, self.plant.current_rate
        stride, samples = data.get("stride", 4), problem.current_samples
        if data.get("clip_seconds") is not None:
            stride = stride_of(data["clip_seconds"], problem.frames, rates[0])
        if data.get("current_seconds") is not None:
            samples = samples_of(data["current_seconds"], rates[1])
        given = {key: data[key] for key in ("early", "history", "gaps") if key in data}
        self.was_causal = bool(data.get("causal", False))
        self.spec = WindowSpec(
            frames=problem.frames,
            stride=stride,
            current_samples=samples,
            causal=True,
            plant=self.plant,
            **given,
        )
        self.upright = data.get("axes", "image") == "image"
        self.fit = Fit.of(data.get("fit"), _pair(data.get("image_size")))
        height, width = problem.image_size if self.upright else problem.image_size[::-1]
        self.size = self.plant.frame_size or (height, width)
        self.modality = problem.modality

    def plan(self, every: float) -> Plan:
        """The instants that are read for a decision every so many seconds.

        Raises:
            ValueError: shorter than a frame.
        """
        step = round(every * self.plant.frame_rate)
        if step < 1:
            raise ValueError(
                f"--every is {every:g} s; at {self.plant.frame_rate:g} frames a second it must be"
                f" at least {1 / self.plant.frame_rate:g}"
            )
        return Plan(self.plant.frame_rate, self.spec.frames, self.spec.stride, step)

    def needs_until(self, k: int, origin: float) -> float:
        """The time up to which the log must be there for the window that ends at instant k."""
        rate, period, samples = self.plant.frame_rate, self.plant.period, self.plant.samples
        second = math.floor(origin + k / rate + 1e-6)
        if period > 1:
            return second + 1.0
        place = k - math.ceil((second - origin) * rate - 1e-6)
        kept = min(math.floor(place * samples / rate + 1e-9) + 1, samples)
        return second + kept / samples

    def clip(self, k: int, begin: int) -> NDArray[np.int64]:
        """Instants of the clip that ends at k, in a recording that begins at `begin`."""
        index = clip_index(np.array([k - begin]), self.spec.frames, self.spec.stride)
        return np.asarray(index[0] + begin)

    @torch.inference_mode()
    def score(
        self, k: int, begin: int, origin: float, pictures: Pictures, currents: Currents | None
    ) -> float | None:
        """The probability in [0, 1] that the window that ends at instant k is abnormal; None if the
        training's windows leave such a one out.

        Args:
            k: the instant.
            begin: the first instant of the recording.
            origin: seconds since 1970 of instant 0.
            pictures: with those of the clip.
            currents: samples up to the instant's second.
        """
        rate = self.plant.frame_rate
        second = math.floor(origin + k / rate + 1e-6)
        early = min(k - (self.spec.frames - 1) * self.spec.stride, k - round(rate))
        while early > begin and math.floor(origin + (early - 1) / rate + 1e-6) == second:
            early -= 1
        first = max(begin, early)
        instants = origin + np.arange(first, k + 1) / rate
        recording = LiveRecording(
            name="live",
            plant=self.plant,
            size=self.size,
            pictures=pictures,
            begin=first,
            num_frames=len(instants),
            seconds=np.floor(instants + 1e-6).astype(np.int64),
            currents=NO_CURRENTS if currents is None else currents,
        )
        windows = WindowDataset(
            [recording],
            [np.array([k - first])],
            self.spec,
            self.modality,
            upright=self.upright,
            fit=self.fit,
        )
        if not len(windows):
            return None
        logits = self.detector(windows[0]).logits
        if self._temperature is not None:
            return float(calibrated(logits, self._temperature)[0])
        return float(abnormal_probability(logits)[0])


def causal_shift(detector: Detector, options: Mapping[str, Any] | None = None) -> str:
    """By how much the scores of a detector of non-causal windows change where they are causal, on
    validation windows; or why this is not known."""
    scores = []
    try:
        for causal in (False, True):
            data = open_data(
                detector, {**(options or {}), "causal": causal, "val_windows": SHIFTED}
            )
            batches = data.val_dataloader()
            if isinstance(batches, list):
                return "by how much could not be measured: there is no validation data"
            with torch.inference_mode():
                found = [abnormal_probability(detector(each).logits) for each in batches]
            scores.append(torch.cat(found).float().numpy())
    except (ValueError, OSError) as error:
        return f"by how much could not be measured ({str(error).splitlines()[0]})"
    change = np.abs(scores[1] - scores[0])
    simulated = ", simulated" if data.synthetic else ""
    return (
        f"on {len(change)} validation windows{simulated}, scores change by {change.mean():.3f} on"
        f" average, {change.max():.3f} at most"
    )


def plant_of(detector: Detector) -> Plant:
    """Rates, channels and frame size of the training."""
    problem, stated = detector.problem, dict(detector.stamp.get("plant") or {})
    return Plant(
        frame_rate=problem.frame_rate,
        current_rate=problem.current_rate,
        channels=tuple(Channel(**each) for each in stated.get("channels") or ()),
        classes=tuple(detector.classes),
        frame_size=_pair(stated.get("frame_size")),
    )


def _pair(sides: Any) -> tuple[int, int] | None:
    return None if sides is None else (int(sides[0]), int(sides[1]))
