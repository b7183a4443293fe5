"""How fast `fmbench watch` decides, how late, and whether its memory grows.

    python benchmarks/watch.py --checkpoint best.ckpt --into benchmarks/watch.md

A checkpoint of video and current reads a drawn video of 1440 x 2560 at full speed; then a long one
of small pictures, over which memory is measured; then a camera that serves pictures live.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from fmbench.files.atomic import write_text

START = "2030-05-01 06:00:00"


def pictures(tall: int, wide: int, grain: int = 4) -> np.ndarray:
    """(8, tall, wide, 3): noise of `grain` pixels over a slope of brightness."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 90, (8, tall // grain, wide // grain, 3)).astype(np.uint8)
    slope = np.linspace(0, 160, wide).astype(np.uint8)[None, :, None]
    return np.stack([cv2.resize(each, (wide, tall)) + slope for each in coarse])


def video(path: Path, seconds: int, size: tuple[int, int]) -> None:
    """H.264 at 25 frames a second: `pictures`."""
    tall, wide = size
    drawn = pictures(tall, wide)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "26"})
        stream.height, stream.width, stream.pix_fmt = tall, wide, "yuv420p"
        for k in range(25 * seconds):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(drawn[k % 8], format="rgb24")))
        out.mux(stream.encode())


def log(path: Path, seconds: int) -> None:
    """Two rows a second."""
    rng = np.random.default_rng(1)
    times = np.datetime64(START.replace(" ", "T"), "ms") + 500 * np.arange(2 * seconds + 4)
    rows = rng.normal(12_000, 800, (len(times), 3))
    lines = [f"{t},{a:.1f},{b:.1f},{c:.1f}\n" for t, (a, b, c) in zip(times, rows, strict=True)]
    path.write_text("time,Ia,Ib,Ic\n" + "".join(lines).replace("T", " "))


def spent() -> tuple[float, float]:
    """Processor seconds of the whole computer so far, and those of this program that have ended."""
    user, nice, system = Path("/proc/stat").read_text().split()[1:4]
    ticks = int(user) + int(nice) + int(system)
    own = os.times()
    return ticks / os.sysconf("SC_CLK_TCK"), sum(own[:4])


class Replay(NamedTuple):
    """What was measured over a file.

    Attributes:
        count: of decisions.
        rate: decisions a second.
        others: processors that other programs took meanwhile.
        memory: MB after ten decisions, in the middle and at the end.
    """

    count: int
    rate: float
    others: float
    memory: tuple[float, float, float]


def replay(checkpoint: Path, folder: Path, roi: str) -> Replay:
    """Watch a file at full speed."""
    start, everyone, own = time.monotonic(), *spent()
    words = ["--checkpoint", checkpoint, "--video", folder / "run.mp4", "--current"]
    words += [folder / "plc.csv", "--start", START, "--roi", roi, "--speed", "max"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fmbench", "watch", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    begin, memory = 0.0, []
    for line in process.stdout:
        begin = begin or time.monotonic()
        assert json.loads(line)["state"] != "NO DECISION", line
        pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
        memory.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    took = time.monotonic() - begin
    assert process.wait() == 0
    now, own_now = spent()
    others = (now - everyone - (own_now - own)) / (time.monotonic() - start)
    count = len(memory)
    kept = memory[min(10, count - 1)], memory[count // 2], memory[-1]
    return Replay(count, (count - 1) / took, others, kept)


def live(checkpoint: Path, folder: Path, decisions: int, ahead: float) -> list[float]:
    """Seconds from the arrival of a frame by RTSP, 720 x 1280, to its decision; rows of the log
    come `ahead` seconds before their time."""
    tests = Path(__file__).parents[1] / "tests"
    sys.path[:0] = [str(tests / name) for name in ("", "watch", "cli", "prepare")]
    from rtsp import Camera
    from test_live import Plc, Watching, decided

    drawn = pictures(720, 1280, 40)  # 9 Mbit/s, as a camera sends
    camera = Camera(lambda k: drawn[k % 8], (720, 1280))
    camera.start()
    plc = Plc(folder / "live.csv")
    plc.delay = timedelta(seconds=ahead)
    words = ["--checkpoint", checkpoint.resolve(), "--video", camera.address, "--current"]
    words += [plc.path, "--roi", "280,40,640,640", "--threads", "1"]
    watch = Watching(*words, folder=folder)
    try:
        watch.wait_for(decided, decisions)
    finally:
        watch.end()
        camera.stop()
        plc.close()
    return [each["latency"] for each in watch.decisions if decided(each)]


def processor() -> str:
    """Its name, as Linux knows it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=40, help="of the large video")
    parser.add_argument("--minutes", type=int, default=20, help="of the small video")
    parser.add_argument("--live", type=int, default=40, help="decisions of each live measurement")
    given = parser.parse_args()
    busy = os.getloadavg()[0]
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video(folder / "run.mp4", given.seconds, (1440, 2560))
        log(folder / "plc.csv", given.seconds)
        large = replay(given.checkpoint, folder, "560,320,900,900")
        (folder / "run.mp4").unlink()
        video(folder / "run.mp4", 60 * given.minutes, (64, 64))
        log(folder / "plc.csv", 60 * given.minutes)
        small = replay(given.checkpoint, folder, "0,0,64,64")
        late = {ahead: live(given.checkpoint, folder, given.live, ahead) for ahead in (0.0, 1.0)}
    cores = len(os.sched_getaffinity(0))
    rows = [
        f"| {what} | {1000 * np.median(late[ahead]):.0f} ms |"
        f" {1000 * np.quantile(late[ahead], 0.99):.0f} ms |\n"
        for what, ahead in (
            ("rows by their time: the wait for the next row is included", 0.0),
            ("rows are there before the frame: cut, window and model", 1.0),
        )
    ]
    start, middle, end = small.memory
    write_text(
        given.into,
        "# Speed and memory of a watch\n\n"
        f"`python benchmarks/watch.py`: {processor()}, {cores} cores; load average {busy:.1f}"
        " before it began, by other programs: repeat it on an idle machine. Drawn pictures, H.264,"
        " 25 frames a second; a decision a second, the model on one thread. Every frame is decoded;"
        " those that a clip or the check of the camera reads are cut to the region and resized."
        "\n\n"
        "| video | decisions | a second, so times real time | cores that others took |\n"
        "| --- | --- | --- | --- |\n"
        f"| 1440 x 2560, {given.seconds} s | {large.count} | {large.rate:.2f} |"
        f" {large.others:.1f} |\n"
        f"| 64 x 64, {given.minutes} min | {small.count} | {small.rate:.1f} |"
        f" {small.others:.1f} |\n\n"
        f"Memory of the process over the long replay: {start:.0f} MB after ten decisions,"
        f" {middle:.0f} MB in the middle, {end:.0f} MB at the end.\n\n"
        "Live, by RTSP at 720 x 1280, with a log of ten rows a second, one thread for decoding,"
        f" the encoder on the same cores; {given.live} decisions each. From a decoded frame to its"
        " decision:\n\n"
        "| log | median | 99 % within |\n| --- | --- | --- |\n" + "".join(rows),
    )


if __name__ == "__main__":
    main()
