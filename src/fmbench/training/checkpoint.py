"""Checkpoints: what stands in one, and how a detector comes back out of it.

A checkpoint is Lightning's, with a `fmbench` entry of plain values: model, net, problem, config,
data. Everything is read with `weights_only`: no file can run code.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import safetensors.torch
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import nn

from fmbench.files.atomic import in_one_step
from fmbench.models import official
from fmbench.registry import create_model
from fmbench.training.lit import Detector
from fmbench.types import Problem


class Checkpoints(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints: whole or not at all, and nothing but tensors.

    Where `last.ckpt` is replaced, the one before it stays as `previous.ckpt`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `path` in one step.

        Raises:
            OSError: it cannot be written; what was there is left.
        """
        path, memory = Path(path), io.BytesIO()
        torch.save(checkpoint, memory)
        content = memory.getbuffer()
        keep = path.with_name("previous.ckpt") if path.name == "last.ckpt" else None
        with in_one_step(path, size=len(content), keep=keep) as beside:
            beside.write_bytes(content)

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Read `path` as `read` does, whatever Lightning asks for."""
        return read(path)


def stamp(
    model: str, net: Mapping[str, Any], problem: Problem, data: Mapping[str, Any], trained_on: str
) -> dict[str, Any]:
    """The `fmbench` entry of a checkpoint.

    Args:
        model: registered name.
        net: its hyperparameters, as given.
        problem: what it was built for.
        data: options of the data module in training, reused by test and predict.
        trained_on: one line that says what the data was, and whether it was simulated.
    """
    plain = asdict(problem) | {
        "modality": str(problem.modality),
        "image_size": list(problem.image_size),
    }
    kept = {key: str(value) if isinstance(value, Path) else value for key, value in data.items()}
    return {
        "model": model,
        "net": dict(net),
        "problem": plain,
        "data": kept,
        "trained_on": trained_on,
    }


def read(path: str | Path) -> dict[str, Any]:
    """A checkpoint as plain values and tensors.

    Raises:
        ValueError: no such file, not a checkpoint, or not one of ours.
    """
    content = _tensors(Path(path))
    if isinstance(content, dict) and {"fmbench", "state_dict"} <= content.keys():
        return content
    advice = "it holds no fmbench checkpoint; `fmbench fit` writes them"
    if isinstance(content, dict) and "transformer.layers.0.1.ff1.net.1.weight" in content:
        advice = (
            f"a released state dict: fmbench import-official {path} out.ckpt, then use out.ckpt"
        )
    raise ValueError(f"{path}: {advice}")


def load(path: str | Path) -> Detector:
    """A checkpoint -> the detector, in eval mode, its normalisation included.

    `load(path)(batch)` gives a Prediction; `.problem` says what it was built for.

    Raises:
        ValueError: no such file, not one of our checkpoints, or weights of another model.
    """
    content = read(path)
    about = content["fmbench"]
    try:
        problem = Problem(**about["problem"])
        model = create_model(about["model"], problem, **about["net"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: the description of its model is damaged ({error})") from None
    detector = Detector(model, problem=problem, stamp=about)
    load_weights(detector, content["state_dict"], path)
    return detector.eval()


def load_weights(module: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Strictly, with a message that names what differs instead of a list of keys.

    Raises:
        ValueError: keys or sizes that do not fit.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    sizes = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    for what, keys in (("lacks", missing), ("also holds", unknown), ("has other sizes of", sizes)):
        if keys:
            raise ValueError(
                f"{path}: weights of another model: it {what} {len(keys)} tensors, first {keys[0]}"
            )
    module.load_state_dict(state)


def import_official(source: str | Path, target: str | Path) -> Problem:
    """A released state dict (.pth) -> one of our checkpoints; returns what it was trained for.

    Raises:
        ValueError: not a released network's state dict; says what differs.
    """
    state = _tensors(Path(source))
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{source}: not a plain state dict (names to tensors)")
    try:
        problem, net = official.infer_problem(state), official.infer_net(state)
        network = official.from_state_dict(state, problem)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    # README and configurations of the released code: 10 frames 18 apart, or 8 frames 19 apart.
    data = {
        "axes": "official",
        "history": "stretch",
        "frames": problem.frames,
        "stride": 19 if problem.frames == 8 else 18,
        "current_samples": problem.current_samples,
    }
    trained_on = "the fused magnesium benchmark (weights released by its authors)"
    about = stamp("fmformer-official", net, problem, data, trained_on)
    detector = Detector(network, problem=problem, stamp=about)
    content = {
        "pytorch-lightning_version": L.__version__,
        "state_dict": detector.state_dict(),
        "fmbench": about,
    }
    Checkpoints().save_checkpoint(content, target)
    return problem


def export_weights(source: str | Path, target: str | Path) -> int:
    """A checkpoint's model -> a safetensors file, which can hold nothing but tensors.

    Names are the model's own, so that `create_model(...).load_state_dict` takes them; the file's
    metadata says under "fmbench", as JSON, what model it is, built for what, trained on what.

    Returns:
        How many tensors it holds.

    Raises:
        ValueError: not one of our checkpoints.
        OSError: the file cannot be written.
    """
    detector = load(source)
    shared = ("model", "net", "problem", "data", "trained_on", "data_fingerprint", "git_commit")
    about = {key: detector.stamp[key] for key in shared if key in detector.stamp}
    about["data"] = {key: value for key, value in about["data"].items() if key != "root"}
    state = {name: value.clone() for name, value in detector.model.state_dict().items()}
    content = safetensors.torch.save(state, {"fmbench": json.dumps(about)})
    with in_one_step(Path(target), size=len(content)) as beside:
        beside.write_bytes(content)
    return len(state)


def _tensors(path: Path) -> Any:
    """Whatever tensors and plain values a file holds; nothing in it is executed."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    content = io.BytesIO(path.read_bytes())  # what the disk cannot do is told as such
    try:
        if zipfile.is_zipfile(content):  # torch before 1.6 wrote none, and no checksum
            with zipfile.ZipFile(content) as file:
                if (record := file.testzip()) is not None:
                    raise zipfile.BadZipFile(f"the checksum of {record} does not match")
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever bytes can make of zipfile, pickle and torch
        why = f" ({error})" if isinstance(error, zipfile.BadZipFile) else ""
        raise ValueError(
            f"{path}: damaged, or it holds more than tensors and plain values{why}; not loaded\n"
            "A run goes on from the checkpoint before it with --resume auto. From elsewhere: copy "
            "it again, or ask for its tensors alone"
        ) from None
