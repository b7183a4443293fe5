"""The largest recording of the release, 148,158 frames, read at random in bounded memory."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from recordings import BEGIN, write_csv

FRAMES = 148_158

READER = """
import sys
from pathlib import Path

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

import torch
from fmbench.data.datamodule import FurnaceData

torch.set_num_threads(1)
bare = resident()
data = FurnaceData(root=sys.argv[1], stride=int(sys.argv[2]), val_fraction=0)
peak = 0
for count, batch in enumerate(data.train_dataloader()):
    peak = max(peak, resident())
    if count == 500:
        break
assert batch.video.shape == (64, 3, 10, 64, 64)
print(peak - bare)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.8 GB of frames and 0.6 GB of masks, as a sparse file."""
    root = tmp_path_factory.mktemp("large")
    for kind in ("videos", "currents", "timestamps"):
        (root / kind).mkdir()
    with h5py.File(root / "videos" / "large.mat", "w") as file:
        for key, shape in {"data": (3, 64, 64), "label": (64, 64)}.items():
            dataset = file.create_dataset(key, (FRAMES, *shape), np.uint8)
            dataset[-1] = 1  # HDF5 allocates a contiguous dataset when it is first written to
    seconds = np.datetime64(BEGIN, "s") + np.arange(FRAMES // 25 + 1)
    clock = [str(second).replace("T", " ") for second in seconds]
    write_csv(root / "timestamps" / "large.csv", "time", [[clock[k // 25]] for k in range(FRAMES)])
    rows = [[time, "9000", "9100", "9200"] for time in clock for _ in range(2)]
    write_csv(root / "currents" / "large.csv", "time,A,B,C", rows)
    (root / "train.json").write_text(json.dumps({"large.mat": list(range(FRAMES))}))
    return root


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is from /proc")
@pytest.mark.parametrize("stride", [1, 4])
def test_random_reading_stays_below_500_mb_over_the_bare_process(root: Path, stride: int) -> None:
    command = [sys.executable, "-c", READER, str(root), str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 500e6


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is from /proc")
def test_a_root_of_the_papers_size_opens_in_less_than_1_gb(tmp_path: Path) -> None:
    """2.2 million samples of 25 recordings; benchmarks/scale.md has the seconds."""
    path = Path(__file__).parents[2] / "benchmarks" / "scale.py"
    spec = importlib.util.spec_from_file_location("scale", path)
    assert spec is not None
    assert spec.loader is not None
    scale = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(scale)
    scale.write_root(tmp_path / "root", scale.RECORDINGS, scale.FRAMES)
    samples, windows, *_, grown = scale.opened(tmp_path / "root", "cross")
    assert samples == scale.RECORDINGS * scale.FRAMES > 2_200_000
    assert windows > 1_500_000
    assert grown < 1000
