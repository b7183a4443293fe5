"""A simulated furnace hall: three-phase currents, camera frames and true masks.

`simulate` draws a recording, `Camera` renders it, `write_dataset` writes data sets in the
benchmark's own format, `open_lazy` reads those without frame files. See docs/simulator.md.
"""

from __future__ import annotations

from fmbench.simulator.camera import FURNACE_BOX, Camera, visibility
from fmbench.simulator.dataset_writer import PRESETS, Preset, write_dataset
from fmbench.simulator.latent_state import Instability
from fmbench.simulator.lazy import LazyRecording, is_lazy, open_lazy
from fmbench.simulator.process import Run, simulate
from fmbench.simulator.scene import DISTURBANCES, LABEL_FREE, Tag, tags
from fmbench.simulator.settings import SIM_VERSION, ProcessConfig, SceneConfig, SimConfig
from fmbench.simulator.sidecar import read_tags
from fmbench.simulator.video_writer import write_video

__all__ = [
    "DISTURBANCES",
    "FURNACE_BOX",
    "LABEL_FREE",
    "PRESETS",
    "SIM_VERSION",
    "Camera",
    "Instability",
    "LazyRecording",
    "Preset",
    "ProcessConfig",
    "Run",
    "SceneConfig",
    "SimConfig",
    "Tag",
    "is_lazy",
    "open_lazy",
    "read_tags",
    "simulate",
    "tags",
    "visibility",
    "write_dataset",
    "write_video",
]
