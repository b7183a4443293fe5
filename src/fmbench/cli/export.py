"""`fmbench export`."""

from __future__ import annotations

from typing import Literal

from fmbench.cli.train import existing
from fmbench.config.hints import File, Folder
from fmbench.config.resolve import DataOptions
from fmbench.export.run import export as write_export
from fmbench.training.console import say


def export(
    *,
    checkpoint: File,
    out: Folder,
    format: Literal["onnx", "torch"] = "onnx",
    quantize: Literal["dynamic"] | None = None,
    alarms: File | None = None,
    replace: bool = False,
    data: DataOptions,
) -> int:
    """Write a model for use without fmbench (ONNX), with test vectors and a certificate.

    Args:
        out: folder of the export.
        alarms: alarms.yaml of fmbench alarms, whose rule goes into the recipe.
        format: onnx, for onnxruntime; torch, a .pt2 of torch.export.
        data: data (default: as in training, but all windows of the test part).
    """
    existing(checkpoint)
    found = write_export(
        checkpoint, out, form=format, quantize=quantize, alarms=alarms, replace=replace, data=data
    )
    largest = found["largest_difference"]["probabilities"]
    say(
        f"largest difference of a probability from PyTorch: {largest:.1e}; decisions that differ: "
        f"{found['decisions_that_differ']} of {found['windows']}"
    )
    say(f"{out}: {found['format']}, {found['precision']}; see certificate.md")
    return 0
