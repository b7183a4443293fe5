"""Windows a second of one core: FurnaceData beside a loader that works like the released one.

    python benchmarks/data_loading.py --into benchmarks/data_loading.md

Both read the same recording (64x64, 10 frames, 240 samples of current, batches of 64) in random
order, in one process, with one thread, from a warm cache; the time is the processor's, so that
other work on the machine does not count. The released way: everything in memory,
one window at a time, float32 on the host, the second of a frame looked up by a linear search
(official-format 4.6, 4.7), the default collate. It neither flips nor returns masks here;
FurnaceData always returns masks, and flips in the row that says so.

Then how long a training waits for a batch that a worker process has ready, while it computes for
BUSY seconds between two: as fmbench sends it, and as PyTorch would, each tensor in shared memory.

Last, the share of an epoch that the models which take the most windows a second wait for data, by
`fmbench speed` on simulated recordings that were written to files: with and without a worker, and
with the windows held in memory (`data.resident`).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import product
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fmbench.data import FurnaceData
from fmbench.data.workers import reduce_batch
from fmbench.simulator import write_dataset
from fmbench.speed import read_report
from fmbench.tabular import markdown
from fmbench.types import Batch

BATCH, FRAMES, SAMPLES = 64, 10, 240
TARGET = 20_000  # windows a second and core
TARGET_RATIO = 1.5
BUSY = 0.02
FASTEST = {
    "itransformer": "current",
    "flashformer": "current",
    "dcnn_svm": "cross",
    "ssfggan": "cross",
    "vivit": "visual",
    "fmformer": "visual",
}
WAYS = {
    "without a worker": ["--data.num_workers", "0"],
    "with one": ["--data.num_workers", "1"],
    "resident": ["--data.resident", "true"],
}
RECEIVED = {"PyTorch's way": None, "fmbench": reduce_batch}


class ReleasedWay(Dataset[tuple[np.ndarray, np.ndarray, int]]):
    """The released loader: all data in memory, one window at a time."""

    def __init__(self, part: Path, stride: int) -> None:
        [name] = (path.stem for path in (part / "videos").glob("*.mat"))
        with h5py.File(part / "videos" / f"{name}.mat", "r") as file:
            self.video = np.asarray(file["data"], dtype=np.uint8)
            self.labels = np.asarray(file["label"], dtype=np.uint8).max((1, 2)) > 0
        self.times = (part / "timestamps" / f"{name}.csv").read_text().split("\n")[1:-1]
        rows = [r.split(",") for r in (part / "currents" / f"{name}.csv").read_text().split("\n")]
        pairs = zip(rows[1:-1:2], rows[2:-1:2], strict=True)
        self.current = {a[0]: [[float(x) for x in row[1:]] for row in (a, b)] for a, b in pairs}
        self.seconds = list(self.current)
        self.frames = json.loads((part / "train.json").read_text())[f"{name}.mat"]
        self.steps = np.arange(1 - FRAMES, 1) * stride

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, item: int) -> tuple[np.ndarray, np.ndarray, int]:
        frame = self.frames[item]
        clip = self.video[np.maximum(frame + self.steps, 0)].transpose(1, 0, 2, 3)
        last = self.seconds.index(self.times[frame])
        seconds = self.seconds[max(last + 1 - SAMPLES // 2, 0) : last + 1]
        current = np.array([row for s in seconds for row in self.current[s]], dtype=np.float32)
        if len(current) < SAMPLES:
            current = current[np.linspace(0, len(current) - 1, SAMPLES).astype(np.int32)]
        return clip.astype(np.float32), current, int(self.labels[frame])


def write_recording(root: Path, frames: int) -> Path:
    """Write one recording of noise, its last quarter abnormal."""
    part = root / "pixel-level"
    for kind in ("videos", "currents", "timestamps"):
        (part / kind).mkdir(parents=True)
    rng = np.random.default_rng(0)
    with h5py.File(part / "videos" / "noise.mat", "w") as file:
        data = file.create_dataset("data", (frames, 3, 64, 64), np.uint8)
        for start in range(0, frames, 1000):
            count = min(1000, frames - start)
            data[start : start + count] = rng.integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)
        label = file.create_dataset("label", (frames, 64, 64), np.uint8)
        label[3 * frames // 4 :, 8:16, 8:16] = 1
    seconds = np.datetime64("2030-01-01T00:00:00") + np.arange(frames // 25 + 1)
    clock = [str(second).replace("T", " ") for second in seconds]
    stamps = "".join(f"{clock[k // 25]}\n" for k in range(frames))
    (part / "timestamps" / "noise.csv").write_text("time\n" + stamps)
    rows = (
        f"{s},{','.join(f'{x:.6g}' for x in rng.normal(9000, 900, 3))}\n"
        for s in clock
        for _ in range(2)
    )
    (part / "currents" / "noise.csv").write_text("time,A,B,C\n" + "".join(rows))
    for split, listed in (("train", frames), ("test", 0)):
        (part / f"{split}.json").write_text(json.dumps({"noise.mat": list(range(listed))}))
    return part


def windows_a_second(loader: Iterable[object], seconds: float) -> float:
    """Windows loaded in a second of processor time, over at least `seconds`."""
    count, begin = 0, time.process_time()
    while True:
        for _ in loader:
            count += BATCH
            if (spent := time.process_time() - begin) > seconds:
                return count / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=30_000)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--into", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Loading windows from files",
        "",
        "`python benchmarks/data_loading.py`: 64 x 64, 10 frames, 240 samples, batches of 64, one"
        f" core; windows a second of its time, median of {options.repeats} measurements.",
        "",
    ]
    rates = [["stride", "loader", "windows/s/core", "beside the released way"]]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FMBENCH_CACHE"] = folder  # caches of the temporary files are deleted with them
        part = write_recording(Path(folder), options.frames)
        for stride in (1, 4):
            rates += compare(part, stride, options.seconds, options.repeats)
        lines += [
            markdown(rates),
            "",
            "From one worker that is ahead, to a training that computes for"
            f" {BUSY * 1e3:.0f} ms between two batches: milliseconds of waiting, median of"
            f" {options.repeats} measurements.",
            "",
        ]
        waits = [["batch", *RECEIVED]]
        for modality, batch in product(("current", "cross"), (16, BATCH)):
            waits.append(receiving(part, modality, batch, options.seconds, options.repeats))
    lines += [
        markdown(waits),
        "",
        "Waiting for data, % of an epoch: profile cpu (batches of 16, four frames, 240 samples),"
        f" PyTorch's {os.cpu_count()} threads, recordings in files (synthetic, preset small).",
        "",
    ]
    shares = [["model", *WAYS]]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FMBENCH_CACHE"] = folder
        write_dataset(Path(folder) / "root", preset="small")
        shares += [waiting(name, modality, Path(folder)) for name, modality in FASTEST.items()]
    lines.append(markdown(shares))
    print("\n".join(lines))
    if options.into:
        options.into.write_text("\n".join([*lines, ""]))


def compare(part: Path, stride: int, seconds: float, repeats: int) -> list[list[str]]:
    """Rows of medians of `repeats` measurements, taken in turn for equal load on the machine."""

    def ours(flip: bool) -> Iterable[object]:
        data = FurnaceData(
            root=part, stride=stride, current_samples=SAMPLES, val_fraction=0, flip=flip
        )
        return data.train_dataloader()

    released = ReleasedWay(part, stride)
    loaders: dict[str, Iterable[object]] = {
        "released way": DataLoader(released, BATCH, shuffle=True, drop_last=True),
        "FurnaceData": ours(flip=False),
        "FurnaceData, flipping": ours(flip=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(repeats):
        for name, loader in loaders.items():
            rates[name].append(windows_a_second(loader, seconds))
    base = statistics.median(rates["released way"])
    lines = []
    for name, found in rates.items():
        rate = statistics.median(found)
        short = name != "released way" and rate < max(TARGET, TARGET_RATIO * base)
        note = " (below target)" if short else ""
        lines.append([str(stride), name, f"{rate:,.0f}{note}", f"{rate / base:.1f} x"])
    return lines


def receiving(part: Path, modality: str, batch: int, seconds: float, repeats: int) -> list[str]:
    """A row: milliseconds from the request for a batch until it is received, ways in turn."""
    data = FurnaceData(
        root=part,
        modality=modality,
        current_samples=SAMPLES,
        val_fraction=0,
        batch_size=batch,
        num_workers=1,
    )
    taken: dict[str, list[float]] = {name: [] for name in RECEIVED}
    for _ in range(repeats):
        for name, way in RECEIVED.items():
            if way is None:
                ForkingPickler._extra_reducers.pop(Batch)
            else:
                ForkingPickler.register(Batch, way)
            batches = iter(data.train_dataloader())  # a worker of its own, forked as things are now
            next(batches)
            waits = []
            for _ in range(int(seconds / BUSY)):
                compute(BUSY)
                begin = time.perf_counter()
                next(batches)
                waits.append(time.perf_counter() - begin)
            taken[name].append(1e3 * statistics.median(waits))
    found = [f"{statistics.median(each):.1f}" for each in taken.values()]
    return [f"{modality}, {batch} windows", *found]


def waiting(name: str, modality: str, folder: Path) -> list[str]:
    """A row: per cent of an epoch, in each of WAYS."""
    row = [f"{name} ({modality})"]
    for way in WAYS.values():
        out = folder / "speed.json"
        words = ["speed", "--config", "cpu", "--model", name, "--modality", modality]
        words += ["--data.root", str(folder / "root"), *way]
        command = [sys.executable, "-m", "fmbench", *words, "--seconds", "3", "--out", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        row.append(f"{100 * (read_report(out).rows[0].figures['waiting'] or 0):.1f}")
    return row


def compute(seconds: float) -> None:
    end = time.perf_counter() + seconds
    factor = torch.ones(300, 300)
    while time.perf_counter() < end:
        factor @ factor


if __name__ == "__main__":
    main()
