"""Whether a forward is being traced for an export."""

from __future__ import annotations

import torch


def exporting() -> bool:
    """True in `torch.export.export`, which cannot trace a check of a buffer's values.

    PyTorch before 2.7 does not tell an export from a compilation.
    """
    asked = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return bool(asked())
