"""Anomaly detection in fused magnesium furnaces, from video and three-phase current.

The Python interface: `list_models`, `create_model`, `load`, and the types in `fmbench.types`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmbench.registry import create_model, list_models
    from fmbench.training.checkpoint import load

__all__ = ["create_model", "list_models", "load"]

_HOME = {"create_model": "registry", "list_models": "registry", "load": "training.checkpoint"}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import fmbench` does not wait for torch."""
    if name in _HOME:
        return getattr(import_module(f"fmbench.{_HOME[name]}"), name)
    raise AttributeError(f"module 'fmbench' has no attribute {name!r}")
