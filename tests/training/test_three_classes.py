"""A training on three classes: what it stores, what `test` refuses, what `predict` writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, recall_score

from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.files.yaml_json import read_json
from fmbench.pictures import CLASSES as COLOURS
from fmbench.pictures import painted
from fmbench.training.checkpoint import load, read_checkpoint
from fmbench.training.measure import measure
from fmbench.training.predict import predict, predicted_scene
from fmbench.training.run import fit
from recordings import write_root
from three_classes import CLASSES, write_classes, write_three_classes

DATA: dict[str, Any] = {
    "frames": 2,
    "current_samples": 12,
    "batch_size": 16,
    "epoch_windows": 192,
    "val_windows": 60,
    "guard_seconds": 3,
    "val_fraction": 0.25,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_three_classes(folder, recordings=2, seconds=120, size=(32, 32))
    return folder


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = Config(
        modality="cross",
        select="val/macro_f1",
        net={"dim": 24, "depth": 1},
        data=DATA | {"root": str(root)},
        optim={"lr": 3e-3},
        loss={"positive_weight": 5.0},
        trainer={"max_epochs": 6, "accelerator": "cpu"},
    )
    return fit(config, run=tmp_path_factory.mktemp("run"))


def test_classes_are_learnt_and_measured(trained: Path, tmp_path: Path) -> None:
    assert read_checkpoint(trained)["fmbench"]["classes"] == [*CLASSES]
    assert load(trained).classes == CLASSES
    metrics = measure(trained, out=tmp_path)
    table = pd.read_csv(tmp_path / "test-predictions.csv")
    truth, decided = table["label"], table["decision"]
    assert metrics["macro_f1"] == pytest.approx(f1_score(truth, decided, average="macro"))
    recall = recall_score(truth, decided, average=None)
    assert [metrics[f"recall_{name}"] for name in CLASSES] == pytest.approx(recall.tolist())
    assert metrics["macro_f1"] > 0.7  # one class is red, the other blue
    log_p = table[[f"log_p_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1, atol=1e-4)
    assert log_p.argmax(1).tolist() == decided.tolist()
    assert read_json(tmp_path / "test.json")["problem"]["num_classes"] == 3


@pytest.mark.parametrize("other", [("normal", "burn-through", "crack"), ("normal", "abnormal")])
def test_recordings_of_other_classes_are_refused(
    root: Path, trained: Path, tmp_path: Path, other: tuple[str, ...]
) -> None:
    shutil.copytree(root, tmp_path / "root")
    write_classes(tmp_path / "root", other)
    said = (
        f"the recordings have the classes {', '.join(other)}; the checkpoint was trained on normal,"
        " crack, burn-through"
    )
    for act in (measure, lambda *a, **o: predict(a[0], "furnace-0", **o)):
        with pytest.raises(ValueError, match=said) as error:
            act(trained, data={"root": tmp_path / "root"}, out=tmp_path)
        assert "\n" not in str(error.value)


def test_a_checkpoint_without_names_is_of_normal_and_abnormal(root: Path, tmp_path: Path) -> None:
    write_root(tmp_path / "two", recordings=1, seconds=40, size=(16, 16))
    config = Config(
        modality="current",
        net={"dim": 24, "depth": 1},
        data=DATA | {"root": str(tmp_path / "two"), "epoch_windows": 16},
        trainer={"max_epochs": 1, "accelerator": "cpu"},
    )
    best = fit(config, run=tmp_path / "run")
    content = read_checkpoint(best)
    assert content["fmbench"].pop("classes") == ["normal", "abnormal"]
    torch.save(content, tmp_path / "old.ckpt")
    assert "acc" in measure(tmp_path / "old.ckpt", out=tmp_path)
    with pytest.raises(ValueError, match="the checkpoint was trained on normal, abnormal"):
        measure(tmp_path / "old.ckpt", data={"root": root}, out=tmp_path)


def test_prediction_names_classes_and_gives_their_probabilities(
    root: Path, trained: Path, tmp_path: Path
) -> None:
    written = predict(trained, "furnace-0", out=tmp_path, every=50, movie=True)
    table = pd.read_csv(written[0])
    names = [f"p_{name}" for name in CLASSES]
    assert [*table] == ["recording", "frame", "time", "score", "decision", *names, "label"]
    data = FurnaceData(**(DATA | {"root": root, "batch_size": 200}))
    batch = next(iter(data.windows_of("furnace-0", 50)[0]))
    with torch.no_grad():
        p = load(trained)(batch).logits.softmax(1)
    np.testing.assert_allclose(table[names], p, atol=2e-6)
    np.testing.assert_allclose(table["score"], 1 - p[:, 0], atol=2e-6)
    assert table["decision"].tolist() == [CLASSES[k] for k in p.argmax(1)]
    assert table["label"].tolist() == [CLASSES[k] for k in batch.label]
    assert set(table["label"]) == {*CLASSES}


def test_unlabelled_recordings_need_no_root_yaml(root: Path, trained: Path, tmp_path: Path) -> None:
    from recordings import write_mat

    [bare] = write_root(tmp_path, recordings=1, seconds=20, size=(32, 32), part="unlabelled")
    path = tmp_path / "unlabelled" / "videos" / "furnace-0.mat"
    write_mat(path, bare.frames, None)
    options = {"root": tmp_path, "part": "unlabelled"}
    table = pd.read_csv(predict(trained, "furnace-0", data=options, out=tmp_path, every=50)[0])
    assert set(table["decision"]) <= {*CLASSES}


def test_a_picture_has_each_class_in_its_colour(trained: Path) -> None:
    scene, _ = predicted_scene(trained, "furnace-0", every=25)
    assert scene.colours == COLOURS[:2]
    grey, mask = np.full((20, 20, 3), 90, np.uint8), np.zeros((20, 20), np.uint8)
    mask[4:8, 4:8], mask[12:16, 12:16] = 1, 2
    shown = painted(grey, mask, None, 20, scene.colours).astype(int)
    for kind, colour in enumerate(scene.colours, 1):
        rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
        assert np.abs(shown[mask == kind] - (90 + rgb) / 2).max() <= 1
    assert (shown[mask == 0] == 90).all()
