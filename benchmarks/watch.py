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


def pictures(tall: int, wide: int) -> np.ndarray:
    """(8, tall, wide, 3): coarse noise over a slope of brightness."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 90, (8, tall // 4, wide // 4, 3)).astype(np.uint8)
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


def live(checkpoint: Path, folder: Path, decisions: int) -> list[float]:
    """Seconds from the arrival of a frame by RTSP, 720 x 1280, to its decision."""
    tests = Path(__file__).parents[1] / "tests"
    sys.path[:0] = [str(tests / name) for name in ("", "watch", "cli", "prepare")]
    from rtsp import Camera
    from test_live import Plc, Watching, decided

    drawn = pictures(720, 1280)
    camera = Camera(lambda k: drawn[k % 8], (720, 1280))
    camera.start()
    plc = Plc(folder / "live.csv")
    words = ["--checkpoint", checkpoint.resolve(), "--video", camera.address, "--current"]
    words += [plc.path, "--roi", "280,40,640,640", "--threads", "1"]
    watch = Watching(*words, folder=folder)
    watch.wait_for(decided, decisions)
    watch.end()
    camera.stop()
    plc.close()
    return [each["latency"] for each in watch.decisions if decided(each)]


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
        late = live(given.checkpoint, folder, 30)
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
        f" quarter, {memory[-1]:.0f} MB at the end.\n\n"
        f"Live, by RTSP at 720 x 1280, with a log of ten rows a second, one decoding thread and"
        f" the encoder on the same cores: from the arrival of a frame to its decision, median"
        f" {1000 * np.median(late):.0f} ms, 99 % within {1000 * np.quantile(late, 0.99):.0f} ms,"
        f" of {len(late)} decisions. This includes the wait for the log's next row.\n",
    )


if __name__ == "__main__":
    main()
