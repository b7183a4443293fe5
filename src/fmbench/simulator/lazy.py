"""Recordings without frame files: frames are rendered on demand.

A lazy root holds manifest.json, the JSON lists and the CSV files. A recording is simulated again
from its number on first use; it pickles as a path and a name.
"""

from __future__ import annotations

import json
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.format import columns
from fmbench.format.plant import read_plant
from fmbench.simulator.camera import Camera
from fmbench.simulator.process import Run, simulate
from fmbench.simulator.settings import SimConfig
from fmbench.types import BENCHMARK

MANIFEST = "manifest.json"


class LazyRecording:
    """A `fmbench.data.recording.Recording` whose frames and masks are rendered on demand."""

    transposed = False
    has_labels = True
    has_masks = True
    has_currents = True
    synthetic = True
    classes = BENCHMARK.classes

    def __init__(self, part: Path, name: str, config: SimConfig, entry: dict[str, Any]) -> None:
        self.name = name
        self.plant = read_plant(part)
        rates = self.plant.frame_rate, self.plant.current_rate
        if rates != (BENCHMARK.frame_rate, BENCHMARK.current_rate) or self.plant.channels:
            raise ValueError(
                f"{part}: simulated recordings have {BENCHMARK.frame_rate:g} frames and "
                f"{BENCHMARK.current_rate} samples of current a second, and phases; remove "
                "frame_rate, current_rate and channels from root.yaml"
            )
        self.source = self.part = part
        self.num_frames = int(entry["frames"])
        self.size = (64, 64)
        self._config, self._entry = config, entry

    def __reduce__(self) -> tuple[object, ...]:
        return open_lazy, (self.part, self.name)

    @cached_property
    def seconds(self) -> NDArray[np.int64]:
        return columns.read_timestamps(
            columns.timestamps_file(self.part, self.name), self.num_frames
        )

    @cached_property
    def currents(self) -> columns.Currents:
        return columns.read_currents(columns.currents_file(self.part, self.name))

    @property
    def run(self) -> Run:
        return self.camera.run

    @cached_property
    def camera(self) -> Camera:
        return Camera(simulate_entry(self._config, self._entry), size=self.size)

    @cached_property
    def _labels(self) -> NDArray[np.bool_]:
        return self.camera.labels(np.arange(self.num_frames))  # needs no rendering

    def prepare(self, *, video: bool, masks: bool) -> None:
        """Nothing to unpack."""

    def read_frames(self, index: NDArray[np.integer], out: NDArray[np.uint8]) -> None:
        out[...] = self.camera.frames(index)

    def read_masks(self, index: NDArray[np.integer], out: NDArray[np.uint8]) -> None:
        out[...] = self.camera.masks(index)

    def labels(self, index: NDArray[np.integer]) -> NDArray[np.bool_]:
        labels: NDArray[np.bool_] = self._labels[index]
        return labels

    def class_of(self, index: NDArray[np.integer]) -> NDArray[np.uint8]:
        return self.labels(index).astype(np.uint8)


def is_lazy(part_dir: Path) -> bool:
    """Whether frames of `part_dir` (`<root>/pixel-level`) are rendered instead of read."""
    return (Path(part_dir).parent / MANIFEST).is_file() and bool(
        _manifest(Path(part_dir).parent)["lazy"]
    )


def open_lazy(part_dir: Path, name: str) -> LazyRecording:
    """The recording `name` of a lazy `<root>/pixel-level`.

    Raises:
        ValueError: the root is not lazy, has no such recording, or is of another simulator version.
    """
    part_dir = Path(part_dir)
    if not is_lazy(part_dir):
        raise ValueError(f"{part_dir.parent} is not a lazy simulated root: read its files instead")
    manifest = _manifest(part_dir.parent)
    entries = manifest["recordings"].get(part_dir.name, {})
    if name not in entries:
        raise ValueError(f"{part_dir} has no recording {name!r}{nearest(name, entries)}")
    return LazyRecording(part_dir, name, SimConfig.from_dict(manifest["config"]), entries[name])


def simulate_entry(config: SimConfig, entry: dict[str, Any]) -> Run:
    """The run of an entry of a manifest."""
    return simulate(
        config, entry["recording"], entry["seconds"], start=entry["start"], frames=entry["exactly"]
    )


def _manifest(root: Path) -> Any:
    path = root / MANIFEST
    stat = path.stat()
    return _read_manifest(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _read_manifest(path: Path, modified: int, size: int) -> Any:
    try:
        manifest = json.loads(path.read_text())
        if not manifest["synthetic"]:
            raise ValueError("synthetic is false")
        manifest["lazy"], manifest["config"], manifest["recordings"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a simulator's manifest ({error}); simulate the data set again"
        ) from error
    return manifest
