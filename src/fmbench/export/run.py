"""`export`: a folder with a model, its recipe, test vectors and a certificate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmbench.alarms.file import read_alarms
from fmbench.export.certify import certify, in_words, latency
from fmbench.export.formats import (
    MODEL_FILE,
    Array,
    Format,
    Quantize,
    Runner,
    check_format,
    open_model,
    write_model,
)
from fmbench.export.network import (
    BATCH_SIZES,
    Network,
    inputs_of,
    not_exported,
    rows,
    traced,
)
from fmbench.export.recipe import recipe_of
from fmbench.files.atomic import write_text
from fmbench.files.checksum import sha256
from fmbench.files.staging import staged
from fmbench.files.yaml_json import read_json
from fmbench.progress import progress_bar
from fmbench.training.checkpoint import load
from fmbench.training.console import say
from fmbench.training.lit import Detector
from fmbench.training.measure import open_data

RECIPE, VECTORS = "recipe.json", "vectors.npz"
FILES = {*MODEL_FILE.values(), RECIPE, VECTORS, "certificate.md", "certificate.json"}
RUNTIME = {"onnx": "onnxruntime", "torch": "torch"}
NUM_VECTORS = 32
TOLERANCE = 1e-4
"""Largest difference of a probability from PyTorch's in float32."""


def export(
    checkpoint: Path,
    out: Path,
    *,
    form: Format = "onnx",
    quantize: Quantize | None = None,
    alarms: Path | None = None,
    replace: bool = False,
    data: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write an export of a checkpoint; returns its certificate.

    Args:
        checkpoint: a file that `fit` or `import_official` wrote.
        out: the folder, made if missing; it is complete or unchanged.
        form: onnx, a model.onnx; or torch, a model.pt2 of torch.export.
        quantize: dynamic: int8 weights (onnx).
        alarms: alarms.yaml of this checkpoint, whose rule goes into the recipe.
        replace: whether an export of another checkpoint may be replaced.
        data: options of `FurnaceData` that differ from those of the training. All windows of the
            test part are used unless `test_windows` says otherwise.

    Raises:
        ValueError: not a checkpoint, a model that cannot be exported, recordings that it cannot
            read, packages that are not installed, or a folder that holds anything else.
    """
    check_format(form, quantize)
    detector = load(checkpoint)
    chosen_rule = None if alarms is None else read_alarms(alarms, checkpoint)
    _check_folder(out, checkpoint, replace)
    part = open_data(detector, {"test_windows": None, **(data or {})})
    chosen = part.dataset("test").evenly(NUM_VECTORS)
    batch = chosen.__getitems__(range(len(chosen)))
    inputs = inputs_of(batch, detector.problem.modality)
    name = detector.stamp["model"]
    say(f"{name} ({detector.problem.modality}) to {form}, test part of {part.description}")
    program = traced(detector, inputs)
    recipe = recipe_of(
        detector, checkpoint, part, file=MODEL_FILE[form], quantize=quantize, alarms=chosen_rule
    )
    with _replacing(out) as folder:
        path = folder / MODEL_FILE[form]
        try:
            write_model(
                program,
                path,
                form,
                inputs=list(recipe["inputs"]),
                outputs=list(recipe["outputs"]),
                quantize=quantize,
            )
            run = open_model(path)
        except Exception as error:  # converters raise many types
            raise ValueError(not_exported(detector, error)) from error
        answers = _checked(detector, run, inputs, tolerance=1.0 if quantize else TOLERANCE)
        named = dict(zip(recipe["inputs"], (each.numpy() for each in inputs), strict=True))
        named |= dict(zip(recipe["outputs"], answers, strict=True))
        np.savez_compressed(folder / VECTORS, **named)
        with progress_bar("certificate") as show:
            found = certify(detector, run, part, show)
        certificate = {
            "model": name,
            "modality": recipe["modality"],
            "format": form,
            "precision": recipe["precision"],
            "runtime": f"{RUNTIME[form]} {version(RUNTIME[form])}",
            "torch": version("torch"),
            "data": part.description,
            "simulated": part.synthetic or recipe["simulated"],
            "trained_on": recipe["trained_on"],
            **found,
            "latency": latency(
                detector, open_model(path, threads=1), [each[:1].numpy() for each in inputs]
            ),
            "checkpoint": recipe["checkpoint"],
        }
        write_text(folder / RECIPE, json.dumps(recipe, indent=2) + "\n")
        write_text(folder / "certificate.json", json.dumps(certificate, indent=2) + "\n")
        write_text(folder / "certificate.md", in_words(certificate))
    return certificate


def _checked(
    detector: Detector, run: Runner, inputs: tuple[Tensor, ...], *, tolerance: float
) -> list[Array]:
    """PyTorch's answers to `inputs`, after the written model was run at several batch sizes.

    Raises:
        ValueError: it fails at one of them, or differs by more than `tolerance`.
    """
    network = Network(detector).eval()
    with torch.inference_mode():
        for count in BATCH_SIZES:
            part = rows(inputs, count)
            try:
                found = run([each.numpy() for each in part])
            except Exception as error:  # a runtime raises many types
                why = f"the written model fails at batch size {count}: {error}"
                raise ValueError(not_exported(detector, why)) from error
            for own, expected in zip(found, network(*part), strict=True):
                same = own.shape == expected.shape
                gap = np.abs(own - expected.numpy()).max() if same else np.inf
                if not gap <= tolerance:  # NaN included
                    why = f"the written model differs by {gap:.1e} at batch size {count}"
                    raise ValueError(not_exported(detector, why))
        return [each.numpy() for each in network(*inputs)]


def _check_folder(out: Path, checkpoint: Path, replace: bool) -> None:
    """Raises: ValueError: `out` holds something that must not be replaced."""
    if not out.exists():
        return
    held = [each.name for each in out.iterdir()] if out.is_dir() else [out.name]
    if other := sorted(set(held) - FILES):
        raise ValueError(
            f"{out} holds {other[0]}, which is no part of an export; give another --out"
        )
    if not held or replace:
        return
    recipe = out / RECIPE
    before = read_json(recipe)["checkpoint"]["sha256"] if recipe.is_file() else None
    if before != sha256(checkpoint):
        raise ValueError(
            f"{out} holds the export of another checkpoint; give another --out, or --replace"
        )


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place, and that of an export in it, at the end."""
    new, old = (out.with_name(f".{out.name}.{word}") for word in ("new", "old"))
    for left in (new, old):  # of a killed process
        shutil.rmtree(left, ignore_errors=True)
    with staged(new) as folder:
        yield folder
    if out.exists():
        out.replace(old)
    new.replace(out)
    shutil.rmtree(old, ignore_errors=True)
