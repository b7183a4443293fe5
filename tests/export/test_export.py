"""`fmbench export`: the files, the comparison with PyTorch, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmbench.alarms.file import Alarms, write_alarms
from fmbench.alarms.rule import AlarmRule
from fmbench.config.schema import Config
from fmbench.export import formats
from fmbench.export.network import Network, traced
from fmbench.export.run import export
from fmbench.files.checksum import sha256
from fmbench.training.checkpoint import load
from fmbench.training.lit import Detector
from fmbench.training.run import fit
from fmbench.types import Batch, Modality, Prediction, Problem
from recordings import write_root
from test_cli import Command, fmbench

__all__ = ["fmbench"]  # a fixture

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "onnx_inference.py"
WITHOUT = (
    "import runpy, sys; sys.modules.update(torch=None, fmbench=None, fmbench_baselines=None); "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
needs_onnx = pytest.mark.skipif(
    any(formats.find_spec(name) is None for name in formats.PACKAGES), reason="needs onnx"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_root(folder, recordings=2, seconds=40, size=(32, 32))
    return folder


def trained(root: Path, run: Path, model: str, modality: str, **net: int) -> Path:
    data = {"root": str(root), "frames": 2, "stride": 5, "current_samples": 8, "batch_size": 8}
    windows = {"epoch_windows": 16, "val_windows": 16, "guard_seconds": 2, "val_fraction": 0.2}
    trainer = {"max_epochs": 1, "accelerator": "cpu"}
    asked = Config(model=model, modality=modality, net=net, data=data | windows, trainer=trainer)
    return fit(asked, run=run)


@pytest.fixture(scope="module")
def checkpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, tmp_path_factory.mktemp("run"), "fmformer", "cross", dim=12, depth=1)


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "cross"
    export(checkpoint, out, data={"test_windows": 48})
    return out


def example(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the example where torch and fmbench cannot be imported."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", WITHOUT, str(EXAMPLE), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, env=clean)


@needs_onnx
def test_an_export_holds_its_files_and_no_path(exported: Path, checkpoint: Path) -> None:
    import onnx

    names = {each.name for each in exported.iterdir()}
    assert names == {
        "model.onnx", "recipe.json", "vectors.npz", "certificate.md", "certificate.json"
    }  # fmt: skip
    recipe = json.loads((exported / "recipe.json").read_text())
    assert recipe["inputs"]["video"]["shape"] == ["B", 3, 2, 32, 32]
    assert recipe["inputs"]["current"]["channels"][0]["unit"] == "A"
    assert recipe["window"]["stride"] == 5
    for file in exported.glob("*.[jm]*"):
        assert str(checkpoint.parent).encode() not in file.read_bytes()
        assert str(ROOT).encode() not in file.read_bytes()
    graph = onnx.load(exported / "model.onnx").graph
    video, current = (each.type.tensor_type for each in graph.input)
    assert (video.elem_type, current.elem_type) == (
        onnx.TensorProto.UINT8,
        onnx.TensorProto.FLOAT,
    )
    assert video.shape.dim[0].dim_param
    assert [each.name for each in graph.output] == ["probabilities", "mask"]


@needs_onnx
@pytest.mark.parametrize("count", [1, 2, 7])
def test_onnxruntime_answers_as_the_detector_at_any_batch_size(
    exported: Path, checkpoint: Path, count: int
) -> None:
    draw = torch.Generator().manual_seed(count)
    video = torch.randint(0, 256, (count, 3, 2, 32, 32), dtype=torch.uint8, generator=draw)
    current = 9000 + 500 * torch.randn(count, 8, 3, generator=draw)
    detector = load(checkpoint)
    with torch.no_grad():
        expected = detector(Batch(video, current, torch.zeros(count, dtype=torch.int64)))
    found = formats.open_model(exported / "model.onnx")([video.numpy(), current.numpy()])
    np.testing.assert_allclose(found[0], expected.logits.softmax(1), atol=1e-5)
    np.testing.assert_allclose(found[1], expected.mask_logits.softmax(1), atol=1e-5)


@needs_onnx
def test_the_certificate_counts_every_window(exported: Path) -> None:
    found = json.loads((exported / "certificate.json").read_text())
    assert found["windows"] == 48
    assert found["decisions_that_differ"] == 0
    assert found["pixels"] == 48 * 32 * 32
    assert 0 <= found["largest_difference"]["probabilities"] < 1e-4
    assert found["rates"]["acc"]["pytorch"] == found["rates"]["acc"]["export"]
    assert "# Certificate: fmformer (cross)" in (exported / "certificate.md").read_text()


@needs_onnx
def test_the_example_needs_neither_torch_nor_fmbench(exported: Path, tmp_path: Path) -> None:
    done = example(exported)
    assert done.returncode == 0, done.stderr
    assert "window 31:" in done.stdout
    for file in exported.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with np.load(exported / "vectors.npz") as file:
        vectors = dict(file)
    vectors["probabilities"] = vectors["probabilities"] + np.float32(0.01)
    np.savez(tmp_path / "vectors.npz", **vectors)
    assert example(tmp_path).returncode == 1


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(("model", "modality"), [("informer", "current"), ("vivit", "visual")])
def test_a_baseline_of_each_modality_is_exported(
    root: Path, tmp_path: Path, fmbench: Command, model: str, modality: str
) -> None:
    best = trained(root, tmp_path / "run", model, modality, dim=12)
    done = fmbench(
        "export", "--checkpoint", best, "--out", tmp_path / "out", "--data.test_windows", "8"
    )
    assert done.status == 0, done.err
    assert "decisions that differ: 0 of 8" in done.out


def test_a_pt2_answers_as_the_detector(checkpoint: Path, tmp_path: Path, fmbench: Command) -> None:
    out = tmp_path / "out"
    words = ("export", "--checkpoint", checkpoint, "--out", out, "--format", "torch")
    done = fmbench(*words, "--data.test_windows", "16")
    assert done.status == 0, done.err
    with np.load(out / "vectors.npz") as file:
        vectors = dict(file)
    module = torch.export.load(out / "model.pt2").module()
    found = module(torch.from_numpy(vectors["video"]), torch.from_numpy(vectors["current"]))
    np.testing.assert_allclose(found[0].detach(), vectors["probabilities"], atol=1e-5)


@needs_onnx
@pytest.mark.slow
def test_int8_weights_are_stored_and_certified(
    checkpoint: Path, tmp_path: Path, fmbench: Command
) -> None:
    import onnx

    words = ("export", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    done = fmbench(*words, "--quantize", "dynamic", "--data.test_windows", "48")
    assert done.status == 0, done.err
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    assert any(each.data_type == onnx.TensorProto.INT8 for each in graph.initializer)
    found = json.loads((tmp_path / "out" / "certificate.json").read_text())
    assert found["precision"] == "int8 weights, dynamic"
    assert found["largest_difference"]["probabilities"] > 0
    assert len(found["rates"]["acc"]["interval"]) == 2


@needs_onnx
def test_an_export_of_another_checkpoint_is_not_replaced_unasked(
    exported: Path, checkpoint: Path, tmp_path: Path, fmbench: Command
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    recipe = json.loads((exported / "recipe.json").read_text())
    recipe["checkpoint"]["sha256"] = "0"
    (out / "recipe.json").write_text(json.dumps(recipe))
    before = (out / "recipe.json").read_bytes()
    words = ("export", "--checkpoint", checkpoint, "--out", out, "--format", "torch")
    words = (*words, "--data.test_windows", "4")
    done = fmbench(*words)
    assert done.status == 2
    assert "another checkpoint" in done.err
    assert (out / "recipe.json").read_bytes() == before
    assert fmbench(*words, "--replace").status == 0
    assert json.loads((out / "recipe.json").read_text())["file"] == "model.pt2"
    (out / "notes.txt").touch()
    done = fmbench(*words, "--replace")
    assert done.status == 2
    assert "notes.txt, which is no part of an export" in done.err
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out"]


def test_the_alarm_rule_of_the_checkpoint_goes_into_the_recipe(
    checkpoint: Path, tmp_path: Path, fmbench: Command
) -> None:
    rule = AlarmRule(on=0.7, off=0.4, needed=4, of=5, hold_off=10, every=1.0)
    alarms = Alarms(
        rule=rule, temperature=1.5, checkpoint_sha256=sha256(checkpoint), budget="1/day",
        budget_met=True, normal_hours=80.0, false_alarms=3, supports_at_best=1.1, data="x",
        data_fingerprint="0", simulated=False,
    )  # fmt: skip
    write_alarms(tmp_path / "alarms.yaml", alarms)
    words = ("export", "--checkpoint", checkpoint, "--out", tmp_path / "out", "--format", "torch")
    words = (*words, "--alarms", tmp_path / "alarms.yaml", "--data.test_windows", "4")
    assert fmbench(*words).status == 0
    recipe = json.loads((tmp_path / "out" / "recipe.json").read_text())
    found = recipe["decision"]["alarm_rule"]
    assert {name: found[name] for name in asdict(rule)} == asdict(rule)
    assert found["temperature"] == 1.5
    write_alarms(
        tmp_path / "alarms.yaml", alarms.model_copy(update={"checkpoint_sha256": "0" * 64})
    )
    done = fmbench(*words)
    assert done.status == 2
    assert "belongs to another checkpoint" in done.err


def test_a_missing_checkpoint_or_package_is_said_first(
    checkpoint: Path, tmp_path: Path, fmbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = fmbench("export", "--checkpoint", "no.ckpt", "--out", tmp_path / "out")
    assert done.status == 2
    assert "no.ckpt: no such file" in done.err
    monkeypatch.setattr(formats, "PACKAGES", ("onnx_that_is_not_there",))
    done = fmbench("export", "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert done.status == 2
    assert 'pip install "fmformer-bench[export]"' in done.err
    words = ("--format", "torch", "--quantize", "dynamic")
    done = fmbench("export", "--checkpoint", checkpoint, "--out", tmp_path / "out", *words)
    assert done.status == 2
    assert "quantize needs the format onnx" in done.err
    assert not (tmp_path / "out").exists()


class Frozen(nn.Module):
    """A model whose graph holds the traced batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch: Batch) -> Prediction:
        assert batch.current is not None
        return Prediction(batch.current[:, :2, 0] + torch.zeros(len(batch.current), 2))


def test_a_model_that_freezes_the_batch_size_is_refused() -> None:
    problem = Problem(modality=Modality.CURRENT, current_samples=8)
    detector = Detector(Frozen(), problem=problem, stamp={"model": "mine"})
    with pytest.raises(ValueError, match=r"mine cannot be exported: .*") as refusal:
        traced(detector.eval(), (torch.randn(4, 8, 3),))
    assert "x.shape[0], not len(x)" in str(refusal.value)


def test_a_network_gives_probabilities(checkpoint: Path) -> None:
    network = Network(load(checkpoint)).eval()
    video = torch.zeros(2, 3, 2, 32, 32, dtype=torch.uint8)
    probabilities, mask = network(video, torch.zeros(2, 8, 3))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))
    torch.testing.assert_close(mask.sum(1), torch.ones(2, 32, 32))


def test_the_documented_commands_are_those_of_the_command_line(fmbench: Command) -> None:
    text = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("fmbench export ")]
    assert len(lines) == 3
    for line in lines:  # parsed in full; only the checkpoint is not there
        done = fmbench(*line.split()[1:])
        assert "best.ckpt: no such file" in done.err
