"""Every start method of workers gives the same batches, without hangs or growing memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordings import write_root

BATCHES = """
import hashlib, sys
from fmbench.data import FurnaceData

if __name__ == "__main__":
    root, workers, method = sys.argv[1:]
    data = FurnaceData(
        root=root, frames=4, stride=3, current_samples=16, batch_size=32, epoch_windows=200,
        num_workers=int(workers),
    )
    data.dataset("train")[0]  # files are open in this process before workers start
    loader = data.train_dataloader()
    if int(workers):
        loader.multiprocessing_context = method
    digest = hashlib.sha256()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for tensor in batch:
                digest.update(tensor.numpy().tobytes())
    print(digest.hexdigest())
"""

FACTS = """
import os, sys
from pathlib import Path

def facts():
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resident / 2**20, len(os.listdir("/proc/self/fd"))

def tell(begun, ended):
    print(*(after - before for before, after in zip(begun, ended)))
"""

LOADING = (
    FACTS
    + """
from fmbench.data import FurnaceData

data = FurnaceData(root=sys.argv[1], frames=4, stride=3, current_samples=16, batch_size=8)
loader, seen, begun = data.train_dataloader(), 0, None
while seen < int(sys.argv[2]):
    loader.sampler.set_epoch(seen)
    for batch in loader:
        seen += 1
        if seen == 300:
            begun = facts()
tell(begun, facts())
"""
)

TRAINING = (
    FACTS
    + """
from fmbench.training.lit import Detector
from fmbench.training.run import fit
from fmbench.config.schema import Config

root, batches = sys.argv[1], int(sys.argv[2])
step, seen = Detector.training_step, []

def counted(self, *args):
    seen.append(facts())
    return step(self, *args)

Detector.training_step = counted
data = {"root": root, "current_samples": 16, "batch_size": 8, "epoch_windows": 800}
data |= {"val_windows": 24, "guard_seconds": 5}
engine = {"max_epochs": batches // 100, "accelerator": "cpu"}
fit(Config(model="itransformer", modality="current", data=data, trainer=engine), run=Path("run"))
assert len(seen) == batches, len(seen)
tell(seen[300], seen[-1])
"""
)


def run(script: str, *words: object, cache: Path) -> str:
    """The output of a script; fails after five minutes."""
    file = cache / "script.py"  # a spawned worker imports the script that started it
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, str(file), *map(str, words)],
        env=os.environ | {"FMBENCH_CACHE": str(cache)},
        cwd=cache,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FAST, SLOW = [("fork", 2, True)], [("spawn", 2, False)]
CASES = [
    pytest.param(
        method,
        workers,
        chunked,
        marks=()
        if (method, workers, chunked) in FAST
        else pytest.mark.slow
        if (method, workers, chunked) in SLOW
        else pytest.mark.full,
    )
    for method in ("fork", "spawn", "forkserver")
    for workers in (2, 4)
    for chunked in (False, True)
]


@pytest.mark.parametrize(("method", "workers", "chunked"), CASES)
def test_workers_give_the_same_batches(
    tmp_path: Path, fault: Callable[..., Any], method: str, workers: int, chunked: bool
) -> None:
    row = fault(
        "fork, spawn, forkserver; 2 and 4 workers; plain and compressed .mat",
        promise="no hang, and batches byte-equal to those without workers",
    )
    root = tmp_path / "root"
    write_root(root, size=(16, 24), seconds=60, chunked=chunked)
    alone = run(BATCHES, root, 0, "none", cache=tmp_path)
    row.trial(run(BATCHES, root, workers, method, cache=tmp_path) == alone, "other batches")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is from /proc")
@pytest.mark.parametrize("what", ["loading", pytest.param("training", marks=pytest.mark.full)])
def test_memory_and_open_files_stay_flat(
    tmp_path: Path, fault: Callable[..., Any], trials: Callable[[int, int], int], what: str
) -> None:
    row = fault(
        f"{what}: 3,000 batches",
        promise="memory grows by less than 10 MiB, open files do not grow",
    )
    write_root(tmp_path / "root", size=(16, 24), seconds=60)
    script, batches = {"loading": LOADING, "training": TRAINING}[what], trials(1000, 3000)
    told = run(script, tmp_path / "root", batches, cache=tmp_path)
    grown, files = map(float, told.splitlines()[-1].split())
    row.measured("growth in MiB", grown)
    row.trial(grown < 10 and files == 0, f"{grown:.1f} MiB, {files:.0f} files")
