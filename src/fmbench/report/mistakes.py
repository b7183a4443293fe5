"""The worst mistakes of a detector, with what it saw: frame, currents, decisions around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from fmbench.data import FurnaceData
from fmbench.data.recording import Recording, upright_frames, upright_masks
from fmbench.format.columns import parse_seconds
from fmbench.page import svg
from fmbench.page.traces import current_traces
from fmbench.pictures import painted
from fmbench.tables.breakdown import under

WORST = 6
SIDE = 160
BEFORE, AFTER = 120.0, 30.0
"""Seconds shown before and after a mistake."""
PICTURES = 400_000
"""Most bytes of the JPEGs of one list."""


def worst(windows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The windows that a detector was most sure of and wrong about, at most WORST of each kind.

    Args:
        windows: of one seed, as a result holds them.

    Returns:
        By kind, `missed` (abnormal windows called normal) and `false` (normal ones called
        abnormal): the rows, the worst first, one an event or, without one, one a recording.
    """
    abnormal, called = windows["label"] > 0, windows["decision"] > 0
    since = windows["since_onset"].fillna(0).to_numpy()
    onset = np.round(parse_seconds(windows["time"]) - since)
    keyed = windows.assign(onset=np.where(abnormal, onset, 0))
    missed = keyed[abnormal & ~called].sort_values("log_odds", kind="stable")
    false = keyed[~abnormal & called].sort_values("log_odds", ascending=False, kind="stable")
    one = ["recording", "onset"]
    return {
        kind: rows.drop_duplicates(one).head(WORST).drop(columns="onset")
        for kind, rows in (("missed", missed), ("false", false))
    }


def pictured(rows: pd.DataFrame, windows: pd.DataFrame, data: FurnaceData) -> list[dict[str, Any]]:
    """What a report shows of some windows; frames and currents are read from the recordings.

    Args:
        rows: the windows to show, of `windows`.
        windows: all windows of that seed.
        data: the recordings that they were cut from.

    Raises:
        ValueError, OSError: a recording cannot be read.
    """
    recordings = {each.name: each for each in data.opened.recordings}
    frames, found = [], []
    for each in rows.to_dict("records"):
        row = {str(name): value for name, value in each.items()}
        recording = recordings[str(row["recording"])]
        frames.append(_frame(recording, int(row["frame"])))
        found.append(_around(row, windows[windows["recording"] == row["recording"]], recording))
    sources = svg.jpegs(frames, PICTURES) if frames else []
    return [{**each, "source": source} for each, source in zip(found, sources, strict=True)]


def _frame(recording: Recording, frame: int) -> NDArray[np.uint8]:
    """(H, W, 3): the frame with the outline of its abnormal region."""
    index = np.array([frame])
    pixels = upright_frames(recording, index)[0].transpose(1, 2, 0)
    truth = upright_masks(recording, index)[0] if recording.has_masks else None
    return painted(np.ascontiguousarray(pixels), None, truth, SIDE)


def _around(row: Mapping[str, Any], windows: pd.DataFrame, recording: Recording) -> dict[str, Any]:
    seconds = parse_seconds(windows["time"])
    (now,) = parse_seconds(pd.Series([row["time"]]))
    span = (float(now) - BEFORE, float(now) + AFTER)
    near = (seconds >= span[0]) & (seconds <= span[1])
    times = seconds[near].astype(np.float64)
    half = float(np.median(np.diff(seconds))) / 2 if len(seconds) > 1 else 0.5
    lanes = []
    for words, kind, column in (
        ("truth: abnormal", "abnormal", "label"),
        ("called abnormal", "called", "decision"),
    ):
        marks = windows[column].to_numpy()[near] > 0
        label = f"{words} in {int(marks.sum())} of {len(marks)} windows"
        lanes.append((words, svg.lane(_columns(times[marks], half, span), kind, label)))
    seen = svg.lane(_columns(np.array([float(now)]), 0.5, span), "filmed", "this window")
    return {
        "recording": str(row["recording"]),
        "time": str(row["time"]),
        "score": f"{expit(row['log_odds']):.3f}",
        "since": f"{row['since_onset']:.0f} s" if row["since_onset"] >= 0 else "",
        "tags": _disturbances(row),
        "currents": current_traces(recording, span) if recording.has_currents else [],
        "lanes": [*lanes, ("this window", seen)],
    }


def _disturbances(row: Mapping[str, Any]) -> str:
    """Names of the disturbances of a simulated window."""
    if "tags" not in row:
        return ""
    return ", ".join(
        name for name, rows in under(pd.DataFrame([row])).items() if len(rows)
    ).replace("none", "no disturbance")


def _columns(
    times: NDArray[np.float64], half: float, span: tuple[float, float]
) -> NDArray[np.bool_]:
    """(COLUMNS,) true within `half` seconds of any of some times."""
    middles = np.linspace(*span, svg.COLUMNS)
    if not len(times):
        return np.zeros(svg.COLUMNS, np.bool_)
    nearest = np.abs(middles[:, None] - times).min(axis=1)
    return np.asarray(nearest <= half)
