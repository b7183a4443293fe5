"""The table of baselines/README.md is what the catalogue says."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from fmbench.types import Modality, Problem
from fmbench_baselines import MODELS

ROOT = Path(__file__).parents[2]
ZOO: dict[str, Any] = runpy.run_path(str(ROOT / "experiments" / "zoo.py"))
GFLOPS = ZOO["HEAD"].index("GFLOPs")


def committed() -> list[list[str]]:
    """The cells of the README's table."""
    text = (ROOT / "baselines" / "README.md").read_text()
    lines = text.split(ZOO["BEGIN"])[1].split(ZOO["END"])[0].strip().splitlines()
    return [line.strip("| ").split(" | ") for line in lines[2:]]


def test_the_readme_says_of_every_baseline_what_its_file_says() -> None:
    expected = [ZOO["cells"](name, problem) for name, problem in ZOO["rows"](MODELS)]
    got = [row[:GFLOPS] + row[GFLOPS + 1 :] for row in committed()]
    assert got == expected, "run python experiments/zoo.py --into baselines/README.md"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "problem"), ZOO["rows"](MODELS))
def test_the_readme_says_what_a_window_costs(name: str, problem: Problem) -> None:
    (row,) = (row for row in committed() if row[0] == name and row[2] == problem.modality)
    assert row[GFLOPS] == f"{ZOO['gigaflops'](name, problem):.2f}"


def test_operations_are_counted_inside_attention_too() -> None:
    dim, depth, tokens = 24, 2, 11
    problem = Problem(modality=Modality.CURRENT, current_samples=tokens - 1)
    block = tokens * (3 * dim * dim + dim * dim + 2 * 4 * dim * dim)  # q k v, output, MLP
    attention = 2 * tokens * tokens * dim  # queries by keys, weights by values
    embedding = (tokens - 1) * 3 * dim
    head = dim * dim + dim * 2
    last = tokens * 2 * dim * dim + 10 * dim * dim + 2 * tokens * dim  # of the class token alone
    products = (2 * depth - 1) * (block + attention) + last + embedding + head
    counted = ZOO["gigaflops"]("fmformer", problem, dim=dim, depth=depth)
    assert counted * 1e9 == pytest.approx(2 * products)


def test_a_docstring_gives_paper_grade_and_first_difference() -> None:
    doc = """Name: what it is.

Ann, Bob: "A Title: of 16x16
Words", ICML 2021, arXiv 2001.01234, Sec. 3. And then, "another", 1999.
Differs: width 96 (source: 1.5 times, Sec. 2, and others', e.g. Cid et al. too). No more.
"""
    assert ZOO["paper"](doc) == "[Ann et al. 2021](https://arxiv.org/abs/2001.01234)"
    sentence = "Width 96 (source: 1.5 times, Sec. 2, and others', e.g. Cid et al. too)."
    assert ZOO["first_sentence"](doc, "Differs") == sentence
    described = "Name.\n\nAnn, Bob, 2023, as others say (arXiv 2406.09016).\nReconstruction: all."
    assert ZOO["paper"](described) == "Ann et al. 2023"
    with pytest.raises(ValueError, match="no line 'Differs' in the docstring"):
        ZOO["first_sentence"](described, "Differs")
    with pytest.raises(ValueError, match="no year in the citation 'Ann, Bob'"):
        ZOO["paper"]("Name.\n\nAnn, Bob\nDiffers: 2020.")
