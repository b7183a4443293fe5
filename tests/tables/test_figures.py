"""Table I and Figures 5 and 6."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from fmbench.cli import main
from fmbench.prepare.frames_by_class import table_one
from fmbench.simulator import Tag
from fmbench.tables import dataset_counts, figures, read_experiment
from fmbench.tables.experiment import CaseFrames, Experiment
from fmbench.tables.results import read_result
from fmbench.tables.table import Line
from recordings import write_root
from test_cli import Command, fmbench
from test_tables import command, line_of, result_of, table_of, windows_of

__all__ = ["fmbench"]  # a fixture


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=2, seconds=60, size=(32, 32))
    return folder


# Table I


def test_table_one_counts_beside_the_paper(root: Path, fmbench: Command, tmp_path: Path) -> None:
    done = fmbench("table", "table1", "--data.root", root, "--results", tmp_path)
    assert done.status == 0, done.err
    ours = table_one(root)
    table = pd.read_csv(tmp_path / "table1.csv").set_index("class")
    for kind in ("normal", "abnormal", "total"):
        assert table.loc[kind, "pixel-level"] == ours.loc[kind, "pixel-level"]
    assert table["class-level"].isna().all()
    printed = [129_859, 140_062, 269_921, 940_113, 1_026_663, 1_966_776]
    assert [*table["pixel-level_paper"], *table["class-level_paper"]] == printed
    assert table["total_paper"].tolist() == [1_069_972, 1_166_725, 2_236_697]  # as the paper adds
    assert f"{ours.loc['normal', 'pixel-level']:,} *129,859*" in done.out
    assert "– *940,113*" in done.out
    assert "imulated" not in done.out
    assert imread(tmp_path / "table1.png").std() > 0.05
    body = (tmp_path / "table1.tex").read_text().split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert {line.count("&") for line in body.strip().splitlines()} == {3}


def test_table_one_of_simulated_recordings_says_so(tmp_path: Path, fmbench: Command) -> None:
    assert (
        main(["data", "simulate", "--preset", "tiny", "--lazy", "--out", str(tmp_path / "s")]) == 0
    )
    done = fmbench("table", "table1", "--data.root", tmp_path / "s", "--results", tmp_path)
    for ending in ("md", "tex"):
        said = (tmp_path / f"table1.{ending}").read_text()
        assert "not results on the fused magnesium benchmark" in said
    assert pd.read_csv(tmp_path / "table1.csv")["synthetic"].all(), done.err


def test_sums_are_over_parts_and_classes() -> None:
    found = dataset_counts.with_totals(
        {"a": {"normal": 1, "abnormal": 2}, "b": {"normal": 5, "abnormal": 9}}
    )
    assert found["b"]["total"] == 14
    assert found["total"] == {"normal": 6, "abnormal": 11, "total": 17}


# Figure 5


def tagged(count: int = 200) -> pd.DataFrame:
    """Windows of which each is under one disturbance, some under two; the areas differ."""
    rng = np.random.default_rng(0)
    kinds = [Tag.FLAME, Tag.MIST_HEAVY, Tag.AMBIENT, Tag.FLAME | Tag.AMBIENT, Tag.FEEDING]
    windows = windows_of(count)
    return windows.assign(tags=[int(kinds[k]) for k in rng.integers(0, len(kinds), count)])


def test_cases_are_chosen_by_the_truth_alone() -> None:
    windows = tagged()
    cases = figures.cases_of(read_experiment("fig5"), windows)
    assert [case.name for case in cases] == ["flame", "mist", "ambient light"]
    for case, (tag, quantile) in zip(cases, figures.HARD.values(), strict=True):
        assert case.frames[1] - case.frames[0] == figures.CASE_GAP
        alone = windows[(windows["tags"] == int(tag)) & (windows["label"] == 1)]
        area = alone["pixel_tp"] + alone["pixel_fn"]
        at = alone["frame"].eq(case.frames[1]) & alone["recording"].eq(case.recording)
        shown = area[at].iloc[0]
        assert (area <= shown).mean() == pytest.approx(quantile, abs=1.5 / len(alone))
    other = windows.assign(
        decision=1 - windows["decision"],
        log_odds=-windows["log_odds"],
        pixel_tp=0,
        pixel_fn=windows["pixel_tp"] + windows["pixel_fn"],
    )
    assert figures.cases_of(read_experiment("fig5"), other) == cases


def test_where_no_tags_tell_the_frames_are_named() -> None:
    experiment = Experiment(name="mine", title="t", metrics=("acc",), rows=(), draw="cases")
    bare = windows_of().drop(columns="tags")
    with pytest.raises(ValueError, match=r"have no disturbance tags\. Name the frames"):
        figures.cases_of(experiment, bare)
    with pytest.raises(ValueError, match="no test window is abnormal under flame, mist"):
        figures.cases_of(experiment, windows_of().assign(tags=0))
    named = {"flame": CaseFrames(recording="furnace-1", frames=(3, 9))}
    experiment = Experiment(
        name="mine", title="t", metrics=("acc",), rows=(), draw="cases", cases=named
    )
    assert figures.cases_of(experiment, bare) == [figures.Case("flame", "furnace-1", (3, 9))]


@pytest.mark.slow
@pytest.mark.full
def test_what_methods_mark_is_kept_and_drawn_again(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"label": "mine", "model": "fmformer", "modality": "visual"}]
    cases = {"flame": {"recording": "furnace-0", "frames": [900, 925]}}
    words = command(tmp_path, root, rows=rows, draw="cases", cases=cases)
    assert main(words) == 0
    (kept,) = (tmp_path / "results" / "runs").glob("fmformer-visual-0-*-cases-*.npz")
    with np.load(kept, allow_pickle=False) as file:
        found = dict(file)
    assert found["frames"].shape == (2, 32, 32, 3)
    assert found["predicted"].shape == found["truth"].shape == (2, 32, 32)
    assert "mine.png)" in (tmp_path / "results" / "mine.md").read_text()
    first = (tmp_path / "results" / "mine.png").read_bytes()
    assert main([*words, "--stored"]) == 0
    assert (tmp_path / "results" / "mine.png").read_bytes() == first
    kept.write_bytes(kept.read_bytes()[:200])
    capsys.readouterr()
    assert main([*words, "--stored"]) == 2
    assert "is damaged" in capsys.readouterr().err
    kept.unlink()
    assert main([*words, "--stored"]) == 2
    assert "no predicted masks are stored" in capsys.readouterr().err
    assert main(words) == 0  # of the checkpoint, without training
    assert kept.is_file()
    assert (tmp_path / "results" / "mine.png").read_bytes() == first
    words = command(tmp_path, root, rows=[rows[0] | {"modality": "current"}], draw="cases")
    assert main(words) == 2
    assert "mine (current) predicts no mask to show" in capsys.readouterr().err


# Figure 6


@pytest.mark.full
@pytest.mark.slow
def test_other_lengths_are_tests_of_one_training(tmp_path: Path, root: Path) -> None:
    row = {"label": "a", "model": "fmformer", "modality": "cross"}
    rows: list[dict[str, Any]] = [
        row,
        row | {"label": "two", "test": {"frames": 2}},  # as trained: the same result
        row | {"label": "four", "test": {"frames": 4}},
        row | {"label": "long", "test": {"current_samples": 24}},
    ]
    assert main(command(tmp_path, root, rows=rows, draw="lengths")) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1
    kept = [read_result(path) for path in (tmp_path / "results" / "runs").glob("*.json")]
    tests = [json.dumps(each.facts.get("test")) for each in kept]
    assert sorted(tests) == ["null", '{"current_samples": 24}', '{"frames": 4}']
    table = pd.read_csv(tmp_path / "results" / "mine.csv").set_index("method")
    assert table.loc["a", "acc"] == table.loc["two", "acc"]
    assert len({tuple(each.windows["log_odds"]) for each in kept}) == 3
    assert imread(tmp_path / "results" / "mine.png").std() > 0.05


def test_lengths_are_drawn_in_seconds_with_the_training_marked(tmp_path: Path) -> None:
    data = {"frames": 2, "stride": 20, "current_samples": 60}
    lines = [
        line_of(result_of(config={"select": "val/acc", "data": data}, **test), label=name)
        for name, test in (
            ("plain", {}),
            ("four", {"test": {"frames": 4}}),
            ("long", {"test": {"current_samples": 240}}),
        )
    ]
    from matplotlib.figure import Figure

    left, right = Figure().subplots(1, 2)
    figures._over(left, lines, ("frames", "stride"), "clip")
    figures._over(right, lines, ("current_samples",), "current")
    assert list(left.get_xticks()) == pytest.approx([0.8, 2.4])
    assert list(right.get_xticks()) == [30, 120]
    assert [text.get_text() for text in left.texts] == ["as trained"]
    drawn = left.lines[0].get_ydata()
    assert drawn[0] == lines[0].intervals["acc"].value
    path = figures.draw_lengths(table_of(*lines), tmp_path / "fig.png")
    assert imread(path).std() > 0.05


def test_a_curve_has_a_point_for_each_number_of_training_windows(tmp_path: Path) -> None:
    def trained(windows: int, seed: int, **trainer: int) -> Line:
        config = {
            "select": "val/acc",
            "data": {"epoch_windows": windows // 6},
            "trainer": {"max_epochs": 6, **trainer},
        }
        result = result_of(config=config, windows=windows_of(seed=seed))
        return line_of(result, label=f"Mine, {windows:,} windows")

    lines = [trained(240_000, 1), trained(24_000, 2), trained(72_000, 3)]
    assert [figures.training_windows(line) for line in lines] == [240_000, 24_000, 72_000]
    path = figures.draw_windows(table_of(*lines), tmp_path / "fig.png")
    assert imread(path).std() > 0.05
    with pytest.raises(ValueError, match=r"needs data\.epoch_windows and trainer\.max_epochs"):
        figures.training_windows(trained(24_000, 1, max_epochs=0))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, frames=np.array([{}], dtype=object))  # would be unpickled
    with pytest.raises(ValueError, match=r"x\.npz is damaged"):
        figures._read(path)
    stream = io.BytesIO()
    np.savez(stream, frames=np.zeros(1))
    path.write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match=r"x\.npz is damaged"):
        figures._read(path)
