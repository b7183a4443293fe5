"""Write, read, import and export checkpoints.

A checkpoint is Lightning's with two more entries: `fmbench`, plain values that describe the model
and its training (`stamp`), and `processes`, one state per process (`Detector.on_save_checkpoint`).
Every file is read with `weights_only`, so that none can run code.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
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
from fmbench.stages import Stage
from fmbench.training.lit import Detector
from fmbench.training.stamp import stamp
from fmbench.types import Problem


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plug-in: writes a file completely or not at all.

    A `last.ckpt` that is replaced is renamed to `previous.ckpt`.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `path` in one step.

        Raises:
            OSError: the file cannot be written; its former content is left.
        """
        path, memory = Path(path), io.BytesIO()
        torch.save(checkpoint, memory)
        content = memory.getbuffer()
        keep = path.with_name("previous.ckpt") if path.name == "last.ckpt" else None
        with in_one_step(path, size=len(content), keep=keep) as beside:
            beside.write_bytes(content)

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Read `path` with `read_checkpoint`; Lightning's own arguments are ignored."""
        return read_checkpoint(path)


def stage_folders(run: Path, stages: Sequence[Stage]) -> list[Path]:
    """The folders of the stages' checkpoints: `stages/<name>`, for the last stage `checkpoints`."""
    return [run / "stages" / stage.name for stage in stages[:-1]] + [run / "checkpoints"]


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as plain values and CPU tensors.

    Raises:
        ValueError: no such file, a damaged one, or not a checkpoint of fmbench.
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
    """Load a detector from a checkpoint, in eval mode, its input statistics included.

    `load(path)(batch)` returns a Prediction; `.problem` holds the input sizes of the model.

    Raises:
        ValueError: no such file, not a checkpoint of fmbench, or weights of another model.
    """
    content = read_checkpoint(path)
    facts = content["fmbench"]
    try:
        problem = Problem(**facts["problem"])
        model = create_model(facts["model"], problem, **facts["net"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: the description of its model is damaged ({error})") from None
    detector = Detector(model, problem=problem, stamp=facts)
    load_weights(detector, content["state_dict"], path)
    return detector.eval()


def load_weights(module: nn.Module, state: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Load a state dict strictly; `path` is named in the message.

    Raises:
        ValueError: missing or unknown names, or other shapes.
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
    """Convert a released state dict (.pth) to a checkpoint; returns its Problem.

    Raises:
        ValueError: not the state dict of a released network; the message names the difference.
        OSError: the checkpoint cannot be written.
    """
    state = _tensors(Path(source))
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{source}: not a plain state dict (names to tensors)")
    try:
        problem, net = official.infer_problem(state), official.infer_net(state)
        network = official.from_state_dict(state, problem)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    # README and configurations of the released code: 10 frames at stride 18, or 8 at stride 19.
    data = {
        "axes": "official",
        "history": "stretch",
        "frames": problem.frames,
        "stride": 19 if problem.frames == 8 else 18,
        "current_samples": problem.current_samples,
    }
    trained_on = "the fused magnesium benchmark (weights released by its authors)"
    facts = stamp("fmformer-official", net, problem, data, trained_on)
    detector = Detector(network, problem=problem, stamp=facts)
    content = {
        "pytorch-lightning_version": L.__version__,
        "state_dict": detector.state_dict(),
        "fmbench": facts,
    }
    AtomicCheckpointIO().save_checkpoint(content, target)
    return problem


def export_weights(source: str | Path, target: str | Path) -> int:
    """Export a checkpoint's model to safetensors, which holds only tensors; returns their number.

    The names are those of the model's state dict. The metadata entry "fmbench" describes model,
    problem and training data as JSON.

    Raises:
        ValueError: not a checkpoint of fmbench.
        OSError: the file cannot be written.
    """
    detector = load(source)
    shared = (
        "model",
        "net",
        "problem",
        "data",
        "trained_on",
        "classes",
        "data_fingerprint",
        "git_commit",
    )
    facts = {key: detector.stamp[key] for key in shared if key in detector.stamp}
    facts["data"] = {key: value for key, value in facts["data"].items() if key != "root"}
    state = {name: value.clone() for name, value in detector.model.state_dict().items()}
    content = safetensors.torch.save(state, {"fmbench": json.dumps(facts)})
    with in_one_step(Path(target), size=len(content)) as beside:
        beside.write_bytes(content)
    return len(state)


def _tensors(path: Path) -> Any:
    """Read a file of tensors and plain values without executing anything in it."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    content = io.BytesIO(path.read_bytes())  # outside `try`: a disk error stays an OSError
    try:
        if zipfile.is_zipfile(content):  # files of torch before 1.6 are not, and have no checksum
            with zipfile.ZipFile(content) as file:
                if (record := file.testzip()) is not None:
                    raise zipfile.BadZipFile(f"the checksum of {record} does not match")
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise many types in zipfile, pickle and torch
        why = f" ({error})" if isinstance(error, zipfile.BadZipFile) else ""
        raise ValueError(
            f"{path}: damaged, or it holds more than tensors and plain values{why}; not loaded\n"
            "Of your own run: --resume auto resumes from the checkpoint before it. From elsewhere: "
            "copy it again, or request a file that holds only the tensors"
        ) from None
