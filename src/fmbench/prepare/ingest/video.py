"""A raw video, of one or several files: its frames in order, and the time of each.

PyAV reads it. decord holds many decoded frames in memory (1.9 to 3.9 GB at 1440 x 2560, for any
length).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fmbench.format.columns import stretches
from fmbench.prepare.ingest.clip import HIDDEN, LOST, SEEN, Changed, Clip, Picture
from fmbench.prepare.ingest.placing import created_at, few, place
from fmbench.prepare.ingest.video_files import dated


class RawVideo:
    """Frames of files that FFmpeg can read (.mp4, .avi, .mkv, .ts, …) and that continue each other.

    Frames are numbered in the order of presentation, also those that cannot be decoded.

    Args:
        paths: the file, or the files in order.
        threads: of the decoder; 0 lets it choose.

    Attributes:
        label: the files' names, for messages.
        num_frames: N, frames in the files.
        size: (H, W) in pixels of the picture as shown: turned, with square pixels.
        shown: (N,) float64, seconds from the first frame, by the containers' time stamps.

    Raises:
        ValueError: no such file, no video with a frame, pictures of different sizes, or files of
            which the times overlap or have no known relation.
    """

    def __init__(self, paths: Path | Sequence[Path], *, threads: int = 0) -> None:
        self.paths = [paths] if isinstance(paths, Path) else [*paths]
        for path in self.paths:
            if not path.is_file():
                raise ValueError(f"{path}: no such file")
        self._clips = [_opened(path, threads, of=len(self.paths)) for path in self.paths]
        first = self._clips[0]
        for clip in self._clips:
            if clip.look.size != first.look.size:
                raise ValueError(
                    f"{clip.path} shows {_sides(clip.look.size)} pixels, {first.path}"
                    f" {_sides(first.look.size)}; files of one recording have one size"
                )
        self.size: tuple[int, int] = first.look.size
        self.label = few(path.name for path in self.paths)
        starts, self._placed = place(self._clips)
        self._first = np.cumsum([0, *map(len, self._clips)])
        self.num_frames = int(self._first[-1])
        self.shown = np.concatenate(
            [start + clip.shown for start, clip in zip(starts, self._clips, strict=True)]
        )

    @property
    def decodes(self) -> NDArray[np.bool_]:
        """(N,) whether a frame can be decoded; known for certain once all were."""
        return np.concatenate([clip.state == SEEN for clip in self._clips])

    @property
    def rate(self) -> float:
        """Frames a second, by the median step."""
        steps = np.diff(self.shown[self.decodes])
        middle = float(np.median(steps)) if len(steps) else 0.0
        return 1 / middle if middle > 0 else 0.0

    @property
    def length(self) -> float:
        """Seconds from the first frame to the end of the last."""
        clip = self._clips[-1]
        return float(self.shown[-1]) + clip.scan.step * clip.scan.unit

    @property
    def unrated(self) -> Path | None:
        """The first file that has neither time stamps nor a rate, if any."""
        unrated = (clip for clip in self._clips if not clip.scan.stamped and not clip.scan.rated)
        return next((clip.path for clip in unrated), None)

    def created(self) -> float | None:
        """The first container's creation time, if any, in seconds since 1970 (no zone, mostly
        UTC)."""
        return created_at(self.paths[0])

    def dated(self) -> float | None:
        """The date and time in the first file's name, if any, in seconds since 1970 (no zone)."""
        return dated(self.paths[0])

    def frame(self, index: int) -> NDArray[np.uint8]:
        """(H, W, 3), RGB.

        Raises:
            ValueError: it cannot be decoded; names its time.
        """
        picture = next(iter(self.pictures([index])))
        if picture is None:
            raise ValueError(
                f"{self.label}: frame {index} of {self.num_frames}, at {self.shown[index]:.2f} s,"
                " cannot be decoded; the file is damaged there"
            )
        return picture

    def pictures(self, wanted: Sequence[int]) -> Iterator[NDArray[np.uint8] | None]:
        """(H, W, 3) of each of the frames `wanted`, ascending; None where it cannot be decoded."""
        for clip, first in zip(self._clips, self._first[:-1], strict=True):
            mine = [int(each - first) for each in wanted if 0 <= each - first < len(clip)]
            found = {k: clip.sought(k) for k in mine if clip.state[k] == SEEN}
            left = [k for k in mine if clip.state[k] == SEEN and found[k] is None]
            if left:
                try:
                    for k, picture in clip.frames(left[-1]):
                        if k in left:
                            found[k] = picture()
                except Changed:
                    pass
            yield from (found.get(k) for k in mine)

    def __iter__(self) -> Iterator[tuple[int, Picture]]:
        """`frames`."""
        return self.frames()

    def frames(self, last: int | None = None) -> Iterator[tuple[int, Picture]]:
        """Number of each frame that can be decoded, ascending, and a function that converts it to
        (H, W, 3) RGB.

        Args:
            last: the last frame wanted; None for all.

        Raises:
            Changed: at the end, if other frames were decoded than `decodes` said before; it is
                correct now.
            ValueError: the size of the picture changes.
        """
        last = self.num_frames - 1 if last is None else last
        changed = False
        for clip, first in zip(self._clips, self._first[:-1].tolist(), strict=True):
            if first > last:
                break
            try:
                for index, picture in clip.frames(min(last - first, len(clip) - 1)):
                    yield first + index, picture
            except Changed:
                changed = True
        if changed:
            raise Changed

    def cut_off(self) -> str:
        """A sentence about frames that a container counts but its file lacks; empty if none."""
        for clip in self._clips:
            found = clip.scan
            if found.counted - found.total > 1:  # some count one that is never shown
                return (
                    f"the container counts {found.counted} frames, {found.total} are in"
                    f" {clip.path.name}: the file ends at {clip.shown[-1]:.1f} s"
                )
        return ""

    def lost(self) -> str:
        """A sentence about frames that cannot be decoded, as far as known; empty if none."""
        gone = np.concatenate([clip.state == LOST for clip in self._clips])
        parts = [
            f"{stop - start} from {self.shown[start]:.2f} to {self.shown[stop - 1]:.2f} s"
            for start, stop in stretches(gone)
        ]
        if not parts:
            return ""
        first = self._clips[0]
        if first.state[0] == LOST and not first.scan.keys[0]:
            why = "the file begins between two key frames"
            why += ", and is damaged" if len(parts) > 1 else ""
        else:
            why = "they are damaged, or need a damaged or missing frame"
        return f"{int(gone.sum())} of {self.num_frames} frames cannot be decoded ({why}): " + few(
            parts
        )

    def remarks(self) -> list[str]:
        """What is said about the files: their order, clocks and pictures, and lost frames."""
        said = [*self._placed]
        for clip in self._clips:
            scan, found = clip.scan, list(clip.look.remarks)
            if scan.joins:
                at = [f"{clip.shown[clip.number_of(join)]:.1f} s" for join in scan.joins]
                found.append(
                    f"{len(at) + 1} segments joined at {few(at, last=' and ')}: their clocks start"
                    " again, each is taken to follow the one before it without a gap"
                )
            if scan.others:
                found.append(
                    f"several video streams: the largest picture, {_sides(clip.look.coded)}, is"
                    f" read, not {scan.others}"
                )
            if not scan.stamped:
                found.append(
                    f"{scan.container} has no time stamps: {1 / (scan.step * scan.unit):.5g} frames"
                    + (" a second, by its header" if scan.rated else " a second are a guess")
                )
            same = np.flatnonzero(np.diff(clip.shown) == 0)
            if len(same):
                found.append(
                    f"{len(same)} frames have the time stamp of another, first at"
                    f" {clip.shown[same[0]]:.2f} s; the last of them is used"
                )
            hidden = int(np.count_nonzero(clip.state == HIDDEN))
            if hidden:
                found.append(f"{hidden} of {len(clip)} packets give no frame to show, in order")
            if scan.stopped:
                found.append(f"reading stops at {clip.shown[-1]:.1f} s: {scan.stopped}")
            several = len(self._clips) > 1
            said += [f"{clip.path.name}: {each}" if several else each for each in found]
        return list(dict.fromkeys([*said, *filter(None, [self.lost()])]))


def _opened(path: Path, threads: int, of: int) -> Clip:
    try:
        return Clip(path, threads=threads)
    except ValueError as error:
        hint = "; of a folder every file is read: a pattern such as 'cam/*.ts' names some of them"
        raise ValueError(f"{error}{hint if of > 1 else ''}") from None


def _sides(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
