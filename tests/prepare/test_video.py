"""Videos of every kind that plants record: each frame at the time that its own stamp says.

Frame k shows k in eight stripes, a bit each, so that a frame at a wrong time shows. PyAV's encoders
make the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fmbench.prepare.ingest import RawVideo
from fmbench.prepare.ingest.clip import Changed
from fmbench.prepare.ingest.scan import scan
from fmbench.prepare.ingest.video_files import dated, find_videos
from test_cli import Command, fmbench, refused
from test_ingest import plc, stamp

__all__ = ["fmbench"]  # a fixture

GOP = "keyint=20:min-keyint=20:scenecut=0:bframes=2"
X264 = {"x264-params": GOP, "qp": "4"}
X265 = {"x265-params": f"{GOP}:qp=4:open-gop=0:log-level=none"}
LEVELS = (60, 180)
OPEN = {"x265-params": f"{GOP}:qp=4:open-gop=1:log-level=none"}


def made(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    pixels: str = "yuv420p",
    count: int = 60,
    first: int = 0,
    rate: int = 25,
    size: tuple[int, int] = (128, 96),
    at: Sequence[int] | None = None,
    container: dict[str, str] | None = None,
    form: str | None = None,
    setup: Callable[[Any], None] | None = None,
    draw: Callable[[NDArray[np.uint8], int], None] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A video of `count` frames, the first of which shows `first`; `at` in 1/90000 s."""
    with av.open(str(path), "w", format=form, options=container or {}) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=rate, options=dict(options or X264))
        stream.width, stream.height = size
        stream.pix_fmt = pixels
        if at is not None:
            stream.codec_context.time_base = Fraction(1, 90000)
        if setup:
            setup(stream)
        for k in range(count):
            picture = np.full((size[1], size[0], 3), 120, np.uint8)
            for bit in range(8):
                picture[:, 16 * bit : 16 * bit + 16] = LEVELS[(first + k) >> bit & 1]
            if draw:
                draw(picture, k)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            if at is not None:
                frame.pts, frame.time_base = at[k], Fraction(1, 90000)
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    return path


def decoded(video: RawVideo) -> dict[int, int]:
    """Number of each frame that decodes, and the frame of the source that it shows."""
    for _ in range(3):
        try:
            pictures = {k: picture() for k, picture in video}
        except Changed:
            continue
        return {k: source_of(picture) for k, picture in pictures.items()}
    raise AssertionError("the frames that decode do not settle")


def source_of(picture: NDArray[np.uint8]) -> int:
    """The number that a frame, or its region of 64 x 64, shows."""
    wide = 8 if picture.shape[:2] == (64, 64) else 16
    bits = picture[:, wide // 2 : 8 * wide : wide].astype(int)  # the middle of each stripe
    level = bits.mean(axis=(0, 2))
    assert np.abs(bits - level[None, :, None]).max() < 12  # no damage, nothing moved
    assert np.minimum(abs(level - LEVELS[0]), abs(level - LEVELS[1])).max() < 12
    return int(((level > np.mean(LEVELS)) << np.arange(8)).sum())


def log(folder: Path, seconds: int = 40) -> Path:
    return plc(folder, [f"{stamp(k / 2)},{k},{k},{k}" for k in range(-10, 2 * seconds)])


def flags(folder: Path, *more: str | Path, video: Path, start: float | None = 0) -> list[Any]:
    words = ["data", "ingest", "--video", video, "--current", log(folder), "--out", folder / "root"]
    words += ["--roi", "0,0,128,96", *(["--start", stamp(start)] if start is not None else [])]
    return [*words, *more]


def written(folder: Path, name: str) -> tuple[list[int], list[int]]:
    """Source frame as shown, and by the index in the video, of each frame of a recording."""
    part = folder / "root" / "unlabelled"
    with h5py.File(part / "videos" / f"{name}.mat") as file:
        frames = file["data"][:].transpose(0, 3, 2, 1)
    index = pd.read_csv(part / "sources" / f"{name}.csv")["source_frame"]
    return [source_of(frame) for frame in frames], index.tolist()


# Kinds of video

KINDS: dict[str, dict[str, Any]] = {
    "h264.mp4": {},
    "h264.mkv": {},
    "h264.mov": {},
    "h264.ts": {},
    "h264.avi": {},
    "h264.h264": {"form": "h264"},
    "fragmented.mp4": {"container": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc.mp4": {"codec": "libx265", "options": X265},
    "hevc.ts": {"codec": "libx265", "options": X265},
    "open-gop.ts": {"codec": "libx265", "options": OPEN},
    "hevc10.mkv": {"codec": "libx265", "options": X265, "pixels": "yuv420p10le"},
    "hevc.hevc": {"codec": "libx265", "options": X265, "form": "hevc"},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"qscale": "1", "bf": "2", "g": "20"}},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"qscale": "1", "bf": "2", "g": "20"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"qscale": "1", "bf": "2", "g": "20"}},
    "mjpeg.avi": {"codec": "mjpeg", "options": {"qscale": "1"}, "pixels": "yuvj420p"},
    "mjpeg.mkv": {"codec": "mjpeg", "options": {"qscale": "1"}, "pixels": "yuvj420p"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"crf": "4", "b": "0", "cpu-used": "8"}},
    "vp8.webm": {
        "codec": "libvpx",
        "options": {"crf": "4", "b": "5M", "auto-alt-ref": "1", "lag-in-frames": "16"},
    },
    "ffv1.mkv": {"codec": "ffv1", "options": {"level": "3"}},
    "prores.mov": {"codec": "prores_ks", "options": {"profile": "2"}, "pixels": "yuv422p10le"},
    "gray.mkv": {"codec": "ffv1", "options": {"level": "3"}, "pixels": "gray"},
    "rgb.avi": {"codec": "rawvideo", "options": {"x": ""}, "pixels": "bgr24"},
}


@pytest.mark.parametrize("name", KINDS)
def test_frame_k_is_at_its_time(name: str, tmp_path: Path) -> None:
    video = RawVideo(made(tmp_path / name, **KINDS[name]))
    found = decoded(video)
    assert list(found.values()) == list(range(60))
    at = video.shown[list(found)]
    assert np.abs(at - at[0] - np.arange(60) / 25).max() < 2e-3  # mkv counts milliseconds
    if name.endswith((".avi", ".h264", ".hevc")):
        assert any("no time stamps: 25 frames a second" in each for each in video.remarks())
    else:
        assert not any("time stamps" in each for each in video.remarks())
    for k in (0, 17, 59):
        assert source_of(video.frame(list(found)[k])) == k


@pytest.mark.parametrize("name", ["h264.ts", "hevc.mp4", "h264.avi", "vp8.webm"])
def test_the_recording_has_every_frame_at_its_time(
    name: str, tmp_path: Path, fmbench: Command
) -> None:
    done = fmbench(*flags(tmp_path, video=made(tmp_path / name, count=50, **KINDS[name])))
    assert done.status == 0, done.err
    assert written(tmp_path, name.split(".")[0])[0] == list(range(50))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_a_variable_rate_keeps_its_stamps(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    at = np.cumsum(rng.integers(1500, 9000, 60)).tolist()
    video = RawVideo(made(tmp_path / f"v.{suffix}", at=at))
    assert list(decoded(video).values()) == list(range(60))
    assert np.abs(video.shown - (np.array(at) - at[0]) / 90000).max() < 2e-3
    assert video.cut_off() == ""


@pytest.mark.parametrize("form", ["h264", "hevc"])
def test_an_elementary_stream_has_the_rate_of_its_header(form: str, tmp_path: Path) -> None:
    video = RawVideo(made(tmp_path / f"a.{form}", rate=10, form=form, count=30,
                          codec="libx264" if form == "h264" else "libx265",
                          options=X264 if form == "h264" else X265))  # fmt: skip
    assert video.shown[29] == pytest.approx(2.9)
    assert f"{form} has no time stamps: 10 frames a second, by its header" in video.remarks()


MJPEG = {"codec": "mjpeg", "options": {"qscale": "1"}, "pixels": "yuvj420p", "form": "mjpeg"}


def test_a_stream_without_any_rate_needs_the_times_of_its_frames(
    tmp_path: Path, fmbench: Command
) -> None:
    """FFmpeg takes 25 frames a second for MJPEG without a container, whatever the camera's rate."""
    path = made(tmp_path / "a.mjpeg", rate=10, count=50, **MJPEG)
    video = RawVideo(path)
    assert list(decoded(video).values()) == list(range(50))
    assert video.remarks() == ["mjpeg has no time stamps: 25 frames a second are a guess"]
    refused(fmbench(*flags(tmp_path, video=path)), "a.mjpeg states neither time stamps nor a rate",
            "ffmpeg -framerate RATE -i a.mjpeg -c copy a.mkv")  # fmt: skip
    times = pd.DataFrame({"time": [stamp(k / 10) for k in range(50)]})
    times.to_csv(tmp_path / "times.csv", index=False)
    given = flags(tmp_path, "--timestamps", tmp_path / "times.csv", video=path, start=None)
    done = fmbench(*given)
    assert done.status == 0, done.err
    shows, _ = written(tmp_path, "a")
    assert np.abs(np.array(shows) - np.arange(len(shows)) * 0.4).max() <= 0.5 + 1e-6


# MPEG-TS: cut, joined, damaged


def cut(path: Path, to: Path, start: float, stop: float = 1) -> Path:
    """A part of a TS by its packets of 188 bytes."""
    content = path.read_bytes()
    packets = len(content) // 188
    to.write_bytes(content[round(start * packets) * 188 : round(stop * packets) * 188])
    return to


@pytest.mark.parametrize("kind", ["h264.ts", "hevc.ts", "open-gop.ts", "mpeg2.ts"])
def test_a_video_that_begins_between_key_frames(
    kind: str, tmp_path: Path, fmbench: Command
) -> None:
    whole = made(tmp_path / f"whole-{kind}", count=110, **KINDS[kind])
    video = RawVideo(cut(whole, tmp_path / "cut.ts", 0.25))
    found = decoded(video)
    at = {number: round(video.shown[number] * 25) for number in found}
    (before,) = {source - at[number] for number, source in found.items()}  # frames cut off
    assert 0 < before < min(found.values())
    assert min(found) > 0
    lost = video.lost()
    assert "(the file begins between two key frames)" in lost
    assert lost.startswith(f"{min(found)} of {video.num_frames} frames cannot be decoded")
    assert f"{min(found)} from 0.00 to {video.shown[min(found) - 1]:.2f} s" in lost
    done = fmbench(*flags(tmp_path, video=tmp_path / "cut.ts"))
    assert done.status == 0, done.err
    assert f"note: {lost}" in done.out
    shows, index = written(tmp_path, "cut")
    assert shows == [before + at[k] for k in index]
    assert at[index[0]] % 25 == 0  # a whole second after --start


@pytest.mark.parametrize("kind", ["h264.ts", "hevc.ts"])
def test_segments_joined_by_bytes_follow_each_other(
    kind: str, tmp_path: Path, fmbench: Command
) -> None:
    each = [made(tmp_path / f"{k}-{kind}", count=25, first=25 * k, **KINDS[kind]) for k in range(3)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(path.read_bytes() for path in each))
    video = RawVideo(joined)
    assert decoded(video) == {k: k for k in range(75)}
    assert np.allclose(video.shown, np.arange(75) / 25)
    assert "3 segments joined at 1.0 s and 2.0 s" in video.remarks()[0]
    assert source_of(video.frame(60)) == 60
    done = fmbench(*flags(tmp_path, video=joined))
    assert done.status == 0, done.err
    assert "note: 3 segments joined at 1.0 s and 2.0 s" in done.out
    assert written(tmp_path, "joined")[0] == list(range(75))


def test_a_segment_between_key_frames_loses_only_its_own_frames(tmp_path: Path) -> None:
    one = made(tmp_path / "one.ts", count=40)
    two = cut(made(tmp_path / "whole.ts", count=70, first=20), tmp_path / "two.ts", 0.15)
    (tmp_path / "joined.ts").write_bytes(one.read_bytes() + two.read_bytes())
    video = RawVideo(tmp_path / "joined.ts")
    found = decoded(video)
    assert [found[k] for k in range(37)] == list(range(37))  # the cut harms the packet before it
    later = {source - number for number, source in found.items() if number >= 40}
    assert len(later) == 1
    assert min(k for k in found if k >= 40) > 40
    assert set(found.values()) >= set(range(60, 90))  # two.ts, from its first key frame on


def test_segments_of_one_clock_are_one_video(tmp_path: Path) -> None:
    at = [3600 * k for k in range(50)]
    one = made(tmp_path / "1.ts", count=25, at=at[:25])
    two = made(tmp_path / "2.ts", count=25, first=25, at=[t + 10 * 90000 for t in at[25:]],
               container={"mpegts_copyts": "1"})  # fmt: skip
    (tmp_path / "joined.ts").write_bytes(one.read_bytes() + two.read_bytes())
    video = RawVideo(tmp_path / "joined.ts")
    assert list(decoded(video).values()) == list(range(50))
    assert np.diff(video.shown).max() > 9  # a gap of the camera's clock stays one
    assert "segments" not in " ".join(video.remarks())


def test_a_clock_that_goes_back_without_a_restart_is_refused(
    tmp_path: Path, fmbench: Command
) -> None:
    one = made(tmp_path / "1.ts", count=50, at=[90000 * 30 + 3600 * k for k in range(50)])
    two = made(tmp_path / "2.ts", count=50, at=[90000 * 12 + 3600 * k for k in range(50)])
    joined = tmp_path / "joined.ts"
    joined.write_bytes(one.read_bytes() + two.read_bytes())
    refused(
        fmbench(*flags(tmp_path, video=joined)),
        "segments are joined at 2.0 s, where the clock goes back from 32.0 s to 12.0 s",
        "Give the segments as separate files whose names have date and time",
    )


def test_a_clock_of_33_bits_passes_its_end(tmp_path: Path) -> None:
    first = (1 << 33) - 30 * 3600
    video = RawVideo(made(tmp_path / "w.ts", at=[first + 3600 * k for k in range(60)],
                          container={"mpegts_copyts": "1"}))  # fmt: skip
    with av.open(str(tmp_path / "w.ts"), options={"correct_ts_overflow": "0"}) as container:
        stamps = [p.pts for p in container.demux(video=0) if p.size]
    assert max(stamps) - min(stamps) > 1 << 32  # the file's clock does
    assert decoded(video) == {k: k for k in range(60)}
    assert np.allclose(video.shown, np.arange(60) / 25)
    assert source_of(video.frame(45)) == 45


def test_a_clock_that_is_set_back_a_little_shifts_no_frame(
    tmp_path: Path, fmbench: Command
) -> None:
    one = made(tmp_path / "1.ts", count=40, at=[3600 * k + 90000 for k in range(40)])
    two = made(tmp_path / "2.ts", count=60, first=40, at=[3600 * k + 207000 for k in range(60)])
    (tmp_path / "v.ts").write_bytes(one.read_bytes() + two.read_bytes())
    video = RawVideo(tmp_path / "v.ts")
    found = decoded(video)
    for number, source in found.items():
        time = source / 25 if source < 40 else (source - 40) / 25 + 1.3
        assert video.shown[number] == pytest.approx(time)
    assert set(found.values()) > {*range(40), *range(50, 100)}
    done = fmbench(*flags(tmp_path, video=tmp_path / "v.ts"))
    assert done.status == 0, done.err
    assert " packets give no frame to show, in order" in done.out


def harmed(path: Path, frame: int, how: str) -> Path:
    """The same file with the packet of index `frame` overwritten."""
    with av.open(str(path)) as container:
        place = [(p.pos, p.size) for p in container.demux(video=0) if p.size][frame]
    content = bytearray(path.read_bytes())
    start, size = place
    if how == "zeroed":
        content[start : start + size] = bytes(size)
    else:
        for k in range(start + size // 2, start + size):
            content[k] ^= 0xA5
    bad = path.with_name(f"bad-{path.name}")
    bad.write_bytes(content)
    return bad


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    "case",
    [
        *("h264.mp4 zeroed", "h264.mp4 flipped", "hevc.mp4 zeroed", "mpeg4.mp4 zeroed"),
        *("mpeg4.mp4 flipped", "mpeg4.avi zeroed", "h264.avi zeroed", "h264.avi flipped"),
        *("mjpeg.avi zeroed", "mjpeg.avi flipped", "prores.mov zeroed"),
    ],
)
def test_a_damaged_packet_costs_frames_and_shifts_none(
    case: str, threads: int, tmp_path: Path
) -> None:
    kind, how = case.split()
    whole = made(tmp_path / kind, count=80, **KINDS[kind])
    video = RawVideo(harmed(whole, 45, how), threads=threads)
    found = decoded(video)
    shift = {source - number for number, source in found.items()}
    assert shift == {0}
    gone = sorted(set(range(80)) - set(found))
    assert gone
    assert set(gone) <= set(range(40, 62))  # up to the next key frame
    assert f"{len(gone)} of 80 frames cannot be decoded" in video.lost()
    assert f" from {gone[0] / 25:.2f} to " in video.lost()
    assert f" to {gone[-1] / 25:.2f} s" in video.lost()


def test_lost_parts_of_a_ts_are_said_and_treated_as_gaps(tmp_path: Path, fmbench: Command) -> None:
    whole = made(
        tmp_path / "whole.ts", count=110, options={**X264, "x264-params": GOP}
    ).read_bytes()
    at = len(whole) // 188 * 3 // 10
    (tmp_path / "v.ts").write_bytes(whole[: at * 188] + whole[(at + 7) * 188 :])
    video = RawVideo(tmp_path / "v.ts")
    found = decoded(video)
    number = {k: round(video.shown[k] * 25) for k in found}
    assert all(number[k] == source for k, source in found.items())
    assert 2 <= 110 - len(found) <= 24
    told = flags(tmp_path, video=tmp_path / "v.ts")
    refused(fmbench(*told), "1 gaps in the video", "cannot be decoded", "--gaps mask leaves")
    assert not list((tmp_path / "root").rglob("*.mat"))
    done = fmbench(*told, "--gaps", "mask")
    assert done.status == 0, done.err
    shows, index = written(tmp_path, "v")
    assert [number[k] for k in index] == shows
    held = fmbench(*told, "--gaps", "hold", "--name", "held")
    assert held.status == 0, held.err
    shows, _ = written(tmp_path, "held")
    assert len(shows) == 100
    assert all(-1 <= k - source < 24 for k, source in enumerate(shows))
    assert shows[:20] == list(range(20))
    assert shows[-20:] == list(range(80, 100))


def test_frames_of_one_stamp_are_said(tmp_path: Path) -> None:
    path = made(tmp_path / "d.mkv", codec="ffv1", options={"level": "3"}, count=20)
    again = tmp_path / "again.mkv"
    with av.open(str(path)) as source, av.open(str(again), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                if packet.pts == 400:
                    packet.pts = packet.dts = 360
                packet.stream = stream
                copy.mux(packet)
    video = RawVideo(again)
    assert list(decoded(video).values()) == list(range(20))
    assert video.shown[10] == video.shown[9] == pytest.approx(0.36)
    said = "1 frames have the time stamp of another, first at 0.36 s; the last of them is used"
    assert said in video.remarks()


# The picture


def corner(picture: NDArray[np.uint8], k: int) -> None:
    """A white corner at the top left, a dark one at the top right."""
    picture[:] = 120
    picture[:32, :32] = 230
    picture[:32, -32:] = 40


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_video_is_turned_as_opencv_turns_it(angle: int, tmp_path: Path, fmbench: Command) -> None:
    path = made(tmp_path / "r.mp4", draw=corner, count=50,
                setup=lambda stream: stream.set_display_rotation(angle))  # fmt: skip
    video = RawVideo(path)
    _, theirs = cv2.VideoCapture(str(path)).read()
    assert video.size == theirs.shape[:2] == ((96, 128) if angle == 180 else (128, 96))
    assert np.abs(video.frame(0).astype(int) - theirs[:, :, ::-1]).max() <= 3
    assert "turned by " in video.remarks()[0]
    assert f"{video.size[1]} x {video.size[0]}" in video.remarks()[0]
    sheet = fmbench("data", "ingest", "--video", path, "--out", tmp_path)
    assert "as the file asks for; --roi refers to the picture as shown" in sheet.out
    tile = cv2.imread(str(tmp_path / "r-contact-sheet.jpg"))
    tile = tile[: tile.shape[0] // 3, : tile.shape[1] // 4]
    shown = cv2.resize(theirs, tile.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(tile.astype(int) - shown).mean() < 8  # but for the grid
    roi = f"0,0,{video.size[1]},{video.size[0]}"
    done = fmbench(*flags(tmp_path, "--roi", roi, video=path))
    assert done.status == 0, done.err
    with h5py.File(tmp_path / "root/unlabelled/videos/r.mat") as file:
        frame = file["data"][3].transpose(2, 1, 0)
    wanted = cv2.resize(theirs[:, :, ::-1], (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(frame.astype(int) - wanted).max() <= 4


def test_a_mirrored_video_is_shown_mirrored(tmp_path: Path) -> None:
    one = 1 << 16
    matrix = (-one, 0, 0, 0, one, 0, 128 * one, 0, 1 << 30)
    path = made(tmp_path / "m.mp4", draw=corner, count=3,
                setup=lambda stream: stream.set_display_matrix(matrix))  # fmt: skip
    picture = RawVideo(path).frame(0)
    assert picture[10, -10].mean() > 200
    assert picture[10, 10].mean() < 60


@pytest.mark.parametrize(("aspect", "size"), [("4:3", (96, 171)), ("8:9", (108, 128))])
def test_pixels_that_are_not_square_are_shown_square(
    aspect: str, size: tuple[int, int], tmp_path: Path
) -> None:
    def wide(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(aspect.replace(":", "/"))

    video = RawVideo(made(tmp_path / "a.mp4", draw=corner, count=3, setup=wide))
    assert video.size == size
    assert video.frame(0).shape == (*size, 3)
    assert video.frame(0)[5, 5].mean() > 200
    assert (
        f"pixels of {aspect}: the picture of 128 x 96 is shown, and cut, as" in video.remarks()[0]
    )


def plain(path: Path, codec: str, pixels: str, yuv: tuple[int, int, int], **tags: int) -> Path:
    """One colour, given in the numbers that are stored."""
    bits = 10 if "10" in pixels else 8
    options = {"qp": "1"} if codec == "libx264" else {"x265-params": "lossless=1:log-level=none"}
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        frame = av.VideoFrame(64, 64, pixels)
        for plane, value in zip(frame.planes, yuv, strict=True):
            kind: Any = np.uint16 if bits > 8 else np.uint8
            plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
        for tag, value in tags.items():
            setattr(stream.codec_context, tag, value)
            setattr(frame, tag, value)
        for packet in [*stream.encode(frame), *stream.encode()]:
            out.mux(packet)
    return path


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", ["601", "709", ""])
def test_colours_follow_the_files_matrix_and_range(
    bits: int, full: bool, matrix: str, tmp_path: Path
) -> None:
    """Against the formulas of ITU-R BT.601 and BT.709."""
    y, u, v = (value << (bits - 8) for value in (120, 90, 180))
    tags = {"color_range": 2 if full else 1}
    if matrix:
        tags["colorspace"] = {"601": 5, "709": 1}[matrix]
    codec, pixels = ("libx265", "yuv420p10le") if bits == 10 else ("libx264", "yuv420p")
    found = RawVideo(plain(tmp_path / "c.mkv", codec, pixels, (y, u, v), **tags)).frame(0)[32, 32]
    red, blue = {"709": (0.2126, 0.0722)}.get(matrix, (0.299, 0.114))
    unit = 1 << (bits - 8)
    luma, scale = (y / (255 * unit), 255 * unit) if full else ((y / unit - 16) / 219, 224 * unit)
    r = luma + 2 * (1 - red) * (v - 128 * unit) / scale
    b = luma + 2 * (1 - blue) * (u - 128 * unit) / scale
    g = (luma - red * r - blue * b) / (1 - red - blue)
    assert np.abs(found - 255 * np.array([r, g, b])).max() <= 2


def test_interlaced_and_hd_without_a_matrix_are_said(tmp_path: Path) -> None:
    def interlaced(stream: Any) -> None:
        stream.codec_context.flags |= 1 << 18  # AV_CODEC_FLAG_INTERLACED_DCT

    video = RawVideo(made(tmp_path / "i.ts", options={**X264, "x264-params": "interlaced=1"},
                          count=10, setup=interlaced))  # fmt: skip
    assert "interlaced: the two fields of a frame are not separated" in video.remarks()
    assert list(decoded(video).values()) == list(range(10))
    large = RawVideo(made(tmp_path / "hd.mp4", size=(1280, 720), count=2))
    assert "the file does not state its colour matrix: BT.601 is taken" in large.remarks()[0]


def test_a_picture_that_changes_its_size_is_refused(tmp_path: Path, fmbench: Command) -> None:
    one = made(tmp_path / "1.ts", count=30)
    two = made(tmp_path / "2.ts", count=30, size=(64, 48))
    (tmp_path / "v.ts").write_bytes(one.read_bytes() + two.read_bytes())
    told = fmbench(*flags(tmp_path, video=tmp_path / "v.ts"))
    refused(told, "the picture changes from 128 x 96 to 64 x 48 at 1.2 s; split the file there")


@pytest.mark.parametrize("first", ["small", "large"])
def test_of_several_streams_the_largest_picture_is_read(first: str, tmp_path: Path) -> None:
    """A recorder's second stream, which FFmpeg would choose where it comes first."""
    paths = {
        "small": made(tmp_path / "small.mp4", size=(64, 48)),
        "large": made(tmp_path / "large.mp4"),
    }
    order = [first, *(set(paths) - {first})]
    with av.open(str(tmp_path / "both.mkv"), "w") as out:
        sources = [av.open(str(paths[name])) for name in order]
        streams = [out.add_stream_from_template(each.streams.video[0]) for each in sources]
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)
            source.close()
    video = RawVideo(tmp_path / "both.mkv")
    assert video.size == (96, 128)
    assert list(decoded(video).values()) == list(range(60))
    assert source_of(video.frame(33)) == 33
    assert video.remarks() == [
        "several video streams: the largest picture, 128 x 96, is read, not 64 x 48"
    ]
    assert RawVideo(paths["large"]).remarks() == []


# Several files


def parts(folder: Path, names: Sequence[str], count: int = 25, **more: Any) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [
        made(folder / name, count=count, first=k * count, **more) for k, name in enumerate(names)
    ]


@pytest.mark.parametrize("how", ["folder", "pattern", "files", "repeated"])
def test_several_files_continue_each_other(how: str, tmp_path: Path, fmbench: Command) -> None:
    files = parts(tmp_path / "cam", ["s1.ts", "s2.ts", "s10.ts"])
    words: list[Any] = {
        "folder": [tmp_path / "cam"],
        "pattern": [f"{tmp_path}/cam/*.ts"],
        "files": files,
        "repeated": [files[0], "--video", files[1], "--video", files[2]],
    }[how]
    told = flags(tmp_path, "--name", "all", video=Path("x"))
    at = told.index("--video") + 1
    done = fmbench(*told[:at], *words, *told[at + 1 :])
    assert done.status == 0, done.err
    assert "note: 3 files, in this order: s1.ts, s2.ts, s10.ts; placed by" in done.out
    assert "note: their clocks start again: such a file is taken to follow the one" in done.out
    assert written(tmp_path, "all")[0] == list(range(75))
    report = json.loads((tmp_path / "root/unlabelled/sources/all.json").read_text())
    assert report["video"] == "s1.ts, s2.ts, s10.ts"


def test_segments_of_one_recorder_keep_its_clock(tmp_path: Path) -> None:
    """A recorder's own segments; the second is missing, or the order is wrong."""
    whole = made(
        tmp_path / "s%d.ts",
        form="segment",
        container={"segment_time": "0.8", "segment_format": "mpegts"},
    ).with_name("s0.ts")
    files = [whole.with_name(f"s{k}.ts") for k in range(3)]
    video = RawVideo(files)
    assert decoded(video) == {k: k for k in range(60)}
    assert video.remarks()[1] == "no gaps between them"
    assert np.allclose(video.shown, np.arange(60) / 25)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(file.read_bytes() for file in files))
    assert decoded(RawVideo(joined)) == {k: k for k in range(60)}
    assert RawVideo(joined).remarks() == []
    video = RawVideo([files[0], files[2]])
    assert video.remarks()[1] == "gaps: 0.8 s between s0.ts and s2.ts"
    found = decoded(video)
    assert all(source == round(25 * video.shown[k]) for k, source in found.items())
    with pytest.raises(ValueError, match="the files overlap, or are not in order"):
        RawVideo(files[::-1])


def test_date_and_time_in_the_names_place_the_files(tmp_path: Path, fmbench: Command) -> None:
    names = ["cam1_20300501_060000.mp4", "cam1_20300501_060002.mp4", "cam1_20300501_060010.mp4"]
    parts(tmp_path / "cam", names, count=50)
    told = flags(tmp_path, "--gaps", "mask", video=tmp_path / "cam", start=None)
    done = fmbench(*told)
    assert done.status == 0, done.err
    assert "note: the first frame is of 2030-05-01 06:00:00, as cam1_2030" in done.out
    assert "gaps: 6.0 s between cam1_20300501_060002.mp4 and cam1_20300501_060010.mp4" in done.out
    part = tmp_path / "root" / "unlabelled"
    times = pd.read_csv(part / "timestamps" / "cam1_20300501_060000.csv")["time"]
    shows, _ = written(tmp_path, "cam1_20300501_060000")
    for second, wanted in (("06:00:00", 0), ("06:00:03", 75), ("06:00:10", 100), ("06:00:11", 125)):
        rows = np.flatnonzero(times == f"2030-05-01 {second}")
        assert shows[rows[0]] == wanted
    made(tmp_path / "cam" / names[0], count=100)
    refused(fmbench(*told, "--name", "b"), "cam1_20300501_060002.mp4 begins 2", "before the end of")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, fmbench: Command) -> None:
    cam = tmp_path / "cam"
    files = parts(cam, ["a.ts", "b.ts"])
    told = flags(tmp_path, "--name", "x", video=cam)
    (cam / "notes.txt").write_text("shift 2\n")
    refused(fmbench(*told), "notes.txt: no video that can be read", "a pattern such as 'cam/*.ts'")
    (cam / "notes.txt").unlink()
    made(cam / "c.ts", size=(64, 48), count=5)
    refused(fmbench(*told), "c.ts shows 64 x 48 pixels, ", "a.ts 128 x 96")
    (cam / "c.ts").unlink()
    made(cam / "c.ts", count=25, at=[90000 * 20 + 3600 * k for k in range(25)])
    made(cam / "d.ts", count=25, at=[90000 * 10 + 3600 * k for k in range(25)])
    refused(fmbench(*told), "d.ts begin at ", "overlap, or are not in order")
    with pytest.raises(ValueError, match=r"a\.ts is given twice"):
        find_videos([files[0], cam / ".." / "cam" / "a.ts"])
    with pytest.raises(ValueError, match=r"q\*\.ts: no file has such a name"):
        find_videos([f"{cam}/q*.ts"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no file"):
        find_videos([tmp_path / "empty"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cam1_20300501_060000.mp4", "2030-05-01T06:00:00"),
        ("2030-05-01 06-00-00.ts", "2030-05-01T06:00:00"),
        ("NVR.2030.05.01.06.00.00.avi", "2030-05-01T06:00:00"),
        ("20300501060000.mkv", "2030-05-01T06:00:00"),
        ("20300501T060000_20300501T061000.mkv", None),
        ("cam.2030.05.01.mp4", None),
        ("20301301_060000.mp4", None),
        ("run.mp4", None),
    ],
)
def test_date_and_time_of_a_name(name: str, text: str | None) -> None:
    wanted = None if text is None else np.datetime64(text, "s").astype(int)
    assert dated(Path(name)) == wanted


# Bad input


def test_what_is_no_video_is_refused(tmp_path: Path, fmbench: Command) -> None:
    def told(path: Path) -> list[Any]:
        return flags(tmp_path, video=path)

    (tmp_path / "empty.mp4").touch()
    refused(fmbench(*told(tmp_path / "empty.mp4")), "empty.mp4 is empty (0 bytes)")
    (tmp_path / "text.mp4").write_text("time,current\n" * 100)
    refused(fmbench(*told(tmp_path / "text.mp4")), "text.mp4: no video that can be read")
    whole = made(tmp_path / "whole.ts", count=15, options={**X264, "x264-params": "keyint=250"})
    cut(whole, tmp_path / "headless.ts", 0.5)
    refused(fmbench(*told(tmp_path / "headless.ts")), "headless.ts: ")
    refused(
        fmbench(*flags(tmp_path, video=whole, start=None)), "give either --start, the time of its"
    )
    half = made(tmp_path / "f.mp4", container={"movflags": "frag_keyframe+empty_moov"})
    content = half.read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) * 2 // 3])
    found = decoded(RawVideo(tmp_path / "half.mp4"))
    assert list(found.values()) == list(range(len(found)))
    assert 20 <= len(found) < 60


def test_a_file_without_permission_is_said(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", count=3)
    path.chmod(0)
    try:
        path.open("rb").close()
    except PermissionError:
        with pytest.raises(ValueError, match=r"a\.mp4: no permission to read it"):
            RawVideo(path)
    else:
        pytest.skip("this user may read every file")


def test_a_scan_is_of_packets_only(tmp_path: Path) -> None:
    found = scan(made(tmp_path / "a.mp4"))
    assert np.flatnonzero(found.keys).tolist() == [0, 20, 40]
    assert sorted(found.ticks * found.unit) == pytest.approx(np.arange(60) / 25 + found.raw[0])
    assert found.seekable


@pytest.mark.parametrize("kind", ["h264.mp4", "h264.ts", "hevc.ts", "open-gop.ts", "vp9.webm"])
def test_a_frame_is_found_without_reading_the_file_from_its_begin(
    kind: str, tmp_path: Path
) -> None:
    (clip,) = RawVideo(made(tmp_path / kind, count=120, **KINDS[kind]))._clips
    for number in (0, 45, 79, 119):
        picture = clip.sought(number)
        assert picture is not None
        assert source_of(picture) == number
