"""A model that fails at the third batch of one process: variable FAULT, "RANK ACT".

Acts: `raise`; the name of a signal that it sends to itself; `tracker`, which kills W&B's process.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

from torch import nn

from fmbench.nn import Standardize
from fmbench.types import Batch, Modality, Prediction, Problem

MESSAGE = "a fault of the test"


class Faulty(nn.Module):
    """Linear on the mean current."""

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.standardize = Standardize.current(problem.current_channels)
        self.head = nn.Linear(problem.current_channels, 2)
        self.batches = 0
        rank, _, self.act = os.environ.get("FAULT", "").partition(" ")
        self.at_fault = rank == os.environ.get("LOCAL_RANK", "0")

    def forward(self, batch: Batch) -> Prediction:
        self.batches += 1
        if self.at_fault and self.batches == 3:
            self.fail()
        return Prediction(self.head(self.standardize(batch.current).mean(1)))

    def fail(self) -> None:
        print("the fault comes now", flush=True)
        if self.act == "raise":
            raise ValueError(MESSAGE)
        if self.act == "tracker":
            for process in children(os.getpid()):
                if "wandb" in (Path("/proc") / str(process) / "comm").read_text():
                    os.kill(process, signal.SIGKILL)
        else:
            os.kill(os.getpid(), getattr(signal, self.act))


def children(parent: int) -> list[int]:
    """Child processes of `parent`, by id."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # the process has just ended
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


MODELS = {"faulty": Faulty}


def environment(place: Path, fault: str, **more: str) -> dict[str, str]:
    """Environment of a process that finds the model, installed in `place`, by its entry point."""
    info = place / "faulty-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fmbench.models]\nfaulty = faulty:MODELS\n")
    paths = [str(place), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "FAULT": fault} | more


TRAINING = {
    "model": "faulty",
    "modality": "current",
    "data.current_samples": 12,
    "data.batch_size": 8,
    "data.epoch_windows": 64,
    "data.val_windows": 24,
    "data.guard_seconds": 5,
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
}


def words(run: Path, root: Path, **more: object) -> list[str]:
    """The command line that fits the model; `trainer__devices=2` is `--trainer.devices 2`."""
    options = TRAINING | {"run": run, "data.root": root}
    options |= {name.replace("__", "."): value for name, value in more.items()}
    return ["fit", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
