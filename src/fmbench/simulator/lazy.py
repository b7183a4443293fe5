"""Recordings without frame files: frames are rendered on demand.

A lazy root holds manifest.json, the JSON lists and the CSV files. A recording is simulated again
from its number on first use; it pickles as a path and a name.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbench.errors import nearest
from fmbench.simulator.camera import Camera
from fmbench.simulator.process import Run, simulate
from fmbench.simulator.settings import SimConfig

MANIFEST = "manifest.json"


class RenderedRecording:
    """Frames and masks of one simulated recording, rendered on demand.

    Attributes:
        size: (H, W) pixels.
    """

    def __init__(self, part_dir: Path, name: str, config: SimConfig, entry: dict[str, Any]):
        self.part_dir, self.name, self.size = part_dir, name, (64, 64)
        self._config, self._entry = config, entry
        self._camera: Camera | None = None

    def __len__(self) -> int:
        return int(self._entry["frames"])

    def __reduce__(self) -> tuple[object, ...]:
        return open_lazy, (self.part_dir, self.name)

    @property
    def run(self) -> Run:
        return self.camera.run

    @property
    def camera(self) -> Camera:
        if self._camera is None:
            self._camera = Camera(simulate_entry(self._config, self._entry), size=self.size)
        return self._camera

    def frames(self, index: NDArray[np.integer]) -> NDArray[np.uint8]:
        """(n, 3, H, W)."""
        return self.camera.frames(index)

    def masks(self, index: NDArray[np.integer]) -> NDArray[np.uint8]:
        """(n, H, W) of 0 and 1."""
        return self.camera.masks(index).view(np.uint8)

    def labels(self) -> NDArray[np.bool_]:
        """(N,) whether each frame is abnormal: `masks(...).any((1, 2))` without rendering."""
        return self.camera.labels(np.arange(len(self)))


def is_lazy(part_dir: Path) -> bool:
    """Whether frames of `part_dir` (`<root>/pixel-level`) are rendered instead of read."""
    return (Path(part_dir).parent / MANIFEST).is_file() and bool(
        _manifest(Path(part_dir).parent)["lazy"]
    )


def open_lazy(part_dir: Path, name: str) -> RenderedRecording:
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
    return RenderedRecording(part_dir, name, SimConfig.from_dict(manifest["config"]), entries[name])


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
