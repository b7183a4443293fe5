"""Runs from end to end on real files: the files that a run writes, and the input it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors import safe_open
from sklearn.metrics import accuracy_score, recall_score

import fmbench
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.models.official import OfficialFmFormer, to_state_dict
from fmbench.training.checkpoint import export_weights, import_official
from fmbench.training.measure import measure
from fmbench.training.predict import elapsed, predict
from fmbench.training.run import fit
from fmbench.types import Batch, Modality, Problem
from recordings import write_root

DATA: dict[str, Any] = {
    "frames": 2,
    "stride": 5,
    "current_samples": 12,
    "batch_size": 8,
    "epoch_windows": 32,
    "val_windows": 24,
    "guard_seconds": 5,
    "val_fraction": 0.2,
}
NET = {"dim": 12, "depth": 1}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=2, seconds=60, size=(32, 32))
    write_root(folder, recordings=1, seconds=60, size=(32, 32), part="class-level")
    return folder


def config(root: Path, modality: str = "cross", epochs: int = 2, **changes: Any) -> Config:
    plain = Config(
        modality=modality,
        net=NET,
        data=DATA | {"root": str(root)} | changes.pop("data", {}),
        optim={"lr": 1e-3},
        trainer={"max_epochs": epochs, "accelerator": "cpu"},
    )
    return replace(plain, **changes)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(config(root), run=tmp_path_factory.mktemp("run"))


def test_a_run_leaves_config_log_checkpoints_and_results(root: Path, trained: Path) -> None:
    run = trained.parent.parent
    assert yaml.safe_load((run / "config.yaml").read_text())["net"] == NET
    log = pd.read_csv(run / "log" / "version_0" / "metrics.csv")
    assert {"train/loss_epoch", "val/acc", "val/miou"} <= set(log.columns)
    assert {path.name for path in trained.parent.iterdir()} == {"best.ckpt", "last.ckpt"}
    result = json.loads((run / "val.json").read_text())
    assert result["epochs"] == 2
    assert result["steps"] == 8
    assert result["config"]["data"]["root"] == str(root)
    assert len(result["data_fingerprint"]) == 64
    assert result["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert result["synthetic"] is False
    assert set(result["metrics"]) >= {"acc", "f1", "fdr", "mdr", "miou", "auroc", "aupr"}


def test_the_line_of_an_epoch_shows_the_losses_of_that_epoch(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(config(root, "current"), run=tmp_path)
    log = pd.read_csv(tmp_path / "log" / "version_0" / "metrics.csv")
    lines = [line for line in capsys.readouterr().out.splitlines() if "] epoch" in line]
    losses = log["train/loss_epoch"].dropna()
    assert len(lines) == len(losses) == 2
    for line, loss in zip(lines, losses, strict=True):
        assert f"train/loss_epoch {loss:.4f}" in line


def test_metrics_can_be_recomputed_from_the_stored_predictions(
    trained: Path, tmp_path: Path
) -> None:
    metrics = measure(trained, out=tmp_path)
    table = pd.read_csv(tmp_path / "test-predictions.csv")
    decided = table["score"] > 0.5
    assert metrics["acc"] == pytest.approx(accuracy_score(table["label"], decided))
    assert metrics["mdr"] == pytest.approx(1 - recall_score(table["label"], decided))
    assert table["decision"].equals(decided.astype(int))
    np.testing.assert_allclose(table["score"], 1 / (1 + np.exp(-table["log_odds"])), atol=2e-6)
    tn, fp, fn, tp = (table[f"pixel_{name}"] for name in ("tn", "fp", "fn", "tp"))
    assert (tn + fp + fn + tp == 32 * 32).all()
    assert ((fn + tp > 0) == (table["label"] == 1)).all()
    errors = (fp + fn).sum()
    ious = [right.sum() / (right.sum() + errors) for right in (tn, tp)]
    assert metrics["miou"] == pytest.approx(np.mean(ious))
    assert json.loads((tmp_path / "test.json").read_text())["metrics"] == pytest.approx(metrics)


@pytest.mark.parametrize("changes", [{"batch_size": 5}, {"num_workers": 2}])
def test_a_measurement_does_not_depend_on_batches_or_workers(
    changes: dict[str, Any], trained: Path, tmp_path: Path
) -> None:
    tables = []
    for name, data in (("a", {}), ("b", changes)):
        measure(trained, data=data | {"test_windows": 60}, out=tmp_path / name)
        tables.append(pd.read_csv(tmp_path / name / "test-predictions.csv"))
    assert tables[0][["recording", "frame", "label"]].equals(
        tables[1][["recording", "frame", "label"]]
    )
    np.testing.assert_allclose(tables[0]["score"], tables[1]["score"], atol=2e-6)


def test_the_best_checkpoint_is_chosen_on_validation_windows(trained: Path) -> None:
    run = trained.parent.parent
    log = pd.read_csv(run / "log" / "version_0" / "metrics.csv")
    best = json.loads((run / "val.json").read_text())["metrics"]["f1"]
    assert best == pytest.approx(log["val/f1"].max(), abs=1e-6)


def test_load_gives_a_detector_in_eval_mode_with_its_normalisation(
    root: Path, trained: Path
) -> None:
    detector = fmbench.load(trained)
    assert not detector.training
    assert detector.problem.modality is Modality.CROSS
    data = FurnaceData(**(DATA | {"root": root}))
    statistics = data.statistics()
    tokens = detector.model.get_submodule("current_tokens.standardize")
    assert statistics.current_mean is not None
    torch.testing.assert_close(tokens.get_buffer("mean"), statistics.current_mean)
    assert fmbench.load(trained)(next(iter(data.test_dataloader()))).logits.shape == (8, 2)


def test_normalisation_is_measured_on_the_training_part_alone(root: Path, trained: Path) -> None:
    data = FurnaceData(**(DATA | {"root": root}))
    table = data.table("train")
    for recording in data.opened.recordings:
        listed = set(
            json.loads((root / "pixel-level" / "test.json").read_text())[f"{recording.name}.mat"]
        )
        assert not listed & set(table.loc[table["recording"] == recording.name, "frame"])


def test_resuming_at_an_epochs_end_ends_where_an_unbroken_run_does(
    root: Path, tmp_path: Path
) -> None:
    constant = {"optim": {"lr": 1e-3, "schedule": "constant"}, "select": "val/loss"}
    whole = fit(config(root, epochs=2, **constant), run=tmp_path / "whole")
    fit(config(root, epochs=1, **constant), run=tmp_path / "broken")
    last = tmp_path / "broken" / "checkpoints" / "last.ckpt"
    (tmp_path / "broken.ckpt").write_bytes(last.read_bytes())
    fit(config(root, epochs=2, **constant), run=tmp_path / "broken", resume="auto")
    weights = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (whole.parent.parent, tmp_path / "broken")
    ]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
    before = torch.load(tmp_path / "broken.ckpt", weights_only=True)["fmbench"]["seconds"]
    taken = json.loads((tmp_path / "broken" / "val.json").read_text())["fit_seconds"]
    assert taken > before > 0  # of both parts together
    assert (tmp_path / "broken" / "log" / "version_0" / "metrics.csv").is_file()
    assert (tmp_path / "broken" / "log" / "version_1" / "metrics.csv").is_file()


def test_an_existing_run_is_not_overwritten(root: Path, trained: Path) -> None:
    with pytest.raises(ValueError, match=r"holds a run already; resume it with --resume auto"):
        fit(config(root), run=trained.parent.parent)


def test_resume_auto_with_nothing_there_starts_anew(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(config(root, "current", epochs=1), run=tmp_path, resume="auto")
    assert "nothing to resume" in capsys.readouterr().out


def test_one_seed_twice_gives_the_same_weights_and_another_seed_others(
    root: Path, tmp_path: Path
) -> None:
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        best = fit(config(root, "current", epochs=1, seed=seed), run=tmp_path / name)
        states.append(torch.load(best, weights_only=True)["state_dict"])
    key = "model.current_tokens.embed.weight"
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])


def test_class_level_recordings_train_the_class_alone(root: Path, tmp_path: Path) -> None:
    best = fit(config(root, "visual", epochs=1, data={"part": "class-level"}), run=tmp_path)
    result = json.loads((tmp_path / "val.json").read_text())
    assert result["problem"]["dense"] is False
    assert "miou" not in result["metrics"]
    assert "train/pixel_loss" not in (tmp_path / "log/version_0/metrics.csv").read_text()
    assert fmbench.load(best).problem.dense is False


def test_without_a_validation_part_the_last_weights_are_kept(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = fit(config(root, "current", data={"val_fraction": 0.0}), run=tmp_path)
    assert "best.ckpt holds the last weights" in capsys.readouterr().out
    states = [torch.load(best.parent / f"{n}.ckpt", weights_only=True) for n in ("best", "last")]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])


def test_a_checkpoint_of_another_model_is_not_resumed(
    root: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"best\.ckpt: its problem is .*nothing resumed"):
        fit(config(root, "visual"), run=tmp_path, resume=trained)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not a checkpoint", "damaged, or it holds more than tensors"),
        ({"weight": torch.zeros(2)}, "holds no fmbench checkpoint"),
        (
            {
                "fmbench": {"model": "fmformer", "net": {}, "problem": {"sensor": 1}},
                "state_dict": {},
            },
            "description of its model is damaged",
        ),
        (
            {
                "fmbench": {"model": "fmformer", "net": NET, "problem": {"modality": "current"}},
                "state_dict": {"model.fc.weight": torch.zeros(2)},
            },
            "weights of another model: it lacks",
        ),
    ],
)
def test_a_file_that_is_no_checkpoint_of_ours_is_refused(
    content: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        fmbench.load(path)


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"fmbench": {}, "state_dict": {}, "x": Payload()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="damaged, or it holds more than tensors"):
        fmbench.load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_exported_weights_have_the_models_names_and_describe_the_model(
    trained: Path, tmp_path: Path
) -> None:
    count = export_weights(trained, tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- no mapping
        about = json.loads(file.metadata()["fmbench"])
    model = fmbench.create_model(about["model"], Problem(**about["problem"]), **about["net"])
    model.load_state_dict(state)
    detector = fmbench.load(trained)
    assert len(state) == count == len(detector.model.state_dict())
    for name, value in detector.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert about["data_fingerprint"] == detector.stamp["data_fingerprint"]


def test_released_weights_become_a_checkpoint_that_tests(tmp_path: Path) -> None:
    write_root(tmp_path / "data", recordings=1, seconds=60, size=(64, 64))
    torch.manual_seed(0)
    problem = Problem(modality=Modality.CROSS)
    network = OfficialFmFormer(problem, depth=2).eval()
    torch.save(to_state_dict(network), tmp_path / "state_dict_vicu_cls.pth")
    found = import_official(tmp_path / "state_dict_vicu_cls.pth", tmp_path / "out.ckpt")
    assert found == problem
    detector = fmbench.load(tmp_path / "out.ckpt")
    assert detector.stamp["data"]["axes"] == "official"
    draw = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (1, 3, 10, 64, 64), dtype=torch.uint8, generator=draw)
    batch = Batch(video, 9000 + torch.randn(1, 240, 3), torch.zeros(1, dtype=torch.long))
    assert torch.equal(detector(batch).logits, network(batch).logits)
    options = {"root": tmp_path / "data", "test_windows": 4}
    assert 0 <= measure(tmp_path / "out.ckpt", data=options, out=tmp_path)["acc"] <= 1
    with pytest.raises(ValueError, match="a released state dict: fmbench import-official"):
        fmbench.load(tmp_path / "state_dict_vicu_cls.pth")


def test_recordings_with_other_phases_are_refused(
    root: Path, trained: Path, tmp_path: Path
) -> None:
    write_root(tmp_path, recordings=1, seconds=60, size=(32, 32))
    for path in (tmp_path / "pixel-level" / "currents").iterdir():
        table = pd.read_csv(path)
        table.iloc[:, :3].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"have 2 phases of current, .* trained on 3"):
        measure(trained, data={"root": tmp_path}, out=tmp_path)


def test_a_trained_model_is_measured_at_other_lengths(trained: Path, tmp_path: Path) -> None:
    options = {"frames": 4, "current_samples": 20, "test_windows": 10}
    assert "miou" in measure(trained, data=options, out=tmp_path)


def test_prediction_of_a_recording_agrees_with_the_detector_itself(
    root: Path, trained: Path, tmp_path: Path
) -> None:
    written = predict(trained, "furnace-0", out=tmp_path, every=50, movie=True)
    assert [path.suffix for path in written] == [".csv", ".png", ".mp4"]
    assert all(path.stat().st_size > 500 for path in written)
    table = pd.read_csv(written[0])
    data = FurnaceData(**(DATA | {"root": root, "batch_size": 64}))
    loader, _ = data.windows_of("furnace-0", 50)
    with torch.no_grad():
        batch = next(iter(loader))
        score = fmbench.load(trained)(batch).logits.softmax(1)[:, 1]
    np.testing.assert_allclose(table["score"], score, atol=2e-6)
    assert table["label"].tolist() == batch.label.bool().tolist()


def test_time_within_a_second_follows_from_the_place_in_it() -> None:
    seconds = np.array([10, 10, 11, 14, 14])
    assert elapsed(seconds, 10, 2).tolist() == [0, 0.5, 1, 4, 4.5]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # W&B's open file
def test_wandb_offline_leaves_a_run_that_wandb_sync_takes(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As W&B's agent starts it: a sweep's ID and parameters in the environment."""
    (tmp_path / "params.yaml").write_text("wandb_version: 1\nnet.dim: {value: 24}\n")
    for name, value in {
        "MODE": "offline",
        "SILENT": "true",
        "SWEEP_ID": "abc",
        "RUN_ID": "run123",
        "SWEEP_PARAM_PATH": str(tmp_path / "params.yaml"),
    }.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    fit(config(root, "current", epochs=1, logger="wandb"), run=tmp_path)
    (kept,) = tmp_path.glob("wandb/offline-run-*/run-run123.wandb")
    stored = kept.read_bytes()
    assert all(name in stored for name in (b"abc", b"val/acc", b"net.dim", b"optim.lr"))
    assert (tmp_path / "log" / "version_0" / "metrics.csv").is_file()
    words = [sys.executable, "-m", "wandb", "sync", "--dry-run"]
    monkeypatch.delenv("WANDB_SILENT")
    listed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert listed.returncode == 0
    assert "Would sync 1 run" in listed.stderr + listed.stdout


def test_a_model_without_options_leaves_a_configuration_that_can_be_read_again(root: Path) -> None:
    written = yaml.safe_load(replace(config(root), net={}).to_yaml())
    assert "net" not in written  # the command line knows no option of that name
    assert Config(**written) == Config(**written | {"net": {}})


def test_unlimited_epochs_end_by_the_trainers_max_steps(root: Path, tmp_path: Path) -> None:
    asked = config(
        root, "current", trainer={"max_epochs": -1, "max_steps": 9, "accelerator": "cpu"}
    )
    fit(asked, run=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "val.json").read_text())["steps"] == 9
