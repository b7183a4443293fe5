"""Every model: interrupted and resumed, tested, drawn, trained by two processes."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from fmbench.config.schema import Config
from fmbench.stages import Learn, stages_of
from fmbench.training.lit import Detector
from fmbench.training.measure import measure
from fmbench.training.predict import predict
from fmbench.training.run import fit
from fmbench.types import Batch
from recordings import write_root
from test_contract import ROWS, SMALL, build

pytestmark = pytest.mark.slow

ALWAYS = {
    ("3dcrnn", "visual"),
    ("bilm", "cross"),
    ("dcnn_svm", "cross"),
    ("expert_system", "current"),
    ("fmformer", "cross"),
    ("informer", "current"),
    ("ssfggan", "cross"),
}
"""Rows of every commit: each kind of training (one pass, stages, adversaries, an SVM, rules) and
of input. The others are of the full form."""

every_row = pytest.mark.parametrize(
    ("name", "modality"),
    [pytest.param(*row, marks=() if row in ALWAYS else pytest.mark.full) for row in ROWS],
)

EPOCHS = 6  # twice the largest number of stages of a method


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=3, seconds=90, size=(32, 32))
    return folder


def config(root: Path, name: str, modality: str, **trainer: Any) -> Config:
    net = SMALL.get(name, {}) | (
        {"block_seconds": 24, "held_out": 0.5} if name == "dcnn_svm" else {}
    )
    return Config(
        model=name,
        modality=modality,
        net=net,
        data={
            "root": str(root),
            "frames": 4,
            "current_samples": 24,
            "batch_size": 8,
            "epoch_windows": 64,
            "val_windows": 16,
            "test_windows": 16,
            "val_fraction": 0.2,
            "guard_seconds": 5,
        },
        trainer={"max_epochs": EPOCHS, "accelerator": "cpu"} | trainer,
    )


def takes_steps(name: str, modality: str) -> bool:
    model, _ = build(name, modality)
    return any(isinstance(stage, Learn) for stage in stages_of(model))


@every_row
def test_a_row_is_interrupted_resumed_tested_and_drawn(
    root: Path, tmp_path: Path, name: str, modality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked = tmp_path / "run", config(root, name, modality)
    calls = 0
    step = Detector.training_step

    def pulled_out(self: Detector, batch: Batch, index: int) -> torch.Tensor | None:
        nonlocal calls
        calls += 1
        if calls == 8 * EPOCHS // 2 + 4:  # within an epoch, of a later stage if there are several
            raise KeyboardInterrupt
        return step(self, batch, index)

    with monkeypatch.context() as broken:
        broken.setattr(Detector, "training_step", pulled_out)
        if takes_steps(name, modality):
            with pytest.raises(KeyboardInterrupt):
                fit(asked, run=run)
    best = fit(asked, run=run, resume="auto")

    learnt = torch.load(best, weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in learnt.values() if value.is_floating_point())
    metrics = measure(best)
    assert 0 <= metrics["acc"] <= 1
    assert sum(metrics[count] for count in ("tn", "fp", "fn", "tp")) == 16
    written = predict(best, "furnace-1", out=tmp_path / "drawn", every=100)
    scores = pd.read_csv(written[0])["score"]
    assert scores.between(0, 1).all()
    assert written[1].stat().st_size > 10_000


TWO = """
import json, os, sys
from pathlib import Path
from fmbench.training.run import fit
from fmbench.config.schema import Config
os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # it keeps the groups of earlier rows
for name, (port, config) in json.loads(Path(sys.argv[1]).read_text()).items():
    os.environ["MASTER_PORT"] = str(port)
    fit(Config(**config), run=Path(sys.argv[2]) / name)
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def by_two_processes(
    root: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """A folder with the runs of the rows, each trained by two processes under torchrun."""
    folder = tmp_path_factory.mktemp("ddp")
    rows = ROWS if request.config.getoption("full") else sorted(ALWAYS)
    two = {"devices": 2, "strategy": "ddp", "max_epochs": 3}
    asked = {
        f"{name}-{modality}": (port, vars(config(root, name, modality, **two)))
        for port, (name, modality) in zip(free_ports(len(rows)), rows, strict=True)
    }
    (folder / "asked.json").write_text(json.dumps(asked))
    (folder / "two.py").write_text(TWO)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(
            [sys.executable, *words, folder / "two.py", folder / "asked.json", folder],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    assert done.returncode == 0, (folder / "log.txt").read_text()[-3000:]
    return folder


@every_row
def test_two_processes_share_a_rows_training(
    by_two_processes: Path, name: str, modality: str
) -> None:
    run = by_two_processes / f"{name}-{modality}"
    result = json.loads((run / "val.json").read_text())
    assert math.isfinite(result["metrics"]["loss"])
    learnt = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in learnt.values() if value.is_floating_point())
    assert result["steps"] % 4 == 0  # 64 windows: 4 batches of 8 for each of the two
    assert (result["steps"] > 0) == takes_steps(name, modality)
