"""A raw video of a run, to test the ingest: 16:9, compressed, with a shaking camera."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmbench.simulator.camera import Camera
from fmbench.simulator.process import Run
from fmbench.simulator.settings import Stream
from fmbench.simulator.signals import ou
from fmbench.types import FRAME_RATE


def write_video(
    path: Path, run: Run, size: tuple[int, int] = (360, 640), fps: float = FRAME_RATE
) -> None:
    """Write every frame of `run` once, as an mp4v file; the furnace is at `FURNACE_BOX`.

    Args:
        path: the file, ending in .mp4.
        run: the recording.
        size: (H, W) of the full view, 16:9.
        fps: of the container.

    Raises:
        ValueError: the size is not 16:9 or the file cannot be written.
    """
    import cv2  # the rest of the simulator needs no OpenCV

    height, width = size
    if height * 16 != width * 9:
        raise ValueError(f"size is {size}; the full view is 16:9, for instance (360, 640)")
    camera = Camera(run, size=size, roi="full")
    # A raw pixel is one of 1440 lines; 1.5 of them, with a time constant of 0.3 s.
    rng = run.stream(Stream.SHAKE)
    shake = 1.5 * height / 1440 * ou(rng, len(run), 0.3, FRAME_RATE, 2)
    code = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), code, fps, (width, height))
    if not writer.isOpened():
        raise ValueError(f"cannot write a video to {path}; is it a writable .mp4 path?")
    try:
        for index in range(len(run)):
            picture = camera.frames(np.array([index]))[0].transpose(1, 2, 0)[:, :, ::-1]
            move = np.array([[1, 0, shake[index, 1]], [0, 1, shake[index, 0]]], np.float32)
            writer.write(
                cv2.warpAffine(picture, move, (width, height), borderMode=cv2.BORDER_REPLICATE)
            )
    finally:
        writer.release()
