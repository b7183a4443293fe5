"""Anomaly detection in fused magnesium furnaces, from video and three-phase current.

The Python interface (docs/python.md): `configure` and `fit`, `load`, `Detector`, `FurnaceData`,
`create_model`, `list_models` and `standardize_inputs`, and the types in `fmbench.types`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmbench.config.resolve import configure
    from fmbench.data import FurnaceData
    from fmbench.data.statistics import standardize_inputs
    from fmbench.registry import create_model, list_models
    from fmbench.training.checkpoint import load
    from fmbench.training.lit import Detector
    from fmbench.training.run import fit

_HOME = {
    "Detector": "training.lit",
    "FurnaceData": "data",
    "configure": "config.resolve",
    "create_model": "registry",
    "fit": "training.run",
    "list_models": "registry",
    "load": "training.checkpoint",
    "standardize_inputs": "data.statistics",
}

__all__ = [
    "Detector",
    "FurnaceData",
    "configure",
    "create_model",
    "fit",
    "list_models",
    "load",
    "standardize_inputs",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import fmbench` does not wait for torch."""
    if name in _HOME:
        return getattr(import_module(f"fmbench.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fmbench' has no attribute {name!r}")
