"""A video and a PLC's log to videos/NAME.mat, timestamps/NAME.csv, currents/NAME.csv."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fmbench.files.atomic import in_one_step, write_text
from fmbench.format import columns, mat
from fmbench.format.names import valid_name
from fmbench.prepare import sensors
from fmbench.prepare.ingest import LABELLED, PART
from fmbench.prepare.ingest.align import (
    SURE,
    Described,
    Offset,
    describe_currents,
    describe_frame,
    describe_video,
    estimate,
)
from fmbench.prepare.ingest.clip import Picture
from fmbench.prepare.ingest.match import (
    common_seconds,
    fill_currents,
    fill_frames,
    nearest_frames,
    oddities,
    uncovered,
)
from fmbench.prepare.ingest.passes import settled
from fmbench.prepare.ingest.region import Region
from fmbench.prepare.ingest.remarks import Remarks
from fmbench.prepare.ingest.sampling import GapPolicy, Samples
from fmbench.prepare.ingest.states import States, at_frames
from fmbench.prepare.ingest.video import RawVideo
from fmbench.types import BENCHMARK

BLOCK = 256
"""Frames written at a time."""
AHEAD = 8
"""Decoded frames that may wait to be shrunk."""


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """A recording that was written, and its sources.

    Attributes:
        name: the recording's name.
        video, currents: names of the source files.
        start: wall clock of the first frame, including `offset`.
        offset: seconds added to the video's clock.
        confidence: of an estimated offset (`fmbench.prepare.ingest.align`), else None.
        region: x, y, w, h by key frame.
        size: (H, W) of the frames written.
        frames, seconds: number of frames, and of seconds of current.
        source_frames: number of frames of the video, with those that cannot be decoded.
        repeated, left_out: number of its frames repeated and left out to reach `frame_rate`.
        remarks: irregularities of either file, how they were handled, and sensors that failed.
        frame_rate, current_rate: frames and samples a second of the recording.
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
    frame_rate: float = BENCHMARK.frame_rate
    current_rate: float = BENCHMARK.current_rate


def ingest(
    video: RawVideo,
    times: NDArray[np.float64],
    samples: Samples,
    region: Region,
    *,
    root: Path,
    name: str,
    currents: Path,
    size: tuple[int, int] = (64, 64),
    offset: float | Offset = 0.0,
    gaps: GapPolicy = "fail",
    remarks: Remarks | None = None,
    states: States | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IngestReport:
    """Write one recording into `root`/unlabelled, with `states` into `root`/class-level, complete
    or not at all.

    It has the frame rate of `samples.plant` (the nearest frames of the source) and these samples,
    over the whole seconds that both sources cover.

    Args:
        video: the frames.
        times: (N,) seconds since 1970 of each frame, by the video's clock.
        samples: the currents; if they are of no phase, no file of currents is written.
        region: the furnace in the picture.
        root: a data root, new or existing.
        name: the recording's name.
        currents: the log's file, for the report.
        size: (H, W) of the frames written.
        offset: seconds from the video's clock to the PLC's; an estimate is used only if it is sure.
        gaps: what to do where frames or currents are missing: fail; mask leaves frames, or seconds
            of current, out; hold repeats the last.
        remarks: of both sources so far; irregularities are added as they are found.
        states: classes by the log's clock; frames are labelled with them.
        progress: called with frames done and frames in all.

    Raises:
        ValueError: the recording exists already, the sources have no second in common, there are
            gaps and `gaps` is fail, or the log names no class before the first frame.
        OSError: it cannot be written.
    """
    part = PART if states is None else LABELLED
    name = new_name(root, name, part)
    said = Remarks() if remarks is None else remarks
    return settled(
        video,
        lambda: _write(
            video,
            times,
            samples,
            region,
            root / part,
            name,
            currents,
            size,
            offset,
            gaps,
            said,
            states,
            progress,
        ),
    )


def new_name(root: Path, name: str, part: str = PART) -> str:
    """`name` as it is written (`valid_name`).

    Raises:
        ValueError: it cannot be a name, or the part has a recording of this name.
    """
    name = valid_name(name)
    target = mat.video_file(root / part, name)
    if target.exists():
        raise ValueError(f"{target} is there already; remove it, or give another --name")
    return name


def _write(
    video: RawVideo,
    times: NDArray[np.float64],
    samples: Samples,
    region: Region,
    folder: Path,
    name: str,
    currents: Path,
    size: tuple[int, int],
    offset: float | Offset,
    gaps: GapPolicy,
    remarks: Remarks,
    states: States | None,
    progress: Callable[[int, int], None] | None,
) -> IngestReport:
    """`ingest`, into the part's `folder`.

    Raises:
        Changed: other frames can be decoded than was known.
    """
    target = mat.video_file(folder, name)
    confidence = None
    if isinstance(offset, Offset):
        remarks.append(describe_offset(offset))
        confidence = offset.confidence
        offset = offset.seconds if offset.sure else 0.0
    plant = samples.plant
    covered = times[video.decodes] + offset
    first, last = common_seconds(covered, samples, video)
    remarks.extend(uncovered(covered, samples, video))
    grid = first + np.arange((last - first) * plant.frame_rate) / plant.frame_rate
    source = nearest_frames(times + offset, grid, video.decodes, plant.frame_rate)
    remarks.extend(oddities(video, times, plant.frame_rate))
    source = fill_frames(source, grid, video, gaps, remarks, plant.frame_rate)
    present = source >= 0
    grid, source = grid[present], source[present]
    kinds = None if states is None else at_frames(states, grid)
    kept, values = fill_currents(samples, first, last, gaps, remarks)
    if values.size:
        remarks.extend(sensors.of_samples(kept, values, plant))

    report = IngestReport(
        name=name,
        video=", ".join(path.name for path in video.paths),
        currents=currents.name,
        start=columns.format_second(grid[0]),
        offset=offset,
        confidence=confidence,
        region=dict(sorted(region.at.items())),
        size=size,
        frames=len(source),
        seconds=len(kept) * plant.period if values.size else 0,
        source_frames=video.num_frames,
        repeated=int(np.count_nonzero(np.diff(source) == 0)),
        left_out=int(np.count_nonzero(video.decodes) - len(np.unique(source))),
        remarks=list(remarks),
        frame_rate=plant.frame_rate,
        current_rate=plant.current_rate,
    )
    with in_one_step(target) as beside:  # last of all, so that a video has its other files
        watch = sensors.Watch(plant.frame_rate)
        seconds = np.floor(grid + 1e-6).astype(np.int64)
        frames = watch.passing(_blocks(video, source, region, size, progress))
        labels: mat.Labels | None = None if kinds is None else "classes"
        mat.write_mat(beside, len(source), size, _labelled(frames, kinds), labels=labels)
        for each in watch.found(seconds):
            remarks.append(each.what)
            report.remarks.append(each.what)
        columns.write_timestamps(columns.timestamps_file(folder, name), seconds)
        if values.size:
            currents_file = columns.currents_file(folder, name)
            columns.write_currents(currents_file, kept, values, plant.channels)
        lines = "".join(f"{k},{frame}\n" for k, frame in enumerate(source))
        write_text(folder / "sources" / f"{name}.csv", "frame,source_frame\n" + lines)
        text = json.dumps(asdict(report), indent=1)
        write_text(folder / "sources" / f"{name}.json", text + "\n")
    return report


def find_offset(
    video: RawVideo,
    times: NDArray[np.float64],
    samples: Samples,
    region: Region,
    *,
    reach: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> Offset:
    """Estimate how far the video's clock is behind the log's; reads the video once.

    Args:
        video: the frames.
        times: (N,) seconds since 1970 of each frame.
        samples: two a second, of currents in A only.
        region: the furnace in the picture.
        reach: largest offset, in seconds.
        progress: called with frames done and frames in all.

    Raises:
        ValueError: the overlap is too short.
    """

    def described(every: NDArray[np.int64]) -> Iterator[NDArray[np.float64]]:
        for index, small in enumerate(_wanted(video, every, region, (64, 64))):
            if progress and index % BLOCK == 0:
                progress(index, len(every))
            yield describe_frame(small)

    def shown() -> Described:
        every = np.flatnonzero(video.decodes)
        return describe_video(times[every], described(every))

    pair = (settled(video, shown), describe_currents(samples.seconds, samples.values))
    return estimate([pair], reach=reach)


def describe_offset(offset: Offset) -> str:
    """A sentence about an estimate."""
    guess = (
        f"offset by what changes in both: {offset.seconds:+.2f} s, confidence"
        f" {offset.confidence:.1f} from {offset.hours:.1f} h"
    )
    if offset.sure:
        return f"{guess}; it was added to the video's clock"
    return f"{guess}; {SURE:g} would be sure, so it was NOT used (give --offset to set one)"


def _blocks(
    video: RawVideo,
    source: NDArray[np.int64],
    region: Region,
    size: tuple[int, int],
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[NDArray[np.uint8], None]]:
    """(n, 3, H, W) frames at `source`, in one pass over the video."""
    block, at = np.empty((BLOCK, 3, *size), np.uint8), 0
    for k, small in enumerate(_wanted(video, source, region, size)):
        block[k - at] = small.transpose(2, 0, 1)
        if k - at == BLOCK - 1 or k == len(source) - 1:
            yield block[: k + 1 - at], None
            at = k + 1
            if progress:
                progress(at, len(source))


def _labelled(
    blocks: Iterable[tuple[NDArray[np.uint8], None]], kinds: NDArray[np.uint8] | None
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]:
    """The blocks with the classes of their frames."""
    at = 0
    for frames, _ in blocks:
        yield frames, None if kinds is None else kinds[at : at + len(frames)]
        at += len(frames)


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    """More OpenCV threads would take twice the processor time, which the decoder needs."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _wanted(
    video: RawVideo, source: NDArray[np.int64], region: Region, size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """The small frames at `source`, ascending, some of them more than once.

    Raises:
        Changed: one of them cannot be decoded.
    """
    wanted, counts = np.unique(source, return_counts=True)
    times = dict(zip(wanted.tolist(), counts.tolist(), strict=True))
    waiting: deque[tuple[Future[NDArray[np.uint8]], int]] = deque()

    def shrunk(picture: Picture, index: int) -> NDArray[np.uint8]:
        return region.cut(picture(), index, size)

    with ThreadPoolExecutor(1) as pool, _one_opencv_thread():
        for index, picture in video.frames(int(wanted[-1])):
            if index in times:
                waiting.append((pool.submit(shrunk, picture, index), times[index]))
            if len(waiting) > AHEAD:
                done, count = waiting.popleft()
                yield from [done.result()] * count
        for done, count in waiting:
            yield from [done.result()] * count
