"""The way from a video and a log to videos/NAME.mat, timestamps/NAME.csv, currents/NAME.csv."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from fmbench.files.atomic import in_one_step, write_text
from fmbench.prepare.ingest.align import (
    SURE,
    Offset,
    describe_currents,
    describe_frame,
    describe_video,
    estimate,
)
from fmbench.prepare.ingest.match import (
    Gaps,
    common_seconds,
    fill_currents,
    fill_frames,
    nearest_frames,
    oddities,
)
from fmbench.prepare.ingest.plc import PlcLog, to_half_seconds
from fmbench.prepare.ingest.region import Region
from fmbench.prepare.ingest.times import clock
from fmbench.prepare.ingest.video import RawVideo, rgb
from fmbench.types import FRAME_RATE

PART = "unlabelled"
BLOCK = 256
"""Frames written at a time."""
AHEAD = 8
"""Frames that may wait to be shrunk while the next are decoded."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was made, and from what.

    Attributes:
        name: of the recording.
        video, currents: the files that it comes from.
        start: wall clock of the first frame, with `offset` in it.
        offset: seconds added to the video's clock.
        confidence: of an estimated offset (`fmbench.prepare.ingest.align`); None for a given one.
        region: x, y, w, h by key frame.
        size: (H, W) of the frames written.
        frames, seconds: how many frames, and seconds of current.
        source_frames: how many the video has; frames may be repeated or left out to come to 25 a
            second.
        repeated, left_out: frames of the source.
        remarks: what was odd in either file, and what was done about it.
    """

    name: str
    video: str
    currents: str
    start: str
    offset: float
    confidence: float | None
    region: dict[int, tuple[float, float, float, float]]
    size: tuple[int, int]
    frames: int
    seconds: int
    source_frames: int
    repeated: int
    left_out: int
    remarks: list[str]


def ingest(
    video: RawVideo,
    times: NDArray[np.float64],
    log: PlcLog,
    region: Region,
    *,
    root: Path,
    name: str,
    currents: Path,
    size: tuple[int, int] = (64, 64),
    offset: float | Offset = 0.0,
    gaps: Gaps = "fail",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write one recording into `root`/unlabelled; it is there whole, or not at all.

    Frames are taken 25 a second (the nearest of the source), currents 2 a second, over the whole
    seconds that both cover.

    Args:
        video: the frames.
        times: (N,) seconds since 1970 of each by the video's clock.
        log: the currents.
        region: where the furnace is.
        root: a data root, new or not.
        name: of the recording.
        currents: file of the log, for the report.
        size: (H, W) to shrink to.
        offset: seconds to add to the video's clock to have the PLC's; an estimate is followed only
            where it is sure.
        gaps: what to do where either has nothing: fail; mask leaves frames, or seconds of current,
            out; hold repeats the last.
        progress: called with frames done and in all.

    Raises:
        ValueError: a recording of that name is there, nothing in common, or gaps that are to fail.
        OSError: it cannot be written.
    """
    folder = root / PART
    target = folder / "videos" / f"{name}.mat"
    if target.exists():
        raise ValueError(f"{target} is there already; remove it, or give another --name")
    samples = to_half_seconds(log)
    estimated = offset if isinstance(offset, Offset) else None
    remarks = [*log.remarks]
    if isinstance(offset, Offset):
        remarks.append(said(offset))
        offset = offset.seconds if offset.sure else 0.0
    first, last = common_seconds(times + offset, samples, video)
    grid = first + np.arange((last - first) * FRAME_RATE) / FRAME_RATE
    source = nearest_frames(times + offset, grid)
    remarks += oddities(video, times)
    source = fill_frames(source, grid, video, gaps, remarks)
    present = source >= 0
    grid, source = grid[present], source[present]
    kept, values = fill_currents(samples, first, last, gaps, remarks)

    report = Report(
        name=name,
        video=video.path.name,
        currents=currents.name,
        start=clock(grid[0]),
        offset=offset,
        confidence=estimated.confidence if estimated else None,
        region=dict(sorted(region.at.items())),
        size=size,
        frames=len(source),
        seconds=len(kept),
        source_frames=video.num_frames,
        repeated=int(np.count_nonzero(np.diff(source) == 0)),
        left_out=int(video.num_frames - len(np.unique(source))),
        remarks=remarks,
    )
    with in_one_step(target) as beside:  # a recording is there once its frames are
        _write_frames(beside, video, source, region, size, progress)
        stamps = "".join(f"{clock(second)}\n" for second in grid + 1e-6)
        write_text(folder / "timestamps" / f"{name}.csv", "time\n" + stamps)
        head = ",".join(["time", *"ABC"[: values.shape[2]]]) if values.shape[2] <= 3 else ""
        head = head or ",".join(["time", *(f"I{k + 1}" for k in range(values.shape[2]))])
        rows = "".join(
            f"{clock(second)},{','.join(f'{value:.6g}' for value in sample)}\n"
            for second, pair in zip(kept, values, strict=True)
            for sample in pair
        )
        write_text(folder / "currents" / f"{name}.csv", f"{head}\n{rows}")
        lines = "".join(f"{k},{frame}\n" for k, frame in enumerate(source))
        write_text(folder / "sources" / f"{name}.csv", "frame,source_frame\n" + lines)
        text = json.dumps(asdict(report), indent=1)
        write_text(folder / "sources" / f"{name}.json", text + "\n")
    return report


def find_offset(
    video: RawVideo,
    times: NDArray[np.float64],
    log: PlcLog,
    region: Region,
    *,
    reach: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Offset:
    """How far the video's clock is behind the log's; reads the video once.

    Raises:
        ValueError: too little in common.
    """

    def described() -> Iterator[NDArray[np.float64]]:
        for index, small in enumerate(_wanted(video, every, region, (64, 64))):
            if progress and index % BLOCK == 0:
                progress(index, video.num_frames)
            yield describe_frame(small)

    every = np.arange(video.num_frames)
    samples = to_half_seconds(log)
    shown = describe_video(times, described())
    return estimate([(shown, describe_currents(*samples))], reach=reach)


def said(offset: Offset) -> str:
    """An estimate in words."""
    guess = (
        f"offset by what changes in both: {offset.seconds:+.2f} s, confidence"
        f" {offset.confidence:.1f} from {offset.hours:.1f} h"
    )
    if offset.sure:
        return f"{guess}; it was added to the video's clock"
    return f"{guess}; {SURE:g} would be sure, so it was NOT used (give --offset to set one)"


def _write_frames(
    path: Path,
    video: RawVideo,
    source: NDArray[np.int64],
    region: Region,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None,
) -> None:
    """`data` (T, 3, W, H): one pass over the video; a frame is shrunk while the next is decoded."""
    height, width = size
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (len(source), 3, width, height), np.uint8)
        block, at = np.empty((BLOCK, 3, width, height), np.uint8), 0
        for k, small in enumerate(_wanted(video, source, region, size)):
            block[k - at] = small.transpose(2, 1, 0)
            if k - at == BLOCK - 1 or k == len(source) - 1:
                data[at : k + 1] = block[: k + 1 - at]
                at = k + 1
                if progress:
                    progress(at, len(source))


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """OpenCV's own threads would take twice the processor time, and the decoder needs it."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _wanted(
    video: RawVideo, source: NDArray[np.int64], region: Region, size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """The small frames at `source`, ascending, some of them more than once."""
    wanted, counts = np.unique(source, return_counts=True)
    times = dict(zip(wanted.tolist(), counts.tolist(), strict=True))
    waiting: deque[tuple[Future[NDArray[np.uint8]], int]] = deque()

    def shrunk(frame: VideoFrame, index: int) -> NDArray[np.uint8]:
        return region.cut(rgb(frame), index, size)

    with ThreadPoolExecutor(1) as pool, _one_opencv_thread():
        for index, frame in enumerate(video):
            if index in times:
                waiting.append((pool.submit(shrunk, frame, index), times[index]))
            if len(waiting) > AHEAD:
                done, count = waiting.popleft()
                yield from [done.result()] * count
            if index == wanted[-1]:
                break
        for done, count in waiting:
            yield from [done.result()] * count
