"""The Python interface: docs/python.md, a Trainer of one's own, arrays in and scores out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger

import fmbench
from fmbench.objective import Loss, Optim
from fmbench.training.measure import measure
from fmbench.types import Batch, Modality, Problem
from recordings import write_root

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=2, seconds=60, size=(32, 32))
    return folder


def data_of(root: Path, **more: Any) -> fmbench.FurnaceData:
    sizes = {"frames": 2, "current_samples": 12, "batch_size": 8, "epoch_windows": 32}
    windows = {"val_windows": 16, "test_windows": 16, "val_fraction": 0.2, "guard_seconds": 3}
    return fmbench.FurnaceData(root=root, **sizes | windows | more)


class Seen(Callback):
    """Counts what it is called for."""

    def __init__(self) -> None:
        self.steps = self.validations = 0

    def on_train_batch_end(self, *_: object) -> None:
        self.steps += 1

    def on_validation_end(self, *_: object) -> None:
        self.validations += 1


def test_every_snippet_of_the_page_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) == 5
    write_root(tmp_path / "data", recordings=2, seconds=90)
    (tmp_path / "page.py").write_text("\n".join(snippets))
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "(2, 2) (2, 64, 64)"
    assert (tmp_path / "runs/mine/checkpoints/best.ckpt").is_file()


def test_a_trainer_of_ones_own_trains_what_fit_trains(root: Path, tmp_path: Path) -> None:
    """The same seed, data and options: equal weights, though `fit` is not involved."""
    chosen = {"dim": 12, "depth": 1}
    trainer: dict[str, Any] = {"max_epochs": 2, "accelerator": "cpu"}
    config = fmbench.configure(
        "smoke",
        model="fmformer",
        modality="cross",
        seed=3,
        net=chosen,
        data={"root": str(root), **_changes(data_of(root))},
        trainer=trainer,
    )
    best = fmbench.fit(config, run=tmp_path / "run")
    last = torch.load(best.with_name("last.ckpt"), weights_only=True)["state_dict"]

    L.seed_everything(3, workers=True, verbose=False)
    data = fmbench.FurnaceData(**config.data, modality="cross", seed=3)
    problem = data.problem(dense=True)
    model = fmbench.create_model("fmformer", problem, **chosen)
    seen = Seen()
    detector = fmbench.Detector(
        model, problem=problem, loss=Loss(**config.loss), optim=Optim(**config.optim)
    )
    own = L.Trainer(
        **{**config.trainer, "precision": "32-true"},
        callbacks=[seen],
        logger=CSVLogger(tmp_path / "logs"),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    own.fit(detector, data)
    assert seen.steps == 8
    assert seen.validations == 2
    for name, value in detector.state_dict().items():
        torch.testing.assert_close(value, last[name], msg=name)
    own.save_checkpoint(tmp_path / "mine.ckpt")
    loaded = fmbench.load(tmp_path / "mine.ckpt")
    torch.testing.assert_close(loaded.state_dict(), detector.state_dict())
    assert 0 <= measure(tmp_path / "mine.ckpt", out=tmp_path)["acc"] <= 1


def _changes(data: fmbench.FurnaceData) -> dict[str, Any]:
    names = ("frames", "current_samples", "batch_size", "epoch_windows", "val_windows")
    names += ("test_windows", "val_fraction", "guard_seconds")
    return {name: data.options[name] for name in names}


def test_callbacks_and_loggers_are_added_to_those_of_fit(root: Path, tmp_path: Path) -> None:
    seen, logger = Seen(), CSVLogger(tmp_path / "logs", name="mine")
    changes = {"root": str(root), **_changes(data_of(root))}
    config = fmbench.configure(
        "smoke", model="fmformer", modality="current", net={"dim": 12, "depth": 1}, data=changes
    )
    best = fmbench.fit(config, run=tmp_path / "run", callbacks=[seen], loggers=[logger])
    assert best.is_file()
    assert seen.steps > 0
    assert (tmp_path / "run/log/version_0/metrics.csv").is_file()
    assert (tmp_path / "logs/mine/version_0/metrics.csv").is_file()


def test_callbacks_in_the_configuration_are_refused(root: Path, tmp_path: Path) -> None:
    config = fmbench.configure("smoke", data={"root": str(root)})
    with pytest.raises(ValueError, match=r"give callbacks=\[...\] to fit instead"):
        fmbench.fit(replace(config, trainer={"callbacks": [Seen()]}), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_of_several_stages_needs_fit(root: Path, tmp_path: Path) -> None:
    data = data_of(root)
    problem = data.problem(dense=False)
    detector = fmbench.Detector(fmbench.create_model("dcnn_svm", problem), problem=problem)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, default_root_dir=tmp_path)
    with pytest.raises(
        ValueError, match=r"trains in stages or turns of its own \(.*\).*fmbench.fit"
    ):
        trainer.fit(detector, data)


def test_a_model_for_other_windows_than_the_data_is_refused(root: Path, tmp_path: Path) -> None:
    data = data_of(root)
    problem = replace(data.problem(dense=False), current_samples=24)
    detector = fmbench.Detector(fmbench.create_model("fmformer", problem), problem=problem)
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, default_root_dir=tmp_path)
    with pytest.raises(ValueError, match="current_samples=24"):
        trainer.fit(detector, data)


# Arrays in, scores out


def detector_of(modality: str = "cross", *, dense: bool = True) -> fmbench.Detector:
    problem = Problem(
        modality=Modality(modality), dense=dense, frames=2, image_size=(32, 32), current_samples=12
    )
    torch.manual_seed(0)
    model = fmbench.create_model("fmformer", problem, dim=12, depth=1)
    return fmbench.Detector(model, problem=problem)


def arrays(count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    video = draw.integers(0, 256, (count, 3, 2, 32, 32), dtype=np.uint8)
    return video, draw.uniform(8000, 12000, (count, 12, 3))


def test_scores_are_those_of_the_forward() -> None:
    detector, (video, current) = detector_of(), arrays()
    scores = detector.predict(video, current)
    batch = Batch(
        torch.from_numpy(video), torch.from_numpy(current).float(), torch.zeros(3, dtype=torch.long)
    )
    with torch.no_grad():
        expected = detector.eval()(batch)
    np.testing.assert_allclose(scores.probabilities, expected.logits.softmax(1), rtol=1e-6)
    np.testing.assert_allclose(scores.score, expected.logits.softmax(1)[:, 1], rtol=1e-5)
    np.testing.assert_array_equal(scores.mask, expected.mask_logits.argmax(1))
    again = detector.predict(torch.from_numpy(video).float(), torch.from_numpy(current))
    np.testing.assert_array_equal(again.score, scores.score)
    one = detector.predict(video[0], current[0])
    np.testing.assert_allclose(one.score, scores.score[:1], rtol=1e-5)


def test_a_detector_in_training_stays_in_training() -> None:
    detector = detector_of("current", dense=False).train()
    assert detector.predict(current=arrays()[1]).mask is None
    assert detector.training


@pytest.mark.parametrize(
    ("modality", "change", "said"),
    [
        ("cross", lambda v, c: (v / 255.0, c), "multiply it by 255"),
        ("cross", lambda v, c: (v.astype(int) - 5, c), "grey levels are 0 to 255"),
        ("cross", lambda v, c: (np.full(v.shape, np.nan), c), "video lies in nan to nan"),
        ("cross", lambda v, c: (v, c[:, :, :2]), r"current has the shape \(3, 12, 2\)"),
        ("cross", lambda v, c: (v[:, :, :1], c), r"video has the shape \(3, 3, 1, 32, 32\)"),
        ("cross", lambda v, c: (v.transpose(0, 2, 3, 4, 1), c), "video has the shape"),
        ("cross", lambda v, c: (v, c / 1000), "multiply kiloamperes by 1000"),
        ("cross", lambda v, c: (v, c * np.nan), "not numbers"),
        ("cross", lambda v, c: (v[:2], c), "video has 2 windows, current 3"),
        ("cross", lambda v, c: (v, None), "current is missing"),
        ("current", lambda v, c: (v, c), "video is not read by it"),
        ("cross", lambda v, c: ([["a"]], c), "video holds no numbers"),
        ("cross", lambda v, c: (v[:0], c[:0]), "video has the shape"),
    ],
)
def test_other_arrays_are_refused_in_words(modality: str, change: Any, said: str) -> None:
    detector = detector_of(modality, dense=False)
    with pytest.raises(ValueError, match=said):
        detector.predict(*change(*arrays()))


def test_currents_of_other_units_may_be_small() -> None:
    detector = detector_of("current", dense=False)
    channels = [{"name": f"c{k}", "unit": "kW"} for k in range(3)]
    detector.stamp["plant"] = {"channels": channels}
    assert detector.predict(current=arrays()[1] / 1000).score.shape == (3,)
