"""`fmbench data ingest` beside decord alone: frames a second and memory, at 1440 x 2560.

    python benchmarks/ingest.py --into benchmarks/ingest.md

Some seconds of a simulated furnace are rendered in full and compressed (H.264, libx264 veryfast);
the compressed packets are then repeated to the length in --minutes. Video and current need not
match here. decord only reads frames.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from fmbench.simulator.camera import FURNACE_BOX, Camera
from fmbench.simulator.process import simulate
from fmbench.simulator.settings import SimConfig
from fmbench.tabular import markdown

HEIGHT, WIDTH = 1440, 2560
DRAWN = 10
"""Seconds that are rendered; the rest repeats them."""

ALONE = """
import sys, time
import decord
reader, end = decord.VideoReader(sys.argv[1], num_threads=int(sys.argv[2])), int(sys.argv[3])
begin = time.perf_counter()
for _ in range(end):
    reader.next()
print(end / (time.perf_counter() - begin))
"""
INGEST = """
import sys
from pathlib import Path
from fmbench.cli import main
status = main(sys.argv[1:])
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
sys.exit(status)
"""


def write(folder: Path, minutes: int) -> tuple[Path, Path, str]:
    """Write a video and a log; returns their paths and the furnace's box in the picture."""
    run = simulate(SimConfig(seed=0), 0, 60 * minutes)
    rows = zip(np.repeat(run.seconds, 2), run.currents.reshape(-1, 3), strict=True)
    text = "".join(f"{when},{a:.6g},{b:.6g},{c:.6g}\n" for when, (a, b, c) in rows)
    (folder / "plc.csv").write_text("time,A,B,C\n" + text.replace("T", " "))
    camera = Camera(run, size=(HEIGHT, WIDTH), roi="full")
    with av.open(str(folder / "drawn.mp4"), "w") as drawn:
        stream: Any = drawn.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(25 * DRAWN):
            picture = np.ascontiguousarray(camera.frames(np.array([index]))[0].transpose(1, 2, 0))
            drawn.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        drawn.mux(stream.encode())
    created = str(run.seconds[0]) + "Z"
    with av.open(str(folder / "drawn.mp4")) as drawn, av.open(str(folder / "run.mp4"), "w") as out:
        out.metadata["creation_time"] = created
        source = drawn.streams.video[0]
        copy = out.add_stream_from_template(source)
        packets = [
            (bytes(p), p.pts, p.dts, p.is_keyframe) for p in drawn.demux(source) if p.size > 0
        ]
        step = packets[1][2] - packets[0][2]
        for turn in range(60 * minutes // DRAWN):
            for content, pts, dts, key in packets:
                packet = av.Packet(content)
                later = turn * step * len(packets)
                packet.pts, packet.dts, packet.duration = pts + later, dts + later, step
                packet.is_keyframe, packet.time_base, packet.stream = key, source.time_base, copy
                out.mux(packet)
    top, left, tall, wide = FURNACE_BOX
    box = left * WIDTH, top * HEIGHT, wide * WIDTH, tall * HEIGHT
    return folder / "run.mp4", folder / "plc.csv", ",".join(f"{side:.0f}" for side in box)


def python(*words: object) -> str:
    command = [sys.executable, "-c", *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    rows = [["threads", "decord", "ingest", "ratio", "GB"]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video, log, box = write(folder, given.minutes)
        frames, size = 60 * 25 * given.minutes, video.stat().st_size / 1e9
        for threads in given.threads:
            alone = [float(python(ALONE, video, threads, 2500))]
            words = f"data ingest --video {video} --current {log} --roi {box} --out {folder}"
            more = f" --threads {threads} --gaps mask --name with-{threads}"
            begin = time.perf_counter()
            kilobytes = int(python(INGEST, *(words + more).split()).splitlines()[-1])
            rate = frames / (time.perf_counter() - begin)
            alone.append(float(python(ALONE, video, threads, 2500)))
            bare, gigabytes = np.mean(alone), kilobytes * 1024 / 1e9
            figures = [f"{bare:.0f}", f"{rate:.0f}", f"{rate / bare:.2f}", f"{gigabytes:.2f}"]
            rows.append([str(threads), *figures])
            print(*rows[-1], flush=True)
    text = "\n".join(
        [
            "# Ingest beside decord alone",
            "",
            f"`python benchmarks/ingest.py --minutes {given.minutes}`: {frames:,} frames of"
            f" {HEIGHT} x {WIDTH}, H.264, {size:.1f} GB, region {box}, two cores. Frames a second"
            " of the whole command, imports and the reading of the log included, beside decord"
            " reading 2,500 frames before and after it, and the most memory that the command held.",
            "",
            markdown(rows),
            "",
        ]
    )
    if given.into:
        given.into.write_text(text)


if __name__ == "__main__":
    main()
