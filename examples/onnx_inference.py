"""Run an export of `fmbench export` with onnxruntime and numpy alone.

    python examples/onnx_inference.py EXPORT

Reads EXPORT/recipe.json, model.onnx and vectors.npz, whose windows come with PyTorch's answers, and
prints each window's class and score. The exit status is 1 if an answer differs by more than the
tolerance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


def check(recipe: dict[str, Any], inputs: dict[str, np.ndarray]) -> None:
    """Refuse inputs that do not have the recipe's shapes and dtypes."""
    for name, wanted in recipe["inputs"].items():
        shape = (len(inputs[name]), *wanted["shape"][1:])
        if inputs[name].shape != shape or inputs[name].dtype != wanted["dtype"]:
            raise SystemExit(f"{name} is {inputs[name].shape} {inputs[name].dtype}, not {wanted}")


def main(folder: Path) -> int:
    recipe = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    with np.load(folder / "vectors.npz") as file:
        vectors = dict(file)
    inputs = {name: vectors[name] for name in recipe["inputs"]}
    check(recipe, inputs)

    model = folder / recipe["file"]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = list(recipe["outputs"])
    outputs = dict(zip(names, session.run(names, inputs), strict=True))

    decision = recipe["decision"]
    scores = 1 - outputs["probabilities"][:, 0]
    found = outputs["probabilities"].argmax(axis=1)
    for window, (index, score) in enumerate(zip(found, scores, strict=True)):
        above = "above" if score > decision["threshold"] else "below"
        print(f"window {window}: {recipe['classes'][index]}, score {score:.4f} ({above} threshold)")
    if "mask" in outputs:
        share = (outputs["mask"].argmax(axis=1) > 0).mean()
        print(f"abnormal pixels: {share:.2%}")

    tolerance = 1e-4 if recipe["precision"] == "float32" else 1.0
    gaps = {name: float(np.abs(outputs[name] - vectors[name]).max()) for name in names}
    for name, gap in gaps.items():
        print(f"{name}: largest difference from PyTorch {gap:.1e} (allowed: {tolerance:g})")
    if recipe["simulated"]:
        print("The model was trained on simulated recordings.")
    return 0 if all(gap <= tolerance for gap in gaps.values()) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
