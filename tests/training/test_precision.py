"""Precision `auto`: how it is resolved, stored, resumed; and trainings in bfloat16.

bfloat16 is emulated where the processor lacks it, so that every machine runs these tests.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.accelerators import CUDAAccelerator

from fmbench.cli import main
from fmbench.config.resolve import resolve
from fmbench.config.schema import Config, changes
from fmbench.tables.results import key_of
from fmbench.training import precision
from fmbench.training.measure import measure
from fmbench.training.precision import with_precision
from fmbench.training.run import fit
from recordings import write_root
from test_contract import SMALL
from test_run import config

NETS = {**SMALL, "dcnn_svm": {**SMALL["dcnn_svm"], "block_seconds": 12}}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=4, seconds=60, size=(32, 32))
    return folder


def machine(monkeypatch: pytest.MonkeyPatch, *, cpu: bool, gpu: bool | None = None) -> None:
    """A processor with or without bfloat16, and a GPU with, without it, or none."""
    monkeypatch.setattr(precision, "native_bfloat16", lambda: cpu)
    monkeypatch.setattr(CUDAAccelerator, "is_available", lambda: gpu is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu)


@pytest.mark.parametrize(
    ("cpu", "gpu", "accelerator", "expected"),
    [
        (True, None, "auto", "bf16-mixed"),
        (True, None, "cpu", "bf16-mixed"),
        (False, None, "auto", "32-true"),
        (False, True, "auto", "bf16-mixed"),
        (False, True, "gpu", "bf16-mixed"),
        (True, False, "auto", "32-true"),
        (False, True, "cpu", "32-true"),
        (True, None, "mps", "32-true"),
    ],
)
def test_auto_is_bfloat16_where_the_chosen_device_has_it(
    cpu: bool, gpu: bool | None, accelerator: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, cpu=cpu, gpu=gpu)
    chosen = {"accelerator": accelerator, "max_epochs": 3}
    assert with_precision(chosen | {"precision": "auto"}) == chosen | {"precision": expected}
    assert with_precision(chosen) == chosen
    assert with_precision(chosen | {"precision": "64-true"})["precision"] == "64-true"


def test_the_profiles_for_cpus_ask_for_auto_and_a_flag_wins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for profile, asked in (("cpu", "auto"), ("demo", "auto"), ("smoke", "auto"), ("paper", None)):
        given = resolve(["--config", profile]).training.config.trainer
        assert given.get("precision") == asked
    flag = ["--config", "cpu", "--trainer.precision", "32-true"]
    assert resolve(flag).training.config.trainer["precision"] == "32-true"
    assert main(["fit", "--trainer.precision", "autos"]) == 2
    assert "did you mean 'auto'" in capsys.readouterr().err


def test_auto_is_no_part_of_a_key_and_an_explicit_precision_is() -> None:
    def key(**trainer: Any) -> str:
        return key_of(Config(trainer={"max_epochs": 2, **trainer}), "data")

    assert key() == key(precision="auto")
    assert len({key(), key(precision="bf16-mixed"), key(precision="32-true")}) == 3


def asking(root: Path, given: str, **others: Any) -> Config:
    plain = config(root, **others)
    return replace(plain, trainer={**plain.trainer, "precision": given})


def test_a_run_keeps_its_precision_and_goes_on_in_another(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine(monkeypatch, cpu=True)
    best = fit(asking(root, "auto", epochs=1), run=tmp_path)
    assert "precision bf16-mixed; run: " in capsys.readouterr().out
    assert facts(tmp_path)["precision"] == "bf16-mixed"
    assert facts(tmp_path)["config"]["trainer"]["precision"] == "auto"
    measure(best)  # float32 on every machine
    assert facts(tmp_path, "test")["precision"] == "32-true"

    machine(monkeypatch, cpu=False)
    fit(asking(root, "auto", epochs=2), run=tmp_path, resume="auto")
    out = capsys.readouterr().out
    assert "was trained in precision bf16-mixed; the training goes on in 32-true" in out
    assert (facts(tmp_path)["precision"], facts(tmp_path)["epochs"]) == ("32-true", 2)
    given = [asking(root, name).to_plain() for name in ("auto", "32-true", "64-true")]
    assert changes(given[0], given[2]) == []  # the line above says it
    assert changes(given[1], given[2]) == ["trainer.precision is '64-true', was '32-true'"]


def facts(run: Path, split: str = "val") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / f"{split}.json").read_text())
    return content


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(checkpoint, weights_only=True)["state_dict"]
    return state


def trained_so(root: Path, run: Path, model: str, **trainer: Any) -> dict[str, torch.Tensor]:
    """The float32 weights of a training in bfloat16 whose losses are all finite."""
    plain = config(root, model=model, net=NETS[model], epochs=2, data={"epoch_windows": 96})
    low = replace(plain, trainer={**plain.trainer, "precision": "bf16-mixed", **trainer})
    state = weights(fit(low, run=run))
    assert facts(run)["precision"] == "bf16-mixed"
    assert math.isfinite(facts(run)["metrics"]["loss"])
    floats = [value for value in state.values() if value.is_floating_point()]
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in floats)
    return state


def moved(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name].float() - b[name].float()).abs().max()) for name in a)


@pytest.mark.parametrize("model", ["fmformer", "ssfggan"])
def test_one_pass_and_turns_train_and_are_clipped_in_bfloat16(
    model: str, root: Path, tmp_path: Path
) -> None:
    """AdamW's step hardly depends on the gradient's size, except where its epsilon exceeds it."""
    free = trained_so(root, tmp_path / "free", model)
    clipped = trained_so(root, tmp_path / "clipped", model, gradient_clip_val=1e-12)
    assert moved(free, clipped) > 1e-4


def test_batch_norm_keeps_its_statistics_in_float32(root: Path, tmp_path: Path) -> None:
    state = trained_so(root, tmp_path / "low", "dcnn_svm")
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert means
    assert all(value.abs().max() > 0 for value in means)
    assert state["model.support"] > 0  # the support vectors of the stage that solves
