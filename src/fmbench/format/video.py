"""`videos/<name>.mkv` or `.mp4`: the frames of one recording as a compressed video.

Beside it, `masks/<name>.mat` holds `label` as `fmbench.format.mat` describes it, or is absent.
PyAV reads and writes it. decord would take 2.3 times as long for a clip of H.264, and (decord2 3.4)
cannot read frames that are 32, 48 or 96 pixels wide.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.files.atomic import in_one_step
from fmbench.format.memory_map import cache_file
from fmbench.types import BENCHMARK

Codec = Literal["ffv1", "h264"]
"""FFV1 in Matroska, without loss; H.264 in MP4, with some."""
SUFFIX: dict[Codec, str] = {"ffv1": ".mkv", "h264": ".mp4"}
SYNTHETIC = "synthetic: made by a simulator"
"""The comment in the container of a simulated recording."""
_AT_ONCE = 256  # frames of a block
_OPEN = 16  # files open at a time, in each process
_SEEK = 25  # frames between two; over a longer distance, seeking takes less time than decoding
_OPTIONS: dict[Codec, tuple[str, str, dict[str, str]]] = {
    # A clip is decoded from the key frame before it, so key frames are close: every frame of FFV1.
    "ffv1": ("ffv1", "bgr0", {"level": "3", "g": "1", "slicecrc": "1"}),
    "h264": ("libx264", "yuv420p", {"crf": "18", "g": "25", "bf": "0", "preset": "medium"}),
}


class VideoFacts(NamedTuple):
    """What a file says without being decoded."""

    stamps: NDArray[np.int64]
    """(N,) time stamp of each frame, ascending, in the container's unit."""
    size: tuple[int, int]
    """(H, W) in pixels."""
    synthetic: bool
    intra: bool
    """Whether every frame is a key frame, which can be decoded alone."""

    @property
    def frames(self) -> int:
        """N."""
        return len(self.stamps)


def video_files(folder: Path) -> list[Path]:
    """The videos of a folder, sorted by name."""
    found = (path for suffix in SUFFIX.values() for path in folder.glob(f"*{suffix}"))
    return sorted(path for path in found if not path.name.startswith("."))


def masks_file(part: Path, name: str) -> Path:
    return part / "masks" / f"{name}.mat"


def probe(path: Path) -> VideoFacts:
    """Time stamps, size and origin. Kept in the cache, if it can be written: reading every packet
    of 400 videos takes some 20 s.

    Raises:
        ValueError: the file is missing, holds no video, or frames without a stamp of their own.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    kept = cache_file(path, "packets")
    with suppress(OSError, ValueError):  # absent, or not whole
        os.utime(kept)  # the cache drops what was not used for long
        height, width, synthetic, intra, count, *_ = found = np.fromfile(kept, np.int64)
        if len(found) == 5 + count:
            return VideoFacts(found[5:], (int(height), int(width)), bool(synthetic), bool(intra))
    facts = _read_packets(path)
    with suppress(OSError), in_one_step(kept) as beside:
        head = [*facts.size, facts.synthetic, facts.intra, facts.frames]
        beside.write_bytes(np.concatenate([np.array(head, np.int64), facts.stamps]).tobytes())
    return facts


def _read_packets(path: Path) -> VideoFacts:
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            stamps = [packet.pts for packet in packets]
            intra = all(packet.is_keyframe for packet in packets)
            size = (stream.height, stream.width)
            comment = {key.lower(): text for key, text in container.metadata.items()}.get("comment")
    except (av.FFmpegError, IndexError):
        raise ValueError(f"{path} holds no video that can be read; copy it again") from None
    if not stamps or None in stamps or len(set(stamps)) < len(stamps):
        raise ValueError(
            f"{path} holds no frames with a time stamp each; make it by `fmbench data pack`"
        )
    return VideoFacts(np.sort(np.array(stamps, np.int64)), size, comment == SYNTHETIC, intra)


def frames_in_order(path: Path, facts: VideoFacts) -> Iterator[NDArray[np.uint8]]:
    """All frames, in blocks (n, 3, H, W).

    Raises:
        ValueError: a frame cannot be decoded, or their number is not that of `facts`.
    """
    import av

    count, block = 0, np.empty((_AT_ONCE, 3, *facts.size), np.uint8)
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                block[count % _AT_ONCE] = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)
                count += 1
                if count % _AT_ONCE == 0:
                    yield block
    except av.FFmpegError as error:
        raise ValueError(f"{path} is damaged after frame {count}: {error}") from None
    if count != facts.frames:
        raise ValueError(f"{path} has {facts.frames} frames, of which {count} can be decoded")
    if count % _AT_ONCE:
        yield block[: count % _AT_ONCE]


class ClipReader:
    """Frames at any positions; each process opens the file itself, on first use.

    Args:
        path: the file.
        facts: of the file.
    """

    def __init__(self, path: Path, facts: VideoFacts) -> None:
        self.path = path
        self.facts = facts

    def take(self, index: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """(n,) positions -> (n, H, W, 3).

        Raises:
            ValueError: a frame cannot be decoded.
        """
        unique, place = np.unique(index, return_inverse=True)
        apart = 1 if self.facts.intra else _SEEK
        runs = np.split(unique, np.flatnonzero(np.diff(unique) > apart) + 1)
        frames: NDArray[np.uint8] = np.concatenate([self._run(run) for run in runs])[place]
        return frames

    def _run(self, index: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Decode from the key frame before the first position to the last one."""
        import av

        wanted = self.facts.stamps[index].tolist()
        found: dict[int, NDArray[np.uint8]] = {}
        try:
            container = _opened(self.path, os.getpid())
            stream = container.streams.video[0]
            container.seek(wanted[0], stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    found[frame.pts] = frame.to_ndarray(format="rgb24")
                if len(found) == len(wanted) or frame.pts > wanted[-1]:
                    break
        except av.FFmpegError as error:
            raise ValueError(f"{self.path} is damaged at frame {index[0]}: {error}") from None
        if len(found) < len(wanted):
            raise ValueError(f"{self.path}: frames {index[0]} to {index[-1]} cannot all be decoded")
        return np.stack([found[stamp] for stamp in wanted])


@lru_cache(maxsize=_OPEN)
def _opened(path: Path, process: int) -> Any:
    """The file, opened in a process; a decoder does not survive a fork."""
    import av

    return av.open(str(path))


def write_video(
    path: Path,
    size: tuple[int, int],
    blocks: Iterable[NDArray[np.uint8]],
    codec: Codec,
    *,
    synthetic: bool,
    frame_rate: float = BENCHMARK.frame_rate,
) -> None:
    """Write frames, (n, 3, H, W) a block, `frame_rate` a second.

    Raises:
        ValueError: H.264 and an odd height or width.
    """
    import av

    height, width = size
    if codec == "h264" and (height % 2 or width % 2):
        raise ValueError(f"h264 needs an even height and width, not {height} x {width}; use ffv1")
    name, pixels, options = _OPTIONS[codec]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        if synthetic:
            container.metadata["comment"] = SYNTHETIC
        rate = Fraction(frame_rate).limit_denominator(1001)
        stream: Any = container.add_stream(name, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for block in blocks:
            for picture in np.ascontiguousarray(block.transpose(0, 2, 3, 1)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
        container.mux(stream.encode())
