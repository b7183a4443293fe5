"""Traces of a recording's currents, for a page."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from fmbench.data.recording import Recording
from fmbench.data.windows import Ints
from fmbench.page import svg
from fmbench.types import Channel


def current_traces(recording: Recording, span: tuple[float, float]) -> list[tuple[Markup, Markup]]:
    """Name with range, and drawing, of each phase or channel; none if nothing was logged.

    Args:
        recording: with currents.
        span: first and last second, since 1970.

    Raises:
        ValueError, OSError: its currents cannot be read.
    """
    seconds, values = recording.currents
    plant = recording.plant
    place = np.minimum(place_in_second(seconds), plant.samples - 1)
    times = seconds + place / plant.current_rate
    inside = (times >= span[0]) & (times < span[1])
    if not inside.any():
        return []
    shown = values[inside].astype(np.float64)
    channels = plant.channels or [Channel(f"phase {k + 1}") for k in range(shown.shape[1])]
    traces = []
    for k, channel in enumerate(channels):
        column, alike = shown[:, k], [other.unit == channel.unit for other in channels]
        limits = float(shown[:, alike].min()), float(shown[:, alike].max())
        extent = f"{column.min():.4g} to {column.max():.4g} {channel.unit}"
        label = f"{channel.name} of {recording.name}, {extent}"
        if channel.unit == "A":
            extent = f"{column.min() / 1000:.1f} to {column.max() / 1000:.1f} kA"
            label = f"Current of {channel.name} of {recording.name}, {extent}"
        rate, kind = plant.current_rate, f"phase{k % 3 + 1}"
        drawing = svg.trace(times[inside], column, span, limits, kind, label, rate)
        traces.append((Markup("{}<br>{}").format(channel.name, extent), drawing))
    return traces


def place_in_second(seconds: Ints) -> Ints:
    """(N,) position of each sample among those of its second, from sorted seconds."""
    return np.arange(len(seconds)) - np.searchsorted(seconds, seconds)
