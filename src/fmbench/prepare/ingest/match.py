"""The frame and the sample of each instant of the recording, and how gaps are filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import format_second, stretches
from fmbench.prepare.ingest.remarks import SHOWN, Remarks
from fmbench.prepare.ingest.sampling import GapPolicy, Samples
from fmbench.prepare.ingest.video import RawVideo
from fmbench.types import BENCHMARK


def common_seconds(
    times: NDArray[np.float64], samples: Samples, video: RawVideo
) -> tuple[int, int]:
    """The first whole second that both files cover, and the one after the last.

    Raises:
        ValueError: they have no second in common.
    """
    first = max(int(np.ceil(times.min() - 1e-3)), int(samples.seconds[0]))
    # A second's last instant, at 25 a second .96 s, may have its nearest frame one step before.
    end = times.max() + 2 / samples.plant.frame_rate + 1e-3
    last = min(int(np.floor(end)), samples.stop)
    if last - first < 1:
        begin, end = float(times.min()), float(times.max())
        start, stop = float(samples.seconds[0]), float(samples.stop)
        apart = (
            f"starts {start - end:.0f} s after"
            if start > end
            else f"ends {begin - stop:.0f} s before"
        )
        raise ValueError(
            f"{video.label} runs from {format_second(begin)} to {format_second(end)}, the log"
            f" from {format_second(start)} to {format_second(stop)}: no second in common, the log"
            f" {apart} the video. Is --start right, and is one of them in another time zone"
            " (--zone)?"
        )
    return first, last


def uncovered(times: NDArray[np.float64], samples: Samples, video: RawVideo) -> list[str]:
    """Remarks about a log that starts more than a second after the video, or ends before it."""
    begin, end = float(times.min()), float(times.max())
    start, stop = float(samples.seconds[0]), float(samples.stop)
    found = []
    if start - begin > 1:
        found.append(
            f"the log starts at {format_second(start)}, {start - begin:.1f} s after"
            f" {video.label} ({format_second(begin)}); the frames before are left out"
        )
    if end - stop > 1:
        found.append(
            f"the log ends at {format_second(stop)}, {end - stop:.1f} s before {video.label}"
            f" ({format_second(end)}); the frames after are left out"
        )
    return found


def nearest_frames(
    times: NDArray[np.float64],
    grid: NDArray[np.float64],
    decodes: NDArray[np.bool_] | None = None,
    frame_rate: float = BENCHMARK.frame_rate,
) -> NDArray[np.int64]:
    """(G,) position of the frame nearest to each instant; -1 where none is within one frame period,
    of the video or of the grid, whichever is longer.

    Args:
        times: (N,) seconds; where the clock goes back, the later frames count.
        grid: (G,) seconds, ascending.
        decodes: (N,) frames that may be taken; None for all.
        frame_rate: instants of the grid a second.
    """
    if decodes is not None:
        some = np.flatnonzero(decodes)
        found = nearest_frames(times[some], grid, frame_rate=frame_rate)
        return np.where(found < 0, -1, some[found])
    after_it = np.append(np.minimum.accumulate(times[:0:-1])[::-1], np.inf)
    usable = np.flatnonzero(times < after_it)
    known = times[usable]
    after = np.searchsorted(known, grid).clip(1, max(1, len(known) - 1))
    before = after - 1
    after = after.clip(max=len(known) - 1)
    nearer = np.where(grid - known[before] <= known[after] - grid, before, after)
    step = float(np.median(np.diff(known))) if len(known) > 1 else 0.0
    reach = max(step, 1 / frame_rate) + 1e-3
    return np.where(np.abs(known[nearer] - grid) <= reach, usable[nearer], -1)


def oddities(video: RawVideo, times: NDArray[np.float64], frame_rate: float) -> list[str]:
    """Remarks about the video's own times; `frame_rate` is the recording's."""
    found = [*video.remarks(), *filter(None, [video.cut_off()])]
    steps = np.diff(video.shown[video.decodes])
    close = steps[steps < 1]  # longer ones are gaps
    if len(close) and np.ptp(close) > 0.5 / frame_rate:
        found.append(
            f"variable frame rate: {1000 * steps.min():.0f} to {1000 * steps.max():.0f} ms a frame"
        )
    back = np.flatnonzero(np.diff(times) < 0)
    if back.size:
        found.append(
            f"the video's clock goes back {back.size} times, first at frame {back[0] + 1}"
            f" ({format_second(times[back[0] + 1])}); of times shown twice, the second is used"
        )
    return found


def fill_frames(
    source: NDArray[np.int64],
    grid: NDArray[np.float64],
    video: RawVideo,
    gaps: GapPolicy,
    remarks: Remarks,
    frame_rate: float,
) -> NDArray[np.int64]:
    """Frames of the grid with gaps treated by `gaps`; -1 where a frame is left out.

    Raises:
        ValueError: there are gaps and `gaps` is fail, or there is no frame at all.
    """
    if gaps == "fail" and video.cut_off():
        raise ValueError(f"{video.label}: {video.cut_off()}. --gaps mask takes what can be decoded")
    gone = stretches(source < 0)
    if not gone:
        return source
    if (source < 0).all():
        raise ValueError(f"{video.label}: no frame in the seconds that the log covers")
    summary = _gaps("video", [(grid[start], (stop - start) / frame_rate) for start, stop in gone])
    if gaps == "fail":
        why = f"\n{video.lost()}" if video.lost() else ""
        raise ValueError(
            f"{video.label}: {summary}. --gaps mask leaves them out, hold repeats frames{why}"
        )
    remarks.append(
        f"{summary}; {'frames left out' if gaps == 'mask' else 'the last frame is held'}"
    )
    if gaps == "mask":
        return source
    return source[_last_known(source >= 0)]


def fill_currents(
    samples: Samples, first: int, last: int, gaps: GapPolicy, remarks: Remarks
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Seconds and (S, N, C) samples of [first, last), gaps treated by `gaps`.

    Raises:
        ValueError: there are gaps and `gaps` is fail, or there is no sample at all.
    """
    period = samples.plant.period
    inside = (samples.seconds > first - period) & (samples.seconds < last)
    seconds, values = samples.seconds[inside], samples.values[inside]
    missing = np.isnan(values).any(axis=(1, 2))
    gone = stretches(np.asarray(missing))
    if not gone:
        return seconds, values
    if missing.all():
        raise ValueError("the log has no whole second of current while the video runs")
    summary = _gaps(
        "currents", [(seconds[start], float((stop - start) * period)) for start, stop in gone]
    )
    if gaps == "fail":
        raise ValueError(f"{summary}. --gaps mask leaves these seconds out, hold repeats samples")
    if gaps == "mask":
        remarks.append(f"{summary}; these seconds have no current")
        return seconds[~missing], values[~missing]
    remarks.append(f"{summary}; the last sample is held")
    flat = values.reshape(-1, values.shape[2])
    return seconds, flat[_last_known(np.asarray(~np.isnan(flat).any(axis=1)))].reshape(values.shape)


def _last_known(known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) the last known place up to each place; before the first known one, the first."""
    place = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
    return np.asarray(np.where(place < 0, np.flatnonzero(known)[0], place))


def _gaps(what: str, found: list[tuple[float, float]]) -> str:
    """A sentence with begin and seconds of the first gaps."""
    first = ", ".join(
        f"{format_second(start)} ({round(length, 1):g} s)" for start, length in found[:SHOWN]
    )
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{len(found)} gaps in the {what}: {first}{more}"
