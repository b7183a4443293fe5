"""Methods that train in stages: what each stage changes, and in which order a run trains them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import nn

import fmbench
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.objective import Optim
from fmbench.registry import catalogue
from fmbench.stages import Learn, Solve, Stage, Turn, share_epochs, stages_of
from fmbench.training.console import PlainProgress
from fmbench.training.lit import Detector, parameter_groups
from fmbench.training.loop import train_stages
from fmbench.training.run import fit
from fmbench.types import Modality, Problem
from recordings import write_root

PLUG_IN = '''
import torch
from torch import nn
from torch.nn import functional as F
from fmbench.nn import Standardize
from fmbench.stages import Learn, Solve, Turn
from fmbench.types import Batch, Modality, Prediction, Problem


class Staged(nn.Module):
    """An encoder learns first, two heads then play against each other, a threshold comes last."""

    modalities = frozenset({Modality.CURRENT})
    dense = frozenset()

    def __init__(self, problem: Problem):
        super().__init__()
        self.standardize = Standardize.current(problem.current_channels)
        self.encoder = nn.Linear(problem.current_channels, 4)
        self.decoder = nn.Linear(4, problem.current_channels)
        self.head, self.rival = nn.Linear(4, 1), nn.Linear(4, 1)
        self.register_buffer("threshold", torch.tensor(torch.nan))
        self.register_buffer("solved_on", torch.tensor(0))
        self.seen = []
        self.knows = 1

    def stages(self):
        coder = [*self.encoder.parameters(), *self.decoder.parameters()]
        return [
            Learn(name="reconstruct", turns=[Turn(parameters=coder, losses=self.reconstruct)],
                  check=self.told),
            Learn(name="rivals", share=2, turns=[
                Turn(parameters=[{"params": list(self.head.parameters()), "lr_scale": 0.1}],
                     losses=lambda batch: self.apart(batch, "head")),
                Turn(parameters=list(self.rival.parameters()),
                     losses=lambda batch: self.apart(batch, "rival")),
            ]),
            Solve(name="threshold", gather=self.gather, solve=self.solve),
        ]

    def features(self, batch):
        return self.encoder(self.standardize(batch.current).mean(1))

    def reconstruct(self, batch):
        x = self.standardize(batch.current)
        return {"reconstruction": F.mse_loss(self.decoder(self.encoder(x)), x)}

    def told(self, batch):
        score = batch.label * self.knows
        return torch.stack([-score, score], 1).float(), batch.label

    def apart(self, batch, who):
        frozen = {name for name, p in self.named_parameters() if not p.requires_grad}
        self.seen.append((who, frozen))
        h = self.features(batch)
        gap = (self.head(h) - self.rival(h)).mean()
        return {who: gap if who == "head" else -gap}

    def gather(self, batch):
        assert not self.training and not torch.is_grad_enabled()
        return {"score": self.head(self.features(batch))[:, 0], "label": batch.label}

    def solve(self, kept):
        self.threshold.copy_(kept["score"].median())
        self.solved_on.fill_(len(kept["label"]))

    def forward(self, batch):
        margin = self.head(self.features(batch))[:, 0] - self.threshold
        return Prediction(torch.stack([-margin, margin], 1))


MODELS = {"staged": Staged}
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    write_root(folder, recordings=2, seconds=60, size=(32, 32))
    return folder


@pytest.fixture(autouse=True)
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    place = tmp_path / "plug-in"
    info = place / "staged-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "staged_models.py").write_text(PLUG_IN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: staged\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fmbench.models]\nstaged = staged_models:MODELS\n")
    monkeypatch.syspath_prepend(str(place))
    catalogue.cache_clear()
    yield place
    catalogue.cache_clear()
    sys.modules.pop("staged_models", None)


PROBLEM = Problem(modality=Modality.CURRENT, current_samples=12)


def build() -> Any:
    torch.manual_seed(0)
    return fmbench.create_model("staged", PROBLEM)


def config(root: Path, epochs: int = 3, **trainer: Any) -> Config:
    return Config(
        model="staged",
        modality="current",
        select="val/acc",
        data={
            "root": str(root),
            "current_samples": 12,
            "batch_size": 8,
            "epoch_windows": 32,
            "guard_seconds": 5,
            "val_fraction": 0.2,
        },
        optim={"lr": 1e-2, "schedule": "constant"},
        trainer={"max_epochs": epochs, "accelerator": "cpu"} | trainer,
    )


def weights(checkpoint: Path, part: str = "") -> dict[str, torch.Tensor]:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    return {k: v for k, v in state.items() if k.startswith(f"model.{part}")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    assert a.keys() == b.keys()
    assert a
    return all(torch.equal(a[key], b[key]) for key in a)


def test_a_run_trains_its_stages_in_order_and_each_leaves_other_parameters_unchanged(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    best = fit(config(root), run=run)
    out = capsys.readouterr().out
    assert "stage 1 of 3: reconstruct" in out
    assert "stage 3 of 3: threshold" in out
    first, second = (run / "stages" / name / "last.ckpt" for name in ("reconstruct", "rivals"))
    assert best == run / "checkpoints" / "best.ckpt"
    fresh = {f"model.{k}": v for k, v in build().state_dict().items()}
    for part in ("encoder", "decoder"):
        assert not same(weights(first, part), {k: v for k, v in fresh.items() if part in k})
        assert same(weights(first, part), weights(best, part))
    for part in ("head", "rival"):
        assert not same(weights(first, part), weights(second, part))
        assert same(weights(second, part), weights(best, part))
    assert weights(second)["model.threshold"].isnan()
    assert weights(best)["model.threshold"].isfinite()
    assert weights(best)["model.solved_on"] == 32  # all windows of an epoch
    result = json.loads((run / "val.json").read_text())
    assert result["epochs"] == 3
    assert result["steps"] == 4 + 2 * 8  # one epoch of one turn, two epochs of two
    assert fmbench.load(best).model.threshold.isfinite()


@pytest.mark.parametrize("knows", [True, False])
def test_a_stage_with_a_check_says_what_it_has_learnt_and_says_so_if_that_is_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], knows: bool
) -> None:
    model = build()
    model.knows = int(knows)
    detector = Detector(model, problem=PROBLEM)
    data = FurnaceData(**config(root).data, modality=Modality.CURRENT)
    logger = CSVLogger(tmp_path, name="log")
    options = {"max_epochs": 3, "accelerator": "cpu"}
    train_stages(detector, data, run=tmp_path, select="val/acc", options=options, loggers=[logger])
    lines = [line for line in capsys.readouterr().out.splitlines() if "AUROC" in line]
    if knows:
        assert lines == ["stage reconstruct: AUROC 1.000 on validation"]
    else:
        assert len(lines) == 1
        assert lines[0].startswith("stage reconstruct ENDS AT CHANCE: AUROC 0.500 on validation")
    assert "val/reconstruct_auroc" in Path(logger.log_dir, "metrics.csv").read_text()


def test_a_turn_changes_only_its_own_parameters(root: Path, tmp_path: Path) -> None:
    detector = Detector(build(), problem=Problem(modality=Modality.CURRENT))
    model: Any = detector.model
    detector.enter(detector.stages[1])
    assert not detector.automatic_optimization
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {"head.weight", "head.bias", "rival.weight", "rival.bias"}

    options = config(root).data
    data = FurnaceData(**options, modality=Modality.CURRENT)
    train_stages(
        detector,
        data,
        run=tmp_path,
        select="val/acc",
        options={"max_epochs": 2},
        loggers=[CSVLogger(tmp_path)],
    )
    turns = dict(model.seen)
    assert {"rival.weight", "encoder.weight"} <= turns["head"]
    assert {"head.weight", "encoder.weight"} <= turns["rival"]
    assert [who for who, _ in model.seen[:4]] == ["head", "rival", "head", "rival"]


@pytest.mark.parametrize("stage", ["reconstruct", "rivals"])
def test_a_run_interrupted_in_any_stage_ends_with_the_weights_of_an_unbroken_one(
    root: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(config(root, epochs=6), run=tmp_path / "whole")
    run = tmp_path / "broken"
    enter = Detector.enter

    def pulled_out(self: Detector, entered: Stage) -> None:
        if entered.name != "reconstruct" and stage == "reconstruct":
            raise KeyboardInterrupt
        if entered.name == "threshold":
            raise KeyboardInterrupt
        enter(self, entered)

    with monkeypatch.context() as broken:
        broken.setattr(Detector, "enter", pulled_out)
        with pytest.raises(KeyboardInterrupt):
            fit(config(root, epochs=6), run=run)
    resumed = fit(config(root, epochs=6), run=run, resume="auto")
    assert same(weights(whole), weights(resumed))


def test_clipping_reaches_alternating_turns_too(root: Path, tmp_path: Path) -> None:
    free = fit(config(root), run=tmp_path / "free")
    clipped = fit(config(root, gradient_clip_val=1e-9), run=tmp_path / "clipped")
    moved = weights(tmp_path / "free" / "stages" / "rivals" / "last.ckpt", "rival")
    held = weights(tmp_path / "clipped" / "stages" / "rivals" / "last.ckpt", "rival")
    assert not same(moved, held)
    assert same(weights(free, "rival"), moved)
    assert same(weights(clipped, "rival"), held)


def test_epochs_are_shared_in_proportion_and_every_stage_gets_one() -> None:
    def learn(share: float) -> Learn:
        return Learn(name=str(share), turns=[], share=share)

    solve = Solve(name="solve", gather=lambda batch: {}, solve=lambda kept: None)
    assert share_epochs([learn(1), learn(2), solve], 12) == [4, 8, 1]
    assert share_epochs([learn(1), learn(1), learn(1)], 10) in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
    assert share_epochs([learn(1), learn(9)], 2) == [1, 2]
    assert share_epochs([solve], 30) == [1]
    assert share_epochs([learn(5)], 30) == [30]


def test_a_group_scales_the_rate_and_has_its_own_options() -> None:
    weight = nn.Parameter(torch.zeros(2))
    groups = parameter_groups(
        Turn(parameters=[{"params": [weight], "lr_scale": 0.2, "betas": (0.5, 0.999)}]), 1e-3
    )
    assert groups == [{"params": [weight], "lr": pytest.approx(2e-4), "betas": (0.5, 0.999)}]
    assert parameter_groups(Turn(parameters=[weight]), 1e-3) == [{"params": [weight], "lr": 1e-3}]


def test_a_model_without_stages_is_one_supervised_pass() -> None:
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    detector = Detector(model, problem=Problem(modality=Modality.CURRENT), optim=Optim())
    (stage,) = detector.stages
    detector.enter(stage)
    assert [p.requires_grad for p in model.parameters()] == [True, False]


def test_a_check_of_the_last_stage_is_refused() -> None:
    class Checked(nn.Module):
        def stages(self) -> list[Stage]:
            return [Learn(name="a", turns=[], check=lambda batch: (batch.label, batch.label))]

    with pytest.raises(ValueError, match=r"Checked: stage a is the last.*has no effect"):
        stages_of(Checked())


def test_two_stages_of_the_same_name_are_refused() -> None:
    class Twice(nn.Module):
        def stages(self) -> list[Stage]:
            return [Learn(name="a", turns=[]), Learn(name="a", turns=[])]

    with pytest.raises(
        ValueError, match=r"Twice\.stages\(\) must return one or more stages of different names"
    ):
        stages_of(Twice())


@pytest.mark.slow
def test_two_processes_go_through_the_stages_together(
    root: Path, tmp_path: Path, staged: Path
) -> None:
    run = tmp_path / "run"
    asked = tmp_path / "asked.yaml"
    asked.write_text(config(root, devices=2, strategy="ddp").to_yaml())
    done = subprocess.run(
        [Path(sys.executable).with_name("fmbench"), "fit", "--config", asked, "--run", run],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(staged), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stage 3 of 3: threshold") == 1  # only the first process prints
    best = weights(run / "checkpoints" / "best.ckpt")
    assert best["model.solved_on"] == 32  # both shares of the epoch
    assert not same(
        weights(run / "stages" / "reconstruct" / "last.ckpt", "head"),
        {key: value for key, value in best.items() if "head" in key},
    )


@pytest.mark.parametrize("epochs", [-1, 0, None])
def test_stages_need_epochs_to_share(root: Path, tmp_path: Path, epochs: int | None) -> None:
    asked = config(root, max_epochs=epochs)
    with pytest.raises(ValueError, match=r"3 stages share trainer\.max_epochs; it is .*number"):
        fit(asked, run=tmp_path / "run")


def test_a_checkpoint_of_an_unknown_stage_is_not_resumed(root: Path, tmp_path: Path) -> None:
    fit(config(root), run=tmp_path / "run")
    path = tmp_path / "run" / "stages" / "rivals" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    content["fmbench"]["stage"] = "elsewhere"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"is of stage elsewhere; .*rivals.*nothing resumed"):
        fit(config(root), run=tmp_path / "other", resume=path)


def test_a_solve_stage_prints_progress_and_respects_the_trainers_options(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "fmbench.training.loop.progress_callbacks", lambda: [PlainProgress(seconds=0)]
    )
    part = config(root, limit_train_batches=2, enable_progress_bar=False)
    best = fit(part, run=tmp_path / "run")
    assert fmbench.load(best).model.solved_on == 2 * 8
    stages = capsys.readouterr().out.partition("stage 3 of 3")
    assert "batch 2 of 2" in stages[2]
    assert "batch" not in stages[0]
