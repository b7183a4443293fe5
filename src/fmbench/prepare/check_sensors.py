"""Failed sensors of the recordings of a part, as faults; or as warnings, where no window that is
listed holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fmbench.data.recording import MatRecording, Recording, SingleFileRecording
from fmbench.data.root import recordings_of
from fmbench.data.windows import Ints, WindowSpec
from fmbench.format.columns import currents_file
from fmbench.health import Failed
from fmbench.prepare import sensors
from fmbench.prepare.faults import Fault, Kind, line_of

T = TypeVar("T")
UNREADABLE = (ValueError, OSError, RuntimeError, KeyError)
"""What is raised for a file that other checks have reported."""
KINDS = {
    Failed.OFF: Kind.FURNACE_OFF,
    Failed.UNIT: Kind.AMPERES,
    Failed.OUT_OF_RANGE: Kind.AMPERES,
    Failed.LOST: Kind.PHASE,
    Failed.SMALL: Kind.PHASE,
    Failed.STUCK: Kind.PHASE,
    Failed.COPIES: Kind.PHASE,
}


def check_sensors(
    folder: Path,
    lists: Mapping[str, Mapping[str, Ints]] | None,
    spec: WindowSpec,
    found: list[Fault],
) -> None:
    """Add what is found in the recordings of a part. Rendered frames have no camera that may fail.

    Args:
        folder: the part.
        lists: split to recording name to listed frames; None: every frame counts as listed.
        spec: the window whose frames and samples before a listed frame count.
        found: faults are added to it.
    """
    for name, opened in _or_none(lambda: list(recordings_of(folder))) or []:
        recording = _or_none(opened)
        if recording is None or not recording.num_frames:
            continue
        listed = np.arange(recording.num_frames)
        if lists is not None:
            each = [of[name] for of in lists.values() if name in of]
            listed = np.unique(np.concatenate([np.zeros(0, np.int64), *each]))
        of_currents(folder, recording, listed, spec, found)
        of_camera(recording, listed, spec, found)


def of_currents(
    folder: Path, recording: Recording, listed: Ints, spec: WindowSpec, found: list[Fault]
) -> None:
    """Failed phases; a wrong unit is a fault wherever it is."""
    currents = _or_none(lambda: recording.currents)
    seconds = _or_none(lambda: recording.seconds)
    if currents is None or seconds is None:
        return
    single = isinstance(recording, SingleFileRecording)
    path = recording.source if single else currents_file(folder, recording.name)
    reach = int(np.ceil(spec.current_samples / recording.plant.current_rate))
    for each in sensors.of_currents(currents, recording.plant):
        if each.kind not in KINDS:
            continue  # a value that is not finite: reported with its line
        kind = KINDS[each.kind]
        used = _any_within(seconds[listed], each.seconds[0], each.seconds[1] + reach)
        harmless = each.kind is Failed.SMALL or (kind is not Kind.AMPERES and not used)
        found.append(
            kind.at(path, each.what, None if single else line_of(each.first), harmless=harmless)
        )


def of_camera(recording: Recording, listed: Ints, spec: WindowSpec, found: list[Fault]) -> None:
    """Failures of the camera of a `.mat` file."""
    if not isinstance(recording, MatRecording):
        return
    seconds = _or_none(lambda: recording.seconds)
    if seconds is None:
        seconds = (np.arange(recording.num_frames) // recording.plant.frame_rate).astype(np.int64)
    reach = (spec.frames - 1) * spec.stride
    rate = recording.plant.frame_rate
    for each in _or_none(lambda: sensors.of_file(recording.source, seconds, rate)) or []:
        harmless = not _any_within(listed, each.first, each.last + reach)
        found.append(Kind.CAMERA.at(recording.source, each.what, each.first, harmless=harmless))


def _any_within(values: NDArray[np.int64], low: int, high: int) -> bool:
    return bool(((values >= low) & (values <= high)).any())


def _or_none(act: Callable[[], T]) -> T | None:
    try:
        return act()
    except UNREADABLE:
        return None
