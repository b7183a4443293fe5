"""Opening a root of the paper's size: 2.2 million samples, 27 GB of frames, as sparse files.

    python benchmarks/scale.py --into benchmarks/scale.md

The frames are never written, so that the files take little room; times, currents, labels and lists
are there in full. Each modality is opened by a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from fmbench.tabular import markdown

RECORDINGS, FRAMES = 25, 89_468  # 2,236,700
HELD_OUT = 5

OPEN = """
import json, sys, time
from pathlib import Path
import torch
from fmbench.data import FurnaceData

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

torch.set_num_threads(1)
bare, marks = resident(), [time.perf_counter()]
data = FurnaceData(root=sys.argv[1], part="class-level", modality=sys.argv[2])
samples = sum(recording.num_frames for recording in data.opened.recordings)
marks.append(time.perf_counter())
windows = len(data.dataset("train"))
marks.append(time.perf_counter())
batch = next(iter(data.train_dataloader()))
marks.append(time.perf_counter())
status = Path("/proc/self/status").read_text()  # ru_maxrss would count the parent's memory
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
seconds = [b - a for a, b in zip(marks, marks[1:])]
print(json.dumps([samples, windows, *seconds, (peak - bare) / 1e6]))
"""


def write_root(root: Path, recordings: int, frames: int) -> None:
    """Write a class-level part; the last HELD_OUT recordings are the test part."""
    part = root / "class-level"
    for kind in ("videos", "currents", "timestamps"):
        (part / kind).mkdir(parents=True)
    lists: dict[str, dict[str, list[int]]] = {"train": {}, "test": {}}
    for k in range(recordings):
        name = f"furnace-{k:02d}"
        with h5py.File(part / "videos" / f"{name}.mat", "w") as file:
            data = file.create_dataset("data", (frames, 3, 64, 64), np.uint8)
            data[-1] = 1  # HDF5 allocates a contiguous dataset when it is first written to
            label = (np.arange(frames) // 2000 % 2).astype(np.uint8)
            file.create_dataset("label", data=label[:, None, None])
        first = np.datetime64("2030-01-01T00:00:00", "s") + k * 7200
        times = np.datetime_as_string(first + np.arange(frames // 25 + 1))
        clock = [str(time).replace("T", " ") for time in times]
        stamps = "".join(f"{time}\n" * 25 for time in clock)
        (part / "timestamps" / f"{name}.csv").write_text("time\n" + stamps[: 20 * frames])
        rows = "".join(f"{time},9000,9100,9200\n{time},9100,9000,9300\n" for time in clock)
        (part / "currents" / f"{name}.csv").write_text("time,A,B,C\n" + rows)
        lists["test" if k >= recordings - HELD_OUT else "train"][f"{name}.mat"] = [*range(frames)]
    for split, listed in lists.items():
        (part / f"{split}.json").write_text(json.dumps(listed))


def opened(root: Path, modality: str) -> list[float]:
    """Samples, windows, seconds to open, to index and to load the first batch of a shuffled epoch,
    and the largest growth of the process in MB."""
    words = [sys.executable, "-c", OPEN, str(root), modality]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path)
    into = parser.parse_args().into
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        write_root(root, RECORDINGS, FRAMES)
        head = ["modality", "samples", "training windows", "open, s", "index, s"]
        rows = [[*head, "first batch, s", "MB"]]
        for modality in ("current", "visual", "cross"):
            samples, windows, opening, index, first, grown = opened(root, modality)
            seconds = [f"{each:.2f}" for each in (opening, index, first)]
            rows.append([modality, f"{samples:,.0f}", f"{windows:,.0f}", *seconds, f"{grown:.0f}"])
    text = "\n".join(
        [
            "# A root of the paper's size",
            "",
            f"`python benchmarks/scale.py`: {RECORDINGS} class-level recordings, sparse files of"
            f" {RECORDINGS * FRAMES * 3 * 64 * 64 / 1e9:.0f} GB. Seconds on one thread of a busy"
            " machine; memory is by how much the process grew over its imports.",
            "",
            markdown(rows),
            "",
        ]
    )
    print(text)
    if into:
        into.write_text(text)


if __name__ == "__main__":
    main()
