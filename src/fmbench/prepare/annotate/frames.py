"""Frames as pictures to draw on, with the COCO file that an annotation tool opens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fmbench.data.recording import Recording, upright_frames
from fmbench.data.windows import Ints
from fmbench.files.atomic import write_text
from fmbench.files.staging import staged


def frames_at(recording: Recording, seconds: Sequence[float]) -> Ints:
    """(n,) sorted frames nearest to times in seconds since the recording's first frame.

    Raises:
        ValueError: a time outside the recording, or a recording whose clock goes back.
    """
    clock = recording.seconds - recording.seconds[0]
    if (np.diff(clock) < 0).any():
        raise ValueError(f"{recording.name}: its times go back; run fmbench data check")
    place = np.arange(len(clock)) - np.searchsorted(clock, clock)  # within its second
    count = np.searchsorted(clock, clock, side="right") - np.searchsorted(clock, clock)
    times = clock + place / count
    end = float(times[-1])
    for second in seconds:
        if not 0 <= second <= end + 1:
            raise ValueError(f"{second:g} s is outside {recording.name}, of 0 to {end:.2f} s")
    after = np.searchsorted(times, seconds).clip(1, max(1, len(times) - 1))
    nearer = np.abs(times[after - 1] - seconds) <= np.abs(times[after % len(times)] - seconds)
    return np.unique(np.where(nearer, after - 1, after)).astype(np.int64)


def write_frames(
    recording: Recording,
    frames: Ints,
    out: Path,
    *,
    scale: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `out`/NAME/NAME_frame_001200.png, … and `out`/NAME.json; returns the latter.

    The JSON is COCO without annotations: an image for each frame, with its size as it was written,
    by which `fmbench.prepare.annotate.coco` converts boxes back to pixels of the recording.

    Args:
        recording: any.
        frames: (n,) sorted positions.
        out: folder.
        scale: each pixel becomes scale x scale.
        progress: called with frames done and frames in all.

    Raises:
        ValueError: `out`/NAME exists, or the frames cannot be read.
    """
    height, width = recording.size
    images: list[dict[str, Any]] = []
    with staged(out / recording.name) as folder:
        for number, frame in enumerate(frames.tolist(), 1):
            [picture] = upright_frames(recording, np.array([frame])).transpose(0, 2, 3, 1)
            large = np.ascontiguousarray(picture[:, :, ::-1].repeat(scale, 0).repeat(scale, 1))
            name = f"{recording.name}_frame_{frame:06d}.png"
            if not cv2.imwrite(str(folder / name), large):
                raise ValueError(f"cannot write {folder / name}")
            images.append(
                {
                    "id": number,
                    "file_name": f"{recording.name}/{name}",
                    "width": width * scale,
                    "height": height * scale,
                    "recording": recording.name,
                    "frame": frame,
                }
            )
            if progress:
                progress(number, len(frames))
    content = {
        "info": {
            "description": f"{len(images)} frames of {recording.name}, {scale} times as large"
        },
        "licenses": [],
        "categories": [{"id": 1, "name": "abnormal", "supercategory": ""}],
        "images": images,
        "annotations": [],
    }
    path = out / f"{recording.name}.json"
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path
