"""`fmbench data frames`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmbench.config.hints import Folder
from fmbench.errors import nearest
from fmbench.prepare.annotate import recordings_to_annotate
from fmbench.prepare.annotate.frames import frames_at, write_frames
from fmbench.progress import progress_bar


def frames(
    root: Path,
    name: str,
    *,
    at: str | None = None,
    every: float | None = None,
    out: Folder = Path("frames"),
    scale: int = 8,
) -> int:
    """Write frames of a recording as pictures to draw boxes on.

    PNGs, and a COCO file for CVAT or Label Studio. What the tool exports is read by fmbench data
    annotate.

    Args:
        root: the data set's folder.
        name: the recording.
        at: seconds since its first frame, separated by commas.
        every: instead of --at: a frame each so many seconds.
        out: folder; NAME/ and NAME.json are written into it.
        scale: each pixel becomes scale x scale pixels.
    """
    if (at is None) == (every is None):
        raise ValueError("give --at SECONDS,SECONDS,… or --every SECONDS, one of them")
    if scale < 1:
        raise ValueError(f"--scale is {scale}; it must be at least 1")
    if every is not None and not every > 0:
        raise ValueError(f"--every is {every:g}; it must be above 0")
    known = {each.name: each for each in recordings_to_annotate(root)}
    if name not in known:
        raise ValueError(
            f"no recording is called {name!r}{nearest(name, known)}\nRecordings: {', '.join(known)}"
        )
    recording = known[name]
    if every is not None:
        span = int(recording.seconds[-1] - recording.seconds[0]) + 1
        seconds = np.arange(0, span, every).tolist()
    else:
        seconds = _seconds(at or "")
    chosen = frames_at(recording, seconds)
    with progress_bar("writing") as show:
        path = write_frames(
            recording,
            chosen,
            out,
            scale=scale,
            progress=lambda done, total: show(done, total, name),
        )
    height, width = recording.size
    print(
        f"{out / name}: {len(chosen)} frames of {width} x {height}, written as "
        f"{width * scale} x {height * scale}\n{path}"
    )
    return 0


def _seconds(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--at is {text!r}; it takes seconds, such as 12,40.5") from None
