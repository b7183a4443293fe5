"""`fmbench models`, `fmbench import-official` and `fmbench export-weights`."""

from __future__ import annotations

from pathlib import Path

import torch

from fmbench.config.parser import Parser
from fmbench.registry import create_model, find_model, list_models
from fmbench.types import Modality, Problem


def models(argv: list[str]) -> int:
    """Name, modality, parameters at the paper's size, and whether a mask is drawn."""
    parser = Parser("models", "The installed models, at the paper's size.")
    parser.option("modality", str | None, None, "only the models that read it", metavar="M")
    only = parser.values(argv)[0]["modality"]
    names = list_models(only)
    print(f"{'model':<22}{'modality':<10}{'parameters':>12}  dense")
    for name in names:
        for modality in [Modality(only)] if only else Modality:
            if name in list_models(modality):
                dense = modality in find_model(name, modality).dense
                count = _count(name, Problem(modality=modality, dense=dense))
                print(f"{name:<22}{modality:<10}{count:>12,}  {'yes' if dense else 'no'}")
    return 0


def import_official(argv: list[str]) -> int:
    """The released weights as a checkpoint that `test` and `load` read."""
    parser = Parser(
        "import-official", "The released weights as a checkpoint of ours.", "SOURCE TARGET "
    )
    parser.add_argument("source", help="the released file, such as state_dict_vicu_cls.pth")
    parser.add_argument("target", help="the checkpoint to write")
    values, _ = parser.values(argv)
    from fmbench.training.checkpoint import import_official as convert

    source = Path(values["source"])
    if not source.is_file():
        raise ValueError(f"{source}: no such file")
    target = Path(values["target"])
    problem = convert(source, target)
    print(
        f"{target}: fmformer-official, {problem.modality}, {problem.frames} frames,"
        f" {problem.current_samples} current samples"
    )
    print(f"next: fmbench test --checkpoint {target} --data.root ROOT")
    return 0


def export_weights(argv: list[str]) -> int:
    """A checkpoint's weights alone, to share."""
    parser = Parser(
        "export-weights", "A checkpoint's weights as safetensors, to share.", "CHECKPOINT TARGET "
    )
    parser.add_argument("checkpoint", help="what `fit` wrote")
    parser.add_argument("target", help="the file to write, such as fmformer.safetensors")
    values, _ = parser.values(argv)
    from fmbench.training.checkpoint import export_weights as export

    count = export(values["checkpoint"], values["target"])
    print(f"{values['target']}: {count} tensors")
    return 0


def _count(name: str, problem: Problem) -> int:
    """Parameters of a model, without giving them memory."""
    with torch.device("meta"):
        model = create_model(name, problem)
    return sum(parameter.numel() for parameter in model.parameters())
