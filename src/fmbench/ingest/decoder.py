"""decord, without the libraries that it loads for decoding on a GPU."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def _import_decord() -> Any:
    """On import, decord2 opens every CUDA library that pip has installed, PyTorch's among them:
    0.6 GB for a decoder that runs on the CPU. A build for a GPU needs them and gets them."""
    try:
        for_gpu = "+cu" in version("decord2")
    except PackageNotFoundError:
        for_gpu = True  # some other decord: as it wants
    if for_gpu or "nvidia" in sys.modules:
        import decord

        return decord
    sys.modules["nvidia"] = None  # type: ignore[assignment]  # importlib: there is no such package
    try:
        import decord
    finally:
        del sys.modules["nvidia"]
    return decord


decord = _import_decord()
decord.logging.set_level(decord.logging.QUIET)
decord.bridge.set_bridge("native")
