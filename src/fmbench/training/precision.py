"""The trainer's precision `auto`: bfloat16 where the device has it in hardware, else float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.accelerators import CUDAAccelerator

from fmbench.config.schema import AUTO
from fmbench.nn.processor import native_bfloat16

FLOAT32, BFLOAT16 = "32-true", "bf16-mixed"


def with_precision(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The Trainer's options with the precision `auto` resolved for the device that they choose.

    `bf16-mixed` computes products in bfloat16 and keeps weights, losses and normalisation in
    float32; emulated, it would be slower than float32.
    """
    if trainer.get("precision") != AUTO:
        return dict(trainer)
    accelerator = trainer.get("accelerator", "auto")
    if accelerator in ("auto", "gpu", "cuda") and CUDAAccelerator.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = accelerator in ("auto", "cpu") and native_bfloat16()
    return {**trainer, "precision": BFLOAT16 if native else FLOAT32}
