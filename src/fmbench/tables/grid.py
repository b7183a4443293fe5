"""Experiments over a grid of simulated furnaces: what a second modality is worth, and when.

An experiment file with `grid` has its rows once for each cell, on a data set of that cell's knobs.
The gain of one row over another is drawn beside the ceiling: what reference probes gain that know
how well the hot spot is visible (`fmbench.simulator.information`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmbench.files.atomic import write_text
from fmbench.files.yaml_json import read_json
from fmbench.simulator import Camera, SimConfig, simulate
from fmbench.tables.experiment import Experiment
from fmbench.tables.intervals import Interval, compare
from fmbench.tables.render import DrawTable, finish
from fmbench.tables.table import Table

PRESET, SEED = "wide", 0
"""Of the data set of every cell."""
SEEDS = range(10_090, 10_094)
"""Calibration seeds of the ceiling; no data set has them."""
RECORDINGS = 24
"""Recordings of each seed, 900 s each."""


def simulate_cells(experiment: Experiment, write: Callable[..., None]) -> None:
    """Write the data set of each cell that is missing: preset wide, seed 0.

    Args:
        experiment: with a grid.
        write: `fmbench.simulator.write_dataset`, or a function that shows its progress.

    Raises:
        ValueError: a cell's folder holds other recordings.
    """
    for cell in experiment.cells():
        config = SimConfig(seed=SEED).with_overrides(cell.knobs)
        if not cell.root.exists():
            write(cell.root, preset=PRESET, seed=SEED, overrides=cell.knobs)
        manifest = read_json(cell.root / "manifest.json")
        if manifest.get("config") != as_json(config.to_dict()) or manifest["preset"] != PRESET:
            raise ValueError(
                f"{cell.root} holds other recordings than those of the cell {cell.name!r}; delete"
                " it, and it is simulated again"
            )


def ceilings(
    experiment: Experiment, folder: Path, say: Callable[[str], None]
) -> dict[str, Interval]:
    """By the name of each cell, what the probes gain from the current, with its interval.

    They are stored in `<name>-ceiling.json` with the knobs that they were measured for.

    Args:
        experiment: with a grid.
        folder: of the tables.
        say: receives progress, line by line.

    Raises:
        ValueError: the stored file is damaged.
    """
    path = folder / f"{experiment.name}-ceiling.json"
    known: dict[str, Any] = read_json(path) if path.is_file() else {}
    found = {}
    for cell in experiment.cells():
        stored = known.get(cell.name, {})
        if stored.get("knobs") != as_json(cell.knobs):
            say(f"ceiling of {cell.name}")
            known[cell.name] = {"knobs": as_json(cell.knobs), "gain": _probed(cell.knobs)}
            write_text(path, json.dumps(known, indent=1) + "\n")
        try:
            found[cell.name] = Interval(*known[cell.name]["gain"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); delete it to make it again") from None
    return found


def _probed(knobs: Mapping[str, Any]) -> list[float]:
    from fmbench.simulator import information as probes  # scikit-learn takes a second to import

    seen = []
    for seed in SEEDS:
        config = SimConfig(seed=seed).with_overrides(knobs)
        for number in range(RECORDINGS):
            seen.append(probes.observe(Camera(simulate(config, number, 900))))
    measured = probes.measure(seen, probes.visibility_observer(seen), probes.current_log_odds(seen))
    return [measured.gain.value, measured.gain.low, measured.gain.high]


def gains(table: Table) -> dict[str, dict[str, Interval]]:
    """By the experiment's `gains` and the name of each cell, the difference of accuracy between two
    rows on the same windows; cells without both results are left out."""
    lines = {line.row.name: line for line in table.measured}
    found: dict[str, dict[str, Interval]] = {}
    for title, (over, under) in table.experiment.gains.items():
        found[title] = {}
        for cell in table.experiment.cells():
            pair = [lines.get(cell.named(each)) for each in (over, under)]
            if pair[0] and pair[1]:
                difference = compare(pair[0].windows, pair[1].windows)["acc"].difference
                found[title][cell.name] = difference
    return found


def grid_drawn(table: Table, ceiling: Mapping[str, Interval]) -> DrawTable:
    """A function that draws the gains beside their ceiling."""

    def draw(_: Table, path: Path) -> Path:
        panels = {**gains(table), "Ceiling: probes": dict(ceiling)}
        figure = Figure(figsize=(1 + 3.6 * len(panels), 4.4), dpi=120, layout="constrained")
        every = [each.value for panel in panels.values() for each in panel.values()]
        top = max(0.01, np.nanmax(np.abs(every)))
        for k, (title, panel) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), k + 1)
            _panel(axes, table.experiment, panel, top)
            axes.set_title(title, fontsize=10)
        figure.suptitle(table.experiment.title, fontsize=10.5, x=0.005, ha="left")
        return finish(figure, table, path)

    return draw


def _panel(axes: Axes, experiment: Experiment, panel: Mapping[str, Interval], top: float) -> None:
    grid = experiment.grid
    assert grid is not None
    names = np.array([[c.name for c in row] for row in experiment.cells_by_row()])
    values = np.array([[panel[n].value if n in panel else np.nan for n in row] for row in names])
    axes.imshow(values, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
    for (y, x), name in np.ndenumerate(names):
        text = "–"
        if name in panel:
            value, low, high = panel[name]
            text = f"{value:+.4f}\n[{low:+.3f}, {high:+.3f}]"
        dark = name in panel and abs(panel[name].value) > 0.6 * top
        axes.text(x, y, text, ha="center", va="center", fontsize=8, color="w" if dark else "k")
    axes.set_xticks(range(len(grid.columns.cells)), list(grid.columns.cells), fontsize=8.5)
    axes.set_yticks(range(len(grid.rows.cells)), list(grid.rows.cells), fontsize=8.5)
    axes.set_xlabel(grid.columns.title, fontsize=9)
    axes.set_ylabel(grid.rows.title, fontsize=9)


def as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping of plain values as JSON reads it: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(dict(value)))
    return plain
