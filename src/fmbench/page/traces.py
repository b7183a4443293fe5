"""Traces of a recording's currents, for a page."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fmbench.data.recording import Recording
from fmbench.data.windows import Ints
from fmbench.page import svg
from fmbench.types import Channel, Plant

Floats = NDArray[np.float64]


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

    def described(channel: Channel, column: Floats) -> tuple[str, str]:
        extent = f"{column.min():.4g} to {column.max():.4g} {channel.unit}"
        if channel.unit != "A":
            return extent, f"{channel.name} of {recording.name}, {extent}"
        extent = f"{column.min() / 1000:.1f} to {column.max() / 1000:.1f} kA"
        return extent, f"Current of {channel.name} of {recording.name}, {extent}"

    shown = values[inside].astype(np.float64)
    return channel_traces(times[inside], shown, plant, span, described)


def channel_traces(
    times: Floats,
    values: Floats,
    plant: Plant,
    span: tuple[float, float],
    described: Callable[[Channel, Floats], tuple[str, str]],
) -> list[tuple[Markup, Markup]]:
    """Name with words, and drawing, of each phase or channel that has values.

    Args:
        times: (S,) seconds.
        values: (S, C) amperes, or the channels' units; NaN where there is none.
        plant: rate and channels.
        span: first and last second of the drawing.
        described: takes a channel and its (n,) values, and returns the words beside its name and
            the label for readers who do not see the drawing.
    """
    channels = plant.channels or [Channel(f"phase {k + 1}") for k in range(values.shape[1])]
    traces = []
    for k, channel in enumerate(channels):
        known = np.isfinite(values[:, k])
        if not known.any():
            continue
        alike = values[:, [other.unit == channel.unit for other in channels]]
        limits = float(np.nanmin(alike)), float(np.nanmax(alike))
        column = values[known, k]
        words, label = described(channel, column)
        rate, kind = plant.current_rate, f"phase{k % 3 + 1}"
        drawing = svg.trace(times[known], column, span, limits, kind, label, rate)
        traces.append((Markup("{}<br>{}").format(channel.name, words), drawing))
    return traces


def place_in_second(seconds: Ints) -> Ints:
    """(N,) position of each sample among those of its second, from sorted seconds."""
    return np.arange(len(seconds)) - np.searchsorted(seconds, seconds)
