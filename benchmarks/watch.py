"""How fast `fmbench watch` decides, how late, and whether its memory grows.

    python benchmarks/watch.py --checkpoint best.ckpt --into benchmarks/watch.md

A checkpoint of video and current reads a simulated video of 1440 x 2560 at full speed; then a long
one of small pictures, of which memory is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

from fmbench.files.atomic import write_text

START = "2030-05-01 06:00:00"


def video(path: Path, seconds: int, size: tuple[int, int]) -> None:
    """H.264 at 25 frames a second: noise, enlarged, over a light that moves."""
    tall, wide = size
    rng = np.random.default_rng(0)
    grain = [cv2.resize(rng.integers(30, 90, (tall // 4, wide // 4, 3)).astype(np.uint8), (wide, tall)) for _ in range(8)]  # fmt: skip
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "26"})
        stream.height, stream.width, stream.pix_fmt = tall, wide, "yuv420p"
        for k in range(25 * seconds):
            shown = grain[k % 8].copy()
            x = round(wide * (0.5 + 0.2 * np.sin(k / 40)))
            cv2.circle(shown, (x, tall // 2), tall // 8, (250, 120, 20), -1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        out.mux(stream.encode())


def log(path: Path, seconds: int) -> None:
    """Two rows a second."""
    rng = np.random.default_rng(1)
    times = np.datetime64(START.replace(" ", "T"), "ms") + 500 * np.arange(2 * seconds + 4)
    rows = rng.normal(12_000, 800, (len(times), 3))
    lines = [f"{t},{a:.1f},{b:.1f},{c:.1f}\n" for t, (a, b, c) in zip(times, rows, strict=True)]
    path.write_text("time,Ia,Ib,Ic\n" + "".join(lines).replace("T", " "))


def replay(checkpoint: Path, folder: Path, roi: str) -> tuple[int, float, list[float]]:
    """Decisions, seconds from the first to the last, and memory in MB as it went."""
    words = ["--checkpoint", checkpoint, "--video", folder / "run.mp4", "--current"]
    words += [folder / "plc.csv", "--start", START, "--roi", roi, "--speed", "max"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fmbench", "watch", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    count, begin, memory = 0, 0.0, []
    for line in process.stdout:
        begin = begin or time.monotonic()
        assert json.loads(line)["state"] != "NO DECISION", line
        count += 1
        if count % 60 == 0:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    took = time.monotonic() - begin
    assert process.wait() == 0
    return count, took, memory


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=60, help="of the large video")
    parser.add_argument("--minutes", type=int, default=60, help="of the small video")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video(folder / "run.mp4", given.seconds, (1440, 2560))
        log(folder / "plc.csv", given.seconds)
        count, took, _ = replay(given.checkpoint, folder, "560,320,900,900")
        (folder / "run.mp4").unlink()
        video(folder / "run.mp4", 60 * given.minutes, (64, 64))
        log(folder / "plc.csv", 60 * given.minutes)
        long, long_took, memory = replay(given.checkpoint, folder, "0,0,64,64")
    cores = len(os.sched_getaffinity(0))
    write_text(
        given.into,
        "# Speed and memory of a watch\n\n"
        f"`python benchmarks/watch.py`: {cores} cores; load average {load:.1f} before it began, by"
        " other programs: repeat it on an idle machine. Drawn pictures, H.264, 25 frames a second;"
        " a decision a second.\n\n"
        "| video | decisions | a second | times real time |\n| --- | --- | --- | --- |\n"
        f"| 1440 x 2560, {given.seconds} s | {count} | {count / took:.2f} | {count / took:.1f} |\n"
        f"| 64 x 64, {given.minutes} min | {long} | {long / long_took:.1f} |"
        f" {long / long_took:.0f} |\n\n"
        f"Memory of the process over the long replay: {memory[len(memory) // 4]:.0f} MB after a"
        f" quarter, {memory[-1]:.0f} MB at the end.\n",
    )


if __name__ == "__main__":
    main()
