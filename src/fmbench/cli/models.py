"""`fmbench models`, `fmbench import-official` and `fmbench export-weights`."""

from __future__ import annotations

from pathlib import Path

import torch

from fmbench.registry import create_model, find_model, list_models
from fmbench.types import Modality, Problem


def models(*, modality: Modality | None = None) -> int:
    """List the installed models: modalities, parameters at the paper's size, masks.

    Args:
        modality: only the models that read it.
    """
    print(f"{'model':<22}{'modality':<10}{'parameters':>12}  dense")
    for name in list_models(modality):
        for each in [modality] if modality else Modality:
            if name in list_models(each):
                dense = each in find_model(name, each).dense
                count = _count(name, Problem(modality=each, dense=dense))
                print(f"{name:<22}{each:<10}{count:>12,}  {'yes' if dense else 'no'}")
    return 0


def import_official(source: Path, target: Path) -> int:
    """Convert the released weights to a checkpoint.

    Args:
        source: the released file, such as state_dict_vicu_cls.pth.
        target: the checkpoint to write.
    """
    from fmbench.training.checkpoint import import_official as convert

    if not source.is_file():
        raise ValueError(f"{source}: no such file")
    problem = convert(source, target)
    print(
        f"{target}: fmformer-official, {problem.modality}, {problem.frames} frames,"
        f" {problem.current_samples} current samples"
    )
    print(f"next: fmbench test --checkpoint {target} --data.root ROOT")
    return 0


def export_weights(checkpoint: Path, target: Path) -> int:
    """Write a checkpoint's weights as safetensors, to share.

    Args:
        checkpoint: a file that `fit` wrote.
        target: the file to write, such as fmformer.safetensors.
    """
    from fmbench.training.checkpoint import export_weights as export

    print(f"{target}: {export(checkpoint, target)} tensors")
    return 0


def _count(name: str, problem: Problem) -> int:
    """Number of a model's parameters, counted without allocating them."""
    with torch.device("meta"):
        model = create_model(name, problem)
    return sum(parameter.numel() for parameter in model.parameters())
