"""Save and restore the random number generators that a training may draw from."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def get_random_state() -> dict[str, Any]:
    """The state of every generator as plain values and tensors.

    Returns:
        `python`: `random.getstate()`. `numpy`: the legacy global state, its keys as a list.
        `torch` and, once CUDA is in use, `cuda` (of the current device): 1-D uint8 tensors.
    """
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 -- models may use it
    state = {
        "python": random.getstate(),
        "numpy": (kind, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore the generators to a state that `get_random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
