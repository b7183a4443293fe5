"""The options of `configs/gpu.yaml` change no result; checked without a GPU."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fmbench
from fmbench.config.profiles import find_config
from fmbench.config.resolve import config_of
from fmbench.files.yaml_json import read_yaml
from fmbench.training.measure import measure
from fmbench.training.run import fit
from test_contract import SMALL
from test_run import config, root

__all__ = ["root"]  # a fixture


def trained(root: Path, run: Path, trainer: dict[str, Any] | None = None, **changes: Any) -> Path:
    plain = config(root, epochs=1)
    options = {**plain.trainer, "gradient_clip_val": 0.5, **(trainer or {})}
    return fit(replace(plain, trainer=options, **changes), run=run)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return {k: v for k, v in fmbench.load(checkpoint).state_dict().items() if v.is_floating_point()}


def apart(first: Path, second: Path) -> float:
    """Mean distance of the weights. (Not the largest: biases before batch normalisation have only
    rounding errors as gradients, which AdamW turns into full steps.)"""
    a, b = weights(first), weights(second)
    assert a.keys() == b.keys()
    moved = torch.cat([(a[key] - b[key]).abs().flatten() for key in a if "running" not in key])
    return moved.mean().item()


def loss(run: Path) -> float:
    found: float = json.loads((run / "val.json").read_text())["metrics"]["loss"]
    return found


def test_the_profile_is_the_papers_recipe_computed_faster() -> None:
    gpu, paper = (config_of([(name, read_yaml(find_config(name)))]) for name in ("gpu", "paper"))
    assert (gpu.compile, gpu.trainer["precision"]) == ("reduce-overhead", "bf16-mixed")
    assert gpu.optim == {**paper.optim, "fused": True}
    assert {**gpu.data, "num_workers": 0} == paper.data
    assert (gpu.loss, gpu.net) == (paper.loss, paper.net)


def test_a_fused_optimizer_takes_the_same_steps_clipped_alike(root: Path, tmp_path: Path) -> None:
    plain = trained(root, tmp_path / "plain")
    fused = trained(root, tmp_path / "fused", optim={"lr": 1e-3, "fused": True})
    unclipped = trained(
        root, tmp_path / "unclipped", {"gradient_clip_val": None}, optim={"lr": 1e-3, "fused": True}
    )
    assert apart(plain, fused) < 1e-5
    assert apart(plain, unclipped) > 1e-4


def test_bfloat16_trains_with_a_fused_optimizer_and_clipping(root: Path, tmp_path: Path) -> None:
    plain = trained(root, tmp_path / "plain")
    low = trained(
        root, tmp_path / "low", {"precision": "bf16-mixed"}, optim={"lr": 1e-3, "fused": True}
    )
    assert 0 < apart(plain, low) < 0.02
    assert loss(tmp_path / "plain") == pytest.approx(loss(tmp_path / "low"), rel=0.02)


def test_a_training_resumes_with_other_options_of_computation(root: Path, tmp_path: Path) -> None:
    begun = config(root, epochs=1)
    fit(begun, run=tmp_path)
    on = replace(begun, optim={**begun.optim, "fused": True}, net={**begun.net, "checkpoint": True})
    fit(replace(on, trainer={**begun.trainer, "max_epochs": 2}), run=tmp_path, resume="auto")
    assert json.loads((tmp_path / "val.json").read_text())["epochs"] == 2


def test_optimizers_that_take_turns_are_clipped_in_bfloat16_too(root: Path, tmp_path: Path) -> None:
    turns = {"model": "ssfggan", "net": SMALL["ssfggan"]}
    optim, low = {"lr": 1e-3, "fused": True}, {"precision": "bf16-mixed"}
    clipped = trained(root, tmp_path / "clipped", low, optim=optim, **turns)
    free = trained(root, tmp_path / "free", low | {"gradient_clip_val": None}, optim=optim, **turns)
    assert apart(clipped, free) > 0


def test_resident_data_train_the_same_weights_bit_for_bit(root: Path, tmp_path: Path) -> None:
    """Interrupted by nothing, and resumed with the data held where they were loaded before."""
    plain = config(root, epochs=2)
    held = replace(plain, data={**plain.data, "resident": True})
    first = replace(plain, trainer={**plain.trainer, "max_epochs": 1})
    runs = [tmp_path / name for name in ("loaded", "held", "resumed")]
    best = [fit(each, run=run) for each, run in zip((plain, held, first), runs, strict=True)]
    fit(held, run=runs[2], resume="auto")
    loaded = weights(best[0])
    for each in (best[1], runs[2] / "checkpoints" / "best.ckpt"):
        found = weights(each)
        assert all(torch.equal(value, found[name]) for name, value in loaded.items())
    tables = [(run / "val-predictions.csv").read_text() for run in runs]
    assert tables[0] == tables[1] == tables[2]
    assert measure(best[1], out=tmp_path / "a") == measure(best[0], out=tmp_path / "b")


@pytest.mark.full
@pytest.mark.slow
def test_two_processes_hold_what_each_of_them_needs(root: Path, tmp_path: Path) -> None:
    words = [f"--data.root={root}", "--net.dim=12", "--net.depth=1", "--data.guard_seconds=5"]
    words += ["--data.val_fraction=0.2", "--trainer.devices=2", "--trainer.strategy=ddp"]
    for held in ("true", "false"):
        command = ["fit", "--config=smoke", f"--run={tmp_path / held}", f"--data.resident={held}"]
        command = [sys.executable, "-m", "fmbench", *command, *words, "--trainer.accelerator=cpu"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    a, b = (weights(tmp_path / held / "checkpoints" / "best.ckpt") for held in ("true", "false"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.full
@pytest.mark.slow
def test_a_compiled_model_learns_the_same_under_the_same_names(root: Path, tmp_path: Path) -> None:
    plain = trained(root, tmp_path / "plain")
    compiled = trained(root, tmp_path / "compiled", compile="default")
    assert apart(plain, compiled) < 1e-3  # a step is 1e-3; rounding reverses some near 0
    assert loss(tmp_path / "plain") == pytest.approx(loss(tmp_path / "compiled"), rel=1e-3)
