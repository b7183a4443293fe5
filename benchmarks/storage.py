"""What three forms of storing frames cost: raw .mat, compressed video, and a video unpacked once.

    python benchmarks/storage.py --into benchmarks/storage.md [--checkpoint CKPT]

Simulates the preset `tiny` with its files, packs it with both codecs, and reads training windows of
profile cpu (4 frames at stride 12, masks, 240 samples) in random order, without workers. With
--checkpoint, it also tests that checkpoint on the raw frames and on those after H.264.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from fmbench.data import FurnaceData
from fmbench.format.video import Codec
from fmbench.prepare.pack import pack
from fmbench.simulator import write_dataset
from fmbench.tabular import markdown
from fmbench.training.measure import measure

WINDOWS = {"frames": 4, "stride": 12, "current_samples": 240, "batch_size": 16}


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def rate(root: Path, seconds: float, *, unpacked: bool) -> tuple[float, float]:
    """Windows/s in random order, and seconds until the first batch."""
    begin = time.perf_counter()
    data = FurnaceData(
        root=root, unpack_videos=unpacked, epoch_windows=100_000, val_fraction=0, **WINDOWS
    )
    windows = data.dataset("train")
    batch, rng = WINDOWS["batch_size"], np.random.default_rng(0)
    windows[0]
    first, count = time.perf_counter() - begin, 0
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        windows.__getitems__(rng.integers(0, len(windows), batch).tolist())
        count += batch
    return count / (time.perf_counter() - begin), first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seconds", type=float, default=10, help="of reading, each form")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--into", type=Path)
    given = parser.parse_args()
    rows = [["stored as", "MB on disk", "windows/s", "seconds to the first batch"]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["FMBENCH_CACHE"] = str(folder / "cache")
        raw = folder / "mat"
        write_dataset(raw, preset=given.preset)
        codecs: tuple[Codec, ...] = ("ffv1", "h264")
        packed = {c: pack(raw, [raw / "pixel-level"], folder / c, c) for c in codecs}
        roots = [(".mat, raw", raw, True)]
        for codec, label in zip(codecs, (".mkv, FFV1", ".mp4, H.264"), strict=True):
            roots += [(f"{label}, each clip decoded", folder / codec, False)]
            roots += [(f"{label}, unpacked into the cache", folder / codec, True)]
        for label, root, unpacked in roots:
            before = megabytes(folder / "cache")
            found, first = rate(root, given.seconds, unpacked=unpacked)
            size = megabytes(root) + megabytes(folder / "cache") - before
            rows.append([label, f"{size:.1f}", f"{found:,.0f}", f"{first:.1f}"])
        parts = [
            f"# Three forms of storing frames\n\n`python benchmarks/storage.py`: preset"
            f" {given.preset} of the simulator, {packed['h264'].frames} frames of 64 x 64 with"
            " masks; windows of profile `cpu`, no workers, one machine, one run. The"
            " cache holds what the training reads: masks and, where unpacked, frames of one of the"
            " two recordings.",
            markdown(rows),
            "H.264 changes a pixel's channel by"
            f" {packed['h264'].error:.2f} grey levels (root mean square); FFV1 by none.",
        ]
        if given.checkpoint:
            tested = {
                label: measure(given.checkpoint, data={"root": str(root)}, out=folder / label)
                for label, root in (("raw", raw), ("H.264", folder / "h264"))
            }
            names = ("acc", "f1", "auroc", "miou")
            table = [["frames", *names]]
            table += [[k, *(f"{v[n]:.4f}" for n in names)] for k, v in tested.items()]
            parts += [
                f"A checkpoint trained on raw frames ({given.checkpoint.parent.parent.name}),"
                " tested on this set's test windows (simulated):",
                markdown(table),
            ]
    text = "\n\n".join(parts) + "\n"
    print(text)
    if given.into:
        given.into.write_text(text)


if __name__ == "__main__":
    main()
