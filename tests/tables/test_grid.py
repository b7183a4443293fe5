"""Experiments over a grid of simulated furnaces: cells, gains and their ceiling."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.image import imread

from fmbench.cli import main
from fmbench.simulator import write_dataset
from fmbench.tables import grid, read_experiment
from fmbench.tables.experiment import Experiment
from fmbench.tables.intervals import compare
from fmbench.tables.table import Table
from test_tables import line_of, result_of, windows_of

AXES = {
    "rows": {"title": "current", "cells": {"none": {"process.beta": 0}, "usual": {}}},
    "columns": {"title": "view", "cells": {"clear": {"scene.mist_amplitude": [0, 0]}}},
}
ROWS = [
    {"label": "Both", "model": "fmformer", "modality": "cross"},
    {"label": "Eye", "model": "small_cnn", "modality": "visual"},
]


def written(folder: Path, **changes: Any) -> Path:
    content = {
        "title": "A grid",
        "draw": "grid",
        "references": False,
        "grid": AXES,
        "gains": {"gain": ["Both (cross)", "Eye (visual)"]},
        "rows": ROWS,
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def experiment_of(folder: Path, **changes: Any) -> Experiment:
    return read_experiment(str(written(folder, **changes)))


def test_every_row_is_made_in_every_cell_on_its_own_data(tmp_path: Path) -> None:
    found = experiment_of(tmp_path)
    assert [(row.name, row.config["data"]["root"]) for row in found.rows] == [
        ("Both, none, clear (cross)", "data/mine/none-clear"),
        ("Eye, none, clear (visual)", "data/mine/none-clear"),
        ("Both, usual, clear (cross)", "data/mine/usual-clear"),
        ("Eye, usual, clear (visual)", "data/mine/usual-clear"),
    ]
    assert found.cells()[0].knobs == {"process.beta": 0, "scene.mist_amplitude": [0, 0]}
    joined = experiment_of(
        tmp_path,
        rows=[
            {"label": "A", "model": "small_cnn", "modality": "visual"},
            {"label": "B", "model": "boosted_current", "modality": "current"},
            {"label": "A + B", "join": ["A", "B"], "modality": "cross"},
        ],
        gains={"gain": ["A + B (cross)", "A (visual)"]},
    )
    assert joined.rows[2].join == ("A, none, clear", "B, none, clear")
    with pytest.raises(ValueError, match=r"gains: there is no 'Eyes, none, clear \(visual\)'"):
        experiment_of(tmp_path, gains={"gain": ["Both (cross)", "Eyes (visual)"]})


def test_a_grid_takes_no_data_set_of_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["table", str(written(tmp_path)), "--data.root", str(tmp_path)]) == 2
    assert "simulates its own data sets" in capsys.readouterr().err


def test_a_draw_without_its_grid_is_refused_when_it_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="draw: grid needs grid and gains"):
        experiment_of(tmp_path, gains={})


def test_a_cells_folder_with_other_recordings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(grid, "PRESET", "tiny")
    write = partial(write_dataset, lazy=True)
    grid.simulate_cells(experiment_of(tmp_path), write)
    manifest = json.loads(Path("data/mine/none-clear/manifest.json").read_text())
    assert manifest["config"]["process"]["beta"] == 0
    before = Path("data/mine/usual-clear/manifest.json").stat().st_mtime_ns
    grid.simulate_cells(experiment_of(tmp_path), write)  # what is there is used
    assert Path("data/mine/usual-clear/manifest.json").stat().st_mtime_ns == before
    other = {**AXES, "rows": {"title": "current", "cells": {"none": {"process.beta": 1}}}}
    with pytest.raises(ValueError, match=r"none-clear holds other recordings .* delete it"):
        grid.simulate_cells(experiment_of(tmp_path, grid=other), write)


def test_gains_are_paired_differences_and_the_picture_shows_them(tmp_path: Path) -> None:
    experiment = experiment_of(tmp_path)
    results = [result_of(windows=windows_of(seed=seed)) for seed in range(4)]
    lines = tuple(
        line_of(result, **row.model_dump(include={"label", "modality", "model"}))
        for row, result in zip(experiment.rows, results, strict=True)
    )
    table = Table(experiment=experiment, profile="cpu", seeds=1, lines=lines)
    found = grid.gains(table)["gain"]
    expected = compare([results[2].windows], [results[3].windows])["acc"].difference
    assert found["usual, clear"] == expected
    assert "Each of the 2 cells has a data set" in " ".join(table.head())
    path = grid.grid_drawn(table, found)(table, tmp_path / "fig.png")
    assert imread(path).std() > 0.05


@pytest.mark.slow
def test_the_ceiling_is_measured_once_for_the_same_knobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "SEEDS", range(10_090, 10_091))
    monkeypatch.setattr(grid, "RECORDINGS", 5)
    said: list[str] = []
    one = {**AXES, "rows": {"title": "current", "cells": {"none": {"process.beta": 0}}}}
    experiment = experiment_of(tmp_path, grid=one)
    found = grid.ceilings(experiment, tmp_path, said.append)
    assert said == ["ceiling of none, clear"]
    assert all(np.isfinite(each.value) for each in found.values())
    assert grid.ceilings(experiment, tmp_path, said.append) == found
    assert len(said) == 1
    stored = json.loads((tmp_path / "mine-ceiling.json").read_text())
    assert stored["none, clear"]["knobs"]["process.beta"] == 0
    (tmp_path / "mine-ceiling.json").write_text(
        json.dumps({name: {**each, "gain": None} for name, each in stored.items()})
    )
    with pytest.raises(ValueError, match="is damaged"):
        grid.ceilings(experiment, tmp_path, said.append)
