"""Ground truth that no training code may read: tags, latent state, events, key-frame boxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from fmbench.simulator.camera import Camera, Spot
from fmbench.simulator.latent_state import Instability
from fmbench.simulator.lazy import is_lazy, open_lazy
from fmbench.simulator.scene import Tag, tags
from fmbench.simulator.settings import Stream

SIDECAR = "sidecar"
_MARKS = ("onset", "apex", "offset")


def write_sidecar(folder: Path, name: str, camera: Camera) -> None:
    """Write `<name>.h5` and `<name>.keyframes.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    run, t = camera.run, camera.run.frame_times
    marks = {id(spot.event): _marks(camera, spot) for spot in camera.spots}
    events = [
        {**event_row(e), **dict(zip(_MARKS, marks.get(id(e), (-1, -1, -1)), strict=True))}
        for e in run.events
        if e.times[-1] > run.start and e.start < run.end
    ]
    with h5py.File(folder / f"{name}.h5", "w") as file:
        file.attrs["synthetic"] = 1
        file.attrs["tags"] = json.dumps({tag.name: int(tag) for tag in Tag})
        file["tags"] = tags(run, np.arange(len(run)))
        file["drive"] = _most([e.drive(t) for e in run.events], t)
        file["temperature"] = _most([e.temperature(t) for e in run.events], t)
        file["events"] = json.dumps(events)
    keyframes = json.dumps(key_frames(camera))
    (folder / f"{name}.keyframes.json").write_text(keyframes)


def read_tags(part_dir: Path, name: str) -> NDArray[np.uint16] | None:
    """(N,) bits of `Tag` of the frames of a recording in `<root>/pixel-level`, for evaluation only;
    None for data without tags.
    """
    if is_lazy(part_dir):
        run = open_lazy(part_dir, name).run
        return tags(run, np.arange(len(run)))
    path = part_dir.parent / SIDECAR / f"{name}.h5"
    if not path.is_file():
        return None
    with h5py.File(path, "r") as file:
        found: NDArray[np.uint16] = file["tags"][:]
    return found


def event_row(event: Instability) -> dict[str, Any]:
    """An event's numbers, for the table; times in seconds of process."""
    row = {key: value for key, value in vars(event).items() if not isinstance(value, np.ndarray)}
    return {**row, "weights": event.weights.tolist(), "peak": float(event.temperatures.max())}


def key_frames(camera: Camera) -> list[dict[str, Any]]:
    """The annotator's view of every visible event: onset, apex, offset, and boxes on key frames.

    Boxes [top, left, bottom, right) are tight around that event's own mask, in pixels of the
    camera; key frames are 4-8 s apart.
    """
    rng = camera.run.stream(Stream.KEYFRAMES)
    found = []
    for spot in camera.spots:
        onset, apex, offset = _marks(camera, spot)
        if onset < 0:
            continue
        frames = {onset, apex, offset}
        at = onset + rng.integers(100, 201)
        while at < offset:
            frames.add(int(at))
            at += rng.integers(100, 201)
        boxes = {frame: box for frame in sorted(frames) if (box := _box(camera, spot, frame))}
        found.append({"onset": onset, "apex": apex, "offset": offset, "boxes": boxes})
    return found


def _marks(camera: Camera, spot: Spot) -> tuple[int, int, int]:
    """First labelled, hottest, last labelled frame; -1 where there is none."""
    t = camera.frame_times
    hot = np.flatnonzero(spot.nearest < camera.limit(spot, t))
    if not len(hot):
        return -1, -1, -1
    # The sum of (T - T_thr)+ over the shell grows with the hottest point alone.
    apex = hot[np.argmax(spot.event.temperature(t[hot]))]
    return int(hot[0]), int(apex), int(hot[-1])


def _box(camera: Camera, spot: Spot, frame: int) -> list[int] | None:
    limit = camera.limit(spot, camera.frame_times[[frame]])
    rows, columns = np.nonzero(spot.distance < limit)
    if not len(rows):
        return None
    down, right = spot.box[0].start, spot.box[1].start
    top, left, bottom, across = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    return [int(v) for v in (top + down, left + right, bottom + down, across + right)]


def _most(parts: list[NDArray[np.float64]], t: NDArray[np.float64]) -> NDArray[np.float32]:
    most: NDArray[np.float32] = np.max([np.zeros_like(t), *parts], axis=0).astype(np.float32)
    return most
