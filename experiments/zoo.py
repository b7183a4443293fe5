"""Tabulate the baselines: `python experiments/zoo.py [--into baselines/README.md]`.

A row a model and modality of the catalogue: paper, reconstruction and differences from the module's
docstring, and the cost of one window of the paper's size, 10 frames of 64x64 and 240 samples. A
multiplication and addition are two operations (FLOPs); only matrix products, convolutions and
attention in PyTorch are counted.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fmbench.nn import Standardize
from fmbench.registry import ModelClass, create_model
from fmbench.stages import Learn, Solve, stages_of
from fmbench.tabular import markdown
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines import MODELS

HEAD = ["model", "paper", "reads", "mask", "parameters", "GFLOPs", "grade", "what differs"]
BEGIN, END = "<!-- experiments/zoo.py -->", "<!-- end -->"


def rows(models: Mapping[str, ModelClass]) -> list[tuple[str, Problem]]:
    """Every model with each of its modalities, at the paper's size."""
    return [
        (name, Problem(modality=modality, dense=modality in model.dense))
        for name, model in models.items()
        for modality in Modality
        if modality in model.modalities
    ]


def cells(name: str, problem: Problem) -> list[str]:
    """A row without its GFLOPs, which need a forward pass."""
    model = create_model(name, problem)
    doc = inspect.getdoc(inspect.getmodule(type(model))) or ""
    rebuilt = "\nReconstruction: " in doc
    return [
        name,
        paper(doc),
        str(problem.modality),
        "yes" if problem.dense else "no",
        f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "B" if rebuilt else "A",
        first_sentence(doc, "Reconstruction" if rebuilt else "Differs"),
    ]


def paper(doc: str) -> str:
    """First author and year of the citation below the first line of a module's docstring.

    They are a link if an arXiv number or a DOI follows the paper's title.
    """
    citation = re.split(r"\n(?:Reconstruction|Differs): ", doc.split("\n\n", 1)[1])[0]
    citation = " ".join(citation.split())
    year = re.search(r"\b(?:19|20)\d\d\b(?!\.)", citation)
    if year is None:
        raise ValueError(f"no year in the citation {citation[:60]!r}")
    text = f"{citation.split(',')[0]} et al. {year[0]}"
    place = re.match(r'[^:"]+: "[^"]+"[^";]*? (arXiv|doi|DOI) (\S+\w)', citation)
    if place is None:
        return text
    site = "https://arxiv.org/abs" if place[1] == "arXiv" else "https://doi.org"
    return f"[{text}]({site}/{place[2]})"


def first_sentence(doc: str, label: str) -> str:
    """The first sentence after "label:" at the start of a line."""
    found = re.search(
        rf"^{label}: (.+?\.)(?<!Sec\.)(?<!al\.)(?<!e\.g\.)(?=\s|\Z)", doc, re.M | re.S
    )
    if found is None:
        raise ValueError(f"no line {label!r} in the docstring {doc[:60]!r}")
    sentence = " ".join(found[1].split())
    return sentence[0].upper() + sentence[1:]


def windows(problem: Problem, count: int) -> Batch:
    """Random windows of two recordings, half of them abnormal."""
    draw = torch.Generator().manual_seed(0)
    video = torch.randint(
        256, (count, 3, problem.frames, *problem.image_size), dtype=torch.uint8, generator=draw
    )
    current = torch.randn(count, problem.current_samples, problem.current_channels, generator=draw)
    rows, label = torch.arange(count), torch.randperm(count, generator=draw) % 2
    return Batch(
        video if problem.modality.has_video else None,
        12_000 + 2_000 * current if problem.modality.has_current else None,
        label,
        torch.zeros(count, *problem.image_size, dtype=torch.uint8),
        recording=2 * rows // count,
        second=1_600_000_000 + 900 * rows,
    )


@torch.no_grad()
def make_ready(model: nn.Module, problem: Problem) -> None:
    """Run one batch of each stage before the last, so that the model can predict.

    Losses without a step suffice: the operations do not depend on the weights.
    """
    batch = windows(problem, 8)
    for module in model.modules():
        if isinstance(module, Standardize) and module.source == "current":
            module.set_statistics(
                torch.full_like(module.mean, 12e3), torch.full_like(module.std, 2e3)
            )
    stages = stages_of(model)
    for stage in stages:
        if isinstance(stage, Solve):
            model.eval()
            stage.solve(stage.gather(windows(problem, 64)))  # some are held out
        elif isinstance(stage, Learn) and stage is not stages[-1]:
            model.train()
            for turn in stage.turns:
                if turn.losses:
                    turn.losses(batch)


def gigaflops(name: str, problem: Problem, **net: Any) -> float:
    """GFLOPs of a forward pass of one window in evaluation mode.

    The counter does not know the fused attention of CPUs; attention is computed in its parts.
    """
    torch.manual_seed(0)
    model = create_model(name, problem, **net)
    make_ready(model, problem)
    model.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(windows(problem, 1))
    return counter.get_total_flops() / 1e9


def table(models: Mapping[str, ModelClass]) -> str:
    """The Markdown table."""
    lines = [HEAD]
    for name, problem in rows(models):
        *front, grade, differs = cells(name, problem)
        lines.append([*front, f"{gigaflops(name, problem):.2f}", grade, differs])
    return markdown(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, help="file whose table is replaced")
    into = parser.parse_args().into
    text = table(MODELS)  # type: ignore[arg-type]
    if into is None:
        print(text)
        return
    before, rest = into.read_text().split(BEGIN)
    into.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
