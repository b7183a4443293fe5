"""A non-finite loss or gradient stops the training before the step; the error says where."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Fault
from fmbench.format.columns import format_seconds
from fmbench.objective import Loss
from fmbench.training.lit import Detector
from fmbench.training.run import fit
from fmbench.types import Batch
from recordings import Written, write_root
from test_faults_resume import STEPS, config, differences, result

ROWS = [
    ("itransformer", "current"),
    pytest.param("vit", "visual", marks=pytest.mark.slow),
    pytest.param("ssfggan", "cross", marks=pytest.mark.slow),  # several alternating optimizers
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Written]]:
    folder = tmp_path_factory.mktemp("recordings")
    return folder, {each.name: each for each in write_root(folder, seconds=60, size=(32, 32))}


@pytest.mark.parametrize(("name", "modality"), ROWS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_training_stops_before_a_step_that_is_not_finite(
    written: tuple[Path, dict[str, Written]],
    tmp_path: Path,
    name: str,
    modality: str,
    value: float,
    what: str,
    fault: Callable[..., Fault],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = fault(
        "NaN or Inf in the loss or in a gradient",
        promise="stops at that step and names recordings and frames; the last saved weights are "
        "finite; the run resumed without the fault is bit-equal",
    )
    root, recordings = written
    asked, at = config(root, name, modality), STEPS + 2
    fit(asked, run=tmp_path / "whole")
    shown: list[Batch] = []
    step, terms = Detector._descend, Loss.terms

    def injected(self: Detector, losses: Any, batch: Batch) -> torch.Tensor:
        if not shown or shown[-1] is not batch:
            shown.append(batch)
        if len(shown) != at:
            return step(self, losses, batch)
        if what == "gradient":
            learnt = next(p for p in self.model.parameters() if p.requires_grad)
            learnt.register_hook(lambda gradient: gradient * value)
            return step(self, losses, batch)
        loss = step(self, losses, batch)
        self.terms = {key: term * value for key, term in self.terms.items()}
        return loss * value

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Detector, "_descend", injected)
        with pytest.raises(ValueError, match="is not finite at step") as stopped:
            fit(asked, run=run)
    assert Loss.terms is terms
    said = str(stopped.value)
    named = [
        recordings[recording].times[int(frame)]
        for recording, frames in re.findall(r"(furnace-\d), frames ([\d, ]+\d)", said)
        for frame in frames.split(", ")
    ]
    assert shown[-1].second is not None
    same = sorted(named) == sorted(format_seconds(shown[-1].second.numpy()))
    kept = [torch.load(path, weights_only=True) for path in run.glob("checkpoints/*.ckpt")]
    finite = all(v.isfinite().all() for content in kept for v in content["state_dict"].values())
    fit(asked, run=run, resume="auto")
    other = differences(result(tmp_path / "whole"), result(run))
    ok = same and bool(kept) and finite and len(shown) == at and said.count("\n") < 4
    line.trial(ok and not other, f"{name} {what} {value}: {len(kept)} {finite} {other[:2]} {said}")
