"""Pictures of an alarm rule: timeline, delays, false alarms against delay, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from fmbench.alarms.budget import readable
from fmbench.format.columns import stretches
from fmbench.pictures import ABNORMAL, ALARM, TICKS, minutes_seconds
from fmbench.tabular import SIMULATED

if TYPE_CHECKING:
    from fmbench.alarms.run import Chosen, Method, Scored

BLUE, GREEN = "#0072B2", "#009E73"
MOST_SHOWN = 3
LONGEST_SHOWN = 1800.0
"""Seconds of a recording in the timeline."""


def draw(folder: Path, chosen: Chosen, test: Scored, methods: Sequence[Method]) -> None:
    """Write timeline.png, delays.png, tradeoff.png and reliability.png."""
    simulated = chosen.alarms.simulated
    _write(folder / "timeline.png", timeline(chosen, test, methods[0]), simulated)
    _write(folder / "delays.png", delays(methods), simulated)
    _write(folder / "tradeoff.png", tradeoff(chosen), simulated)
    _write(folder / "reliability.png", calibration(chosen), simulated)


def _write(path: Path, figure: Any, simulated: bool) -> None:
    if simulated:
        figure.supxlabel(SIMULATED, fontsize=8, fontstyle="italic", x=0.99, ha="right")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110)


def timeline(chosen: Chosen, test: Scored, rule: Method) -> Any:
    """Score, alarms and truth of up to three test recordings."""
    shown = _worth_showing(test, rule)
    figure = Figure(figsize=(11, 0.9 + 2.3 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for axes, (number, middle) in zip(panels, shown, strict=True):
        _recording(axes, chosen, test, rule, number, middle)
    panels[-1].set_xlabel("time (min:s)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=5, fontsize=9, frameon=False)
    return figure


def _worth_showing(test: Scored, rule: Method) -> list[tuple[int, float]]:
    """Stretches, each with a time to show: with an event that is found, missed, a false alarm."""
    track, outcome = test.track, rule.outcome
    of_event = track.stretch[track.first] if len(track.first) else track.first
    found = np.flatnonzero(outcome.found)
    typical = found[np.argsort(outcome.delay[found], kind="stable")][: len(found)]
    places = [
        *((of_event[k], track.onset[k]) for k in typical[len(typical) // 2 :][:1]),
        *((of_event[k], track.onset[k]) for k in np.flatnonzero(~outcome.found)[:1]),
        *((track.stretch[k], track.seconds[k]) for k in outcome.false_at[:1]),
    ]
    chosen: dict[int, float] = {}
    others = [(of_event[k], track.onset[k]) for k in found]
    for number, at in [*places, *others]:
        if len(chosen) < MOST_SHOWN:
            chosen.setdefault(int(number), float(at))
    for number in range(len(track.footage)):
        if len(chosen) < min(MOST_SHOWN, len(track.footage)):
            chosen.setdefault(number, float(track.seconds[track.stretch == number][0]))
    return sorted(chosen.items())


def _recording(
    axes: Axes, chosen: Chosen, test: Scored, rule: Method, number: int, middle: float
) -> None:
    track, settings = test.track, chosen.alarms.rule
    near = np.abs(track.seconds - middle) <= LONGEST_SHOWN / 2
    rows = np.flatnonzero(track.real & (track.stretch == number) & near)
    if track.seconds[rows[-1]] - track.seconds[rows[0]] < LONGEST_SHOWN / 2:  # a short one, whole
        rows = np.flatnonzero(track.real & (track.stretch == number))
    seconds = track.local(track.seconds[rows], np.full(len(rows), number))
    for label, marks, colour, span in (
        ("truth: abnormal", track.event[rows] >= 0, ABNORMAL, (0.0, 1.0)),
        ("alarm", rule.alarm[rows], ALARM, (0.93, 1.0)),
    ):
        for start, stop in stretches(np.asarray(marks)):
            left, right = seconds[start], seconds[min(stop, len(rows) - 1)]
            axes.axvspan(
                left, right, *span, color=colour, alpha=0.35 if span[0] == 0 else 1.0, linewidth=0,
                label=label,
            )  # fmt: skip
            label = ""
        if label:  # for the legend of all panels
            axes.axvspan(seconds[0], seconds[0], color=colour, linewidth=0, label=label)
    axes.plot(seconds, test.scores[rows], color="black", linewidth=0.9, label="score")
    axes.axhline(settings.on, color=BLUE, linewidth=1, linestyle="--", label="on")
    axes.axhline(settings.off, color=GREEN, linewidth=1, linestyle=":", label="off")
    axes.set(ylim=(-0.03, 1.12), ylabel="probability", xlim=(seconds[0], seconds[-1]))
    axes.set_yticks([0, 0.5, 1])
    axes.set_title(track.footage[number].recording, fontsize=9, loc="left")
    length = seconds[-1] - seconds[0]
    step = next((step for step in TICKS if length / step <= 12), TICKS[-1])
    axes.xaxis.set_major_locator(MultipleLocator(step))
    axes.xaxis.set_major_formatter(lambda value, _: minutes_seconds(value))


def delays(methods: Sequence[Method]) -> Any:
    """Share of the events with a known onset that have an alarm within a delay."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    longest = float(
        np.nan_to_num(np.concatenate([each.outcome.delay for each in methods])).max(initial=1.0)
    )
    for method, colour, style in zip(
        methods, (ALARM, "black", BLUE), ("-", ":", "--"), strict=True
    ):
        outcome = method.outcome
        known = np.sort(outcome.delay[~np.isnan(outcome.delay)])
        total = int((~outcome.found).sum()) + len(known)
        share = np.arange(1, len(known) + 1) / max(total, 1)
        rate = f"{readable(outcome.per_day)} false alarms a day"
        axes.step(
            [0, *known, 1.04 * longest], [0, *share, share[-1] if len(share) else 0], where="post",
            color=colour, linestyle=style, linewidth=1.8, label=f"{method.name}: {rate}",
        )  # fmt: skip
    axes.set(
        xlabel="delay after the onset (s)", ylabel="share of test events", ylim=(0, 1.02),
        xlim=(0, 1.04 * longest),
    )  # fmt: skip
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", fontsize=9, frameon=False)
    return figure


def tradeoff(chosen: Chosen) -> Any:
    """Every rule that was tried: false alarms a day against median delay, on validation."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    outcomes = [each.outcome for each in chosen.candidates]
    total = len(chosen.picked.outcome.found)
    rate, delay, found = (
        np.array(values)
        for values in zip(
            *((each.per_day, each.median, each.found.sum()) for each in outcomes), strict=True
        )
    )
    points = axes.scatter(
        delay, rate, c=found, s=10, cmap="viridis_r", vmin=0, vmax=total, linewidth=0, alpha=0.7
    )
    picked = chosen.picked.outcome
    axes.scatter(
        [picked.median], [picked.per_day], s=150, facecolor="none", edgecolor=ALARM, linewidth=2.2,
        label="chosen", zorder=3,
    )  # fmt: skip
    axes.axhline(
        chosen.budget.per_day, color=ALARM, linestyle="--", label=f"budget: {chosen.budget.text}"
    )
    one = 24 / max(picked.normal_hours, 1e-9)
    axes.set_yscale("symlog", linthresh=one)
    axes.set_ylim(-0.15 * one, None)
    axes.set(xlabel="median delay (s)", ylabel="false alarms a day, validation")
    axes.yaxis.set_major_formatter(lambda value, _: readable(value))
    whole = MaxNLocator(integer=True)
    figure.colorbar(points, label=f"events found, of {total}", ticks=whole)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right", fontsize=9)
    return figure


def calibration(chosen: Chosen) -> Any:
    """Stated probability against the share of abnormal windows, on validation."""
    figure = Figure(figsize=(5.6, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    temperature = chosen.alarms.temperature
    for found, name, colour, marker in (
        (chosen.before, "as trained", "black", "o"),
        (chosen.after, f"temperature {temperature:.3g}", ALARM, "s"),
    ):
        label = f"{name}: expected calibration error {found.ece:.3f}"
        axes.plot(found.stated, found.observed, color=colour, marker=marker, markersize=4)
        axes.scatter(
            found.stated, found.observed, s=2 + 300 * found.windows / found.windows.sum(),
            color=colour, alpha=0.3, linewidth=0,
        )  # fmt: skip
        axes.plot([], [], color=colour, marker=marker, markersize=4, label=label)
    axes.set(
        xlabel="stated probability of abnormal", ylabel="share of abnormal windows, validation",
        xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal",
    )  # fmt: skip
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", fontsize=9, frameon=False)
    return figure
