"""Experiment files, keys, result files, tables; and one small table made from nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import nn

from fmbench import registry
from fmbench.cli import main
from fmbench.config import defaults, resolve
from fmbench.config.resolve import config_of
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.jobs import Failed
from fmbench.objective import Optim
from fmbench.registry import list_models
from fmbench.simulator import Tag, read_tags, write_dataset
from fmbench.tables import area, breakdown, render, results
from fmbench.tables.experiment import (
    METRICS,
    Experiment,
    Row,
    config_for,
    known_experiments,
    read_experiment,
)
from fmbench.tables.intervals import intervals
from fmbench.tables.results import PIXELS, Job, Result, key_of, onsets, read_result, write_result
from fmbench.tables.runner import run_all
from fmbench.tables.table import Line, Table, joined, rising
from fmbench.training.provenance import code_of
from fmbench.types import Modality, Problem
from recordings import write_root
from test_api import PLUG_IN
from test_cli import Command, fmbench, refused

__all__ = ["fmbench"]  # a fixture

PROFILES = ("smoke", "demo", "long", "paper", "gpu")

# Experiment files


@pytest.mark.parametrize("name", known_experiments())
def test_every_experiment_of_ours_is_read_and_its_rows_resolve(name: str) -> None:
    experiment = read_experiment(name)
    labels = [row.label for row in experiment.rows]
    if name.startswith("table") and not experiment.counts:
        trivial = ["Always abnormal", "Random score", "RMS current", "Brightest red"]
        assert labels[-7:] == [*trivial, "Boosted trees", "Small CNN", "Trees + CNN"]
    rows = experiment.trained()[:22]  # a grid repeats its rows in every cell
    profiles = [("cpu", row) for row in rows] + [(name, rows[0]) for name in PROFILES if rows]
    for profile, row in profiles:
        config = config_for(row, profile=profile, seed=3)
        assert (config.model, config.modality, config.seed) == (row.model, row.modality, 3)


def test_table2_has_a_row_for_each_method_and_modality_of_the_paper() -> None:
    rows = [row for row in read_experiment("table2").rows if not row.reference]
    assert len(rows) == 18
    assert sum(row.model == "fmformer" for row in rows) == 3
    assert all({"acc", "f1", "fdr", "mdr"} <= set(row.paper) for row in rows)


def test_what_a_row_sets_wins_over_experiment_and_profile(tmp_path: Path) -> None:
    path = write_experiment(
        tmp_path,
        config={"optim": {"lr": 0.01, "warmup_steps": 7}},
        rows=[{"label": "a", "model": "vit", "modality": "visual", "config": {"optim": {"lr": 1}}}],
    )
    config = config_for(read_experiment(path).rows[0], profile="cpu", seed=0)
    assert (config.optim["lr"], config.optim["warmup_steps"]) == (1, 7)
    assert config.data["frames"] == 4  # the profile's
    changed = config_for(
        read_experiment(path).rows[0], profile="cpu", seed=0, changes={"data": {"frames": 6}}
    )
    assert changed.data["frames"] == 6


ROW = {"label": "a", "model": "vit", "modality": "visual"}


def write_experiment(folder: Path, **content: Any) -> str:
    content = {"title": "A table", "rows": [ROW]} | content
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in content.items() if v is not None}))
    return str(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"colour": "red"}, "mine.yaml: there is no key 'colour'\nKnown: title, metrics"),
        ({"title": None}, "mine.yaml: title is missing"),
        ({"rows": []}, "mine.yaml: rows is missing"),
        ({"rows": "all"}, "rows is 'all'; it must be a list"),
        ({"metrics": ["accu"]}, "metrics[1]: there is no 'accu'; did you mean 'acc'?"),
        ({"rows": [ROW | {"modelity": 1}]}, "rows['a']: there is no key 'modelity'; did you mean"),
        ({"rows": [{"model": "vit", "modality": "visual"}]}, "rows[1].label is missing"),
        ({"rows": [ROW | {"modality": "current"}]}, "row 'a': vit reads visual, not current"),
        (
            {"rows": [ROW | {"modality": "sound"}]},
            "rows['a'].modality: there is no 'sound'\nKnown: current",
        ),
        ({"rows": [ROW | {"model": "vitt"}]}, "row 'a': no model is called 'vitt'; did you mean"),
        ({"rows": [ROW | {"model": None}]}, "row 'a': give it either a model or two rows to join"),
        ({"rows": [ROW, ROW]}, "two rows are a (visual); label or modality must differ"),
        ({"rows": [ROW | {"paper": {"acc": "high"}}]}, "paper.acc is 'high'; it must be a number"),
        ({"rows": [ROW | {"paper": {"ac": 1}}]}, "paper.ac: there is no 'ac'; did you mean 'acc'?"),
        ({"rows": [ROW | {"config": {"seed": 3}}]}, "config may not set seed"),
        ({"equal_parameters": ["b"]}, "equal_parameters: there is no 'b'"),
        ({"rows": [ROW | {"test": {"frame": 2}}]}, "test.frame: there is no 'frame'; did you mean"),
        ({"rows": [ROW | {"test": {"frames": 0}}]}, "test.frames is 0; it must be at least 1"),
        ({"against": "b"}, "against: there is no 'b'"),
        ({"draw": "pie"}, "draw: there is no 'pie'\nKnown: rows, lengths, cases"),
        ({"cases": {"flame": {"frames": [1]}}}, "cases.flame.recording is missing"),
        (
            {"cases": {"flame": {"recording": "a", "frames": ["x"]}}},
            "cases.flame.frames[1] is 'x'; it must be a whole number",
        ),
        ({"counts": {"pixel-level": {"normal": 3}}}, "there is no key 'rows'"),
        ({"rows": None, "counts": {"a": {"normal": "many"}}}, "counts.a.normal is 'many'"),
        (
            {
                "rows": [
                    {**ROW, "model": "fmformer"},
                    {**ROW, "model": "fmformer", "modality": "current"},
                    {"label": "j", "join": ["a", "a"], "modality": "cross"},
                ]
            },
            "'a' is meant, and two rows are labelled so",
        ),
        (
            {"rows": [ROW, {"label": "j", "join": ["a", "b"], "modality": "cross"}]},
            "row 'j': join: there is no 'b'",
        ),
        (
            {"rows": [ROW, {"label": "j", "join": ["a"], "modality": "cross"}]},
            "row 'j' joins 1 rows; it takes two",
        ),
    ],
)
def test_a_wrong_experiment_file_is_refused_with_its_place(
    tmp_path: Path, content: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        read_experiment(write_experiment(tmp_path, **content))
    assert said in str(refusal.value)


def test_an_option_that_does_not_exist_names_the_row(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, rows=[ROW | {"config": {"net": {"detph": 3}}}])
    with pytest.raises(
        ValueError, match=r"row 'a \(visual\)': there is no option net\.detph; did you mean"
    ):
        config_for(read_experiment(path).rows[0], profile="cpu", seed=0)


def test_an_experiment_that_does_not_exist_is_answered_with_the_nearest(fmbench: Command) -> None:
    refused(fmbench("table", "tabel2"), "no experiment 'tabel2'; did you mean 'table2'?", "table5")
    refused(fmbench("table", "table2", "--seeds", "0"), "--seeds is 0; it must be at least 1")
    refused(fmbench("table", "table2", "--profile", "cpuu"), "cpuu", "did you mean 'cpu'")


def test_a_tag_in_an_experiment_file_builds_nothing(tmp_path: Path, fmbench: Command) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("title: !!python/object/apply:os.system ['touch made']\n")
    refused(fmbench("table", path), "evil.yaml:1")
    assert not (tmp_path / "made").exists()


# Keys


def test_a_key_follows_what_is_trained_and_not_where() -> None:
    config = Config(data={"root": "a", "frames": 2, "num_workers": 0}, trainer={"max_epochs": 2})
    same = replace(config, data={**config.data, "root": "b", "num_workers": 4}, logger="wandb")
    held = replace(config, data={**config.data, "resident": True})
    assert key_of(config, "data") == key_of(held, "data")
    assert key_of(config, "data") == key_of(same, "data")
    others = [
        key_of(config, "other data"),
        key_of(replace(config, seed=1), "data"),
        key_of(replace(config, net={"dim": 24}), "data"),
        key_of(replace(config, data={**config.data, "frames": 4}), "data"),
        key_of(replace(config, trainer={"max_epochs": 3}), "data"),
    ]
    assert len({key_of(config, "data"), *others}) == 6


def test_tests_of_one_training_share_its_run_and_have_results_of_their_own() -> None:
    config = Config(data={"root": "a", "frames": 2})
    plain = Job(label="a", config=config, fingerprint="data")
    longer = replace(plain, test={"frames": 4})
    assert plain.key == key_of(config, "data")
    assert longer.run({}) == plain.run({}) == plain.stem
    assert longer.stem != plain.stem
    assert longer.tested(Path("r")) != plain.tested(Path("r")) == Path("r")


class Mine(nn.Module):
    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()

    def __init__(self, problem: Problem, *, width: int = 8) -> None: ...


class Gated(Mine):
    def __init__(self, problem: Problem, *, width: int = 8, gated: bool = False) -> None: ...


class Wide(Mine):
    def __init__(self, problem: Problem, *, width: int = 16) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LongerConfig(Config):
    average: Literal["ema"] | None = None


@dataclass(frozen=True, kw_only=True)
class LongerOptim(Optim):
    momentum: float = 0.9


def stored(folder: Path, **options: Any) -> Result | Failed:
    """What `run_all` finds for a training of the plug-in `mine`, without training."""
    config = config_of([("test", {"model": "mine", "modality": "current", **options})])
    job = Job(label="mine", config=config, fingerprint="data")
    found = run_all(
        [job],
        data=lambda _: pytest.fail("opens data"),
        results=folder,
        runs=folder / "runs",
        at_once=1,
        say=lambda _: None,
        train=False,
    )
    return found[job.key]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[type[nn.Module]], None]:
    """Registers a class as the model `mine`; there is a result of `Mine`."""

    def register(model: type[nn.Module]) -> None:
        monkeypatch.setattr(registry, "catalogue", lambda: {"mine": model})

    register(Mine)
    config = config_of([("test", {"model": "mine", "modality": "current"})])
    job = Job(label="mine", config=config, fingerprint="data")
    assert stored(tmp_path) == Failed(reason="not trained yet")
    result = replace(result_of(config=config.to_plain()), key=job.key)
    write_result(result, tmp_path / f"{job.stem}.json")
    assert isinstance(stored(tmp_path), Result)
    return register


def test_new_options_find_the_results_from_before_them(
    tmp_path: Path, mine: Callable[[type[nn.Module]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(Gated)
    for module in (defaults, resolve):
        monkeypatch.setattr(module, "Config", LongerConfig)
        monkeypatch.setattr(module, "Optim", LongerOptim)
    config = config_of([("test", {"model": "mine", "modality": "current"})])
    assert (config.net["gated"], config.optim["momentum"]) == (False, 0.9)
    assert isinstance(stored(tmp_path), Result)
    for changed in ({"net": {"gated": True}}, {"optim": {"momentum": 0.8}}, {"average": "ema"}):
        assert stored(tmp_path, **changed) == Failed(reason="not trained yet")


def test_a_default_that_changes_finds_no_result_of_the_old_one(
    tmp_path: Path, mine: Callable[[type[nn.Module]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(Wide)
    with pytest.raises(ValueError, match=r"made with other defaults \(net.width is 16, was 8\)"):
        stored(tmp_path)
    known = defaults.frozen("fmformer")
    monkeypatch.setattr(defaults, "frozen", lambda _: {**known, "net.width": 8})
    assert stored(tmp_path) == Failed(reason="not trained yet")
    assert isinstance(stored(tmp_path, net={"width": 8}), Result)  # the value, not the name, counts


@pytest.mark.parametrize("name", list_models())
def test_every_default_of_ours_is_written_down(name: str) -> None:
    model = registry.catalogue()[name]
    now = defaults.signature_defaults(name, next(iter(model.modalities)))
    missing = {name: now[name] for name in sorted(now.keys() - defaults.frozen(name).keys())}
    assert not missing, (
        f"add these new options to {defaults.FILE} (below net, under {name!r}), each with the value"
        " that means what the code did before the option"
    )


# Result files


def windows_of(count: int = 40, dense: bool = True, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    label = np.arange(count) // 5 % 2
    log_odds = np.round(2 * (label - 0.5) + rng.normal(size=count), 3)
    table = pd.DataFrame(
        {
            "recording": [f"furnace-{k}" for k in np.arange(count) // 20],
            "frame": 250 * (np.arange(count) % 20),
            "time": [f"2030-01-01 00:{k // 6:02}:{k % 6}0" for k in np.arange(count) % 20],
            "label": label,
            "decision": (log_odds > 0).astype(int),
            "log_odds": log_odds,
            "since_onset": np.where(label == 1, 10.0 * (np.arange(count) % 5), np.nan),
            "tags": rng.choice([0, int(Tag.FLAME), int(Tag.MIST_HEAVY | Tag.WEAK)], count),
        }
    )
    pixels = np.stack([rng.integers(0, 900, count) for _ in PIXELS], 1)
    return table.assign(**dict(zip(PIXELS, pixels.T, strict=True))) if dense else table


def result_of(**changes: Any) -> Result:
    windows = changes.pop("windows", windows_of())
    facts = {
        "config": {"select": "val/acc", "seed": 0},
        "metrics": {name: value.value for name, value in intervals([windows]).items()},
        "parameters": 1234,
        "data": "synthetic data (simulator v1)",
        "synthetic": True,
        "fit_seconds": 90.0,
        "curve": [0.5, 0.6, 0.7, 0.7],
    }
    return Result(key="k" * 64, facts=facts | changes, windows=windows)


@pytest.mark.parametrize("dense", [True, False])
def test_a_result_is_read_as_it_was_written(tmp_path: Path, dense: bool) -> None:
    result = result_of(windows=windows_of(dense=dense))
    write_result(result, tmp_path / "a.json")
    again = read_result(tmp_path / "a.json")
    assert again.key == result.key
    assert again.facts == result.facts
    pd.testing.assert_frame_equal(again.windows, result.windows, check_like=True)
    write_result(again, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_a_damaged_result_is_told_from_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_result(result_of(), path)
    whole = path.read_text()
    for damaged, said in (
        (whole[: len(whole) // 2], "is no JSON file"),
        (whole.replace('"parameters": 1234', '"parameters": 1235'), "does not match its checksum"),
        ('{"metrics": {}}', "is not a result of `fmbench table`"),
        ("[]", "is not a result of `fmbench table`"),
    ):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=said):
            read_result(path)


def test_a_disk_that_is_full_leaves_the_result_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_result(result_of(), path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_result(result_of(parameters=9), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]


def test_onsets_are_the_first_frame_of_each_abnormal_stretch() -> None:
    labels = np.array([1, 1, 0, 0, 1, 1, 1, 0], bool)
    assert onsets(labels).tolist() == [0, 0, -1, -1, 4, 4, 4, -1]
    assert onsets(np.zeros(3, bool)).tolist() == [-1] * 3


def test_windows_of_simulated_recordings_get_onset_and_tags(tmp_path: Path) -> None:
    write_dataset(tmp_path / "sim", preset="tiny", seed=3, lazy=True)
    data = FurnaceData(root=tmp_path / "sim", modality="current", test_windows=60)
    found = results.with_truth(data.table("test"), data)
    named = {recording.name: recording for recording in data.opened.recordings}
    for _, row in found.iterrows():
        recording, frame = named[row["recording"]], row["frame"]
        assert row["tags"] == read_tags(data.opened.folder, recording.name)[frame]
        before = frame
        while before >= 0 and recording.labels(np.array([before]))[0]:
            before -= 1
        if before == frame:
            assert np.isnan(row["since_onset"])
        else:
            seconds = recording.seconds
            assert row["since_onset"] == seconds[frame] - seconds[before + 1]
    assert 0 < found["since_onset"].notna().mean() < 1


def test_windows_of_real_recordings_get_onset_alone(root: Path) -> None:
    data = FurnaceData(root=root, modality="current", current_samples=12, test_windows=20)
    found = results.with_truth(data.table("test"), data)
    assert "since_onset" in found
    assert "tags" not in found


# Tables


def line_of(result: Result | None = None, failed: str = "", **row: Any) -> Line:
    row = {"label": "Mine", "modality": "visual", "model": "vit"} | row
    if failed:
        return Line(row=Row(**row), failed=failed)
    result = result or result_of()
    return Line(
        row=Row(**row),
        results=(result,),
        windows=(result.windows,),
        intervals=intervals([result.windows]),
    )


def table_of(*lines: Line, profile: str = "cpu", **experiment: Any) -> Table:
    content = {"name": "mine", "title": "A table", "metrics": METRICS} | experiment
    rows = tuple(line.row for line in lines)
    return Table(experiment=Experiment(rows=rows, **content), profile=profile, seeds=1, lines=lines)


def test_the_papers_value_stands_beside_the_measured_one_and_never_for_it() -> None:
    lines = [line_of(paper={"acc": 0.9836}), line_of(failed="out of memory", paper={"acc": 0.5})]
    table = table_of(*lines)
    text = render.table_markdown(table)
    value, low, high = lines[0].intervals["acc"]
    assert f"{value:.4f} [{low:.3f}, {high:.3f}] *0.9836*" in text
    assert "failed: out of memory" in text
    assert "0.5000" not in text.splitlines()[-1]  # no measurement, no figure
    found = pd.read_csv(io.StringIO(render.table_csv(table)))
    assert found["acc"].isna().tolist() == [False, True]
    assert found["acc_paper"].tolist() == [0.9836, 0.5]
    assert found["failed"][1] == "out of memory"


def test_the_smaller_the_region_the_rarer_it_is_found(tmp_path: Path) -> None:
    """Six abnormal windows of 5, 5, 20, 20, 90 and 90 pixels, found but for one, one and none."""
    count = 8
    pixels = {"pixel_tn": 4000, "pixel_fp": 3}
    hit = np.array([2, 0, 15, 0, 60, 90, 0, 0])
    pixels_of = np.array([5, 5, 20, 20, 90, 90, 0, 0])
    windows = windows_of(count, dense=False).assign(
        label=(pixels_of > 0).astype(int),
        decision=[1, 0, 1, 0, 1, 1, 0, 1],
        pixel_tp=hit,
        pixel_fn=pixels_of - hit,
        **pixels,
    )
    blind = windows.drop(columns=list(PIXELS)).assign(decision=0)
    table = table_of(
        line_of(result_of(windows=windows), label="Seer"),
        line_of(result_of(windows=blind), label="Blind"),
    )
    text = area.area_markdown(table)
    assert "below 10 px 2, 10 to 39 px 2, from 40 px 2" in text
    of_seer, of_blind = (found for _, found in area.area_lines(table).values())
    assert [each["mdr"].value for each in of_seer.values()] == [0.5, 0.5, 0]
    assert [each["iou"].value for each in of_seer.values()] == pytest.approx(
        [2 / 16, 15 / 46, 150 / 186]
    )
    assert [each["mdr"].value for each in of_blind.values()] == [1, 1, 1]
    assert not any("iou" in each for each in of_blind.values())
    moved = line_of(result_of(windows=windows.assign(frame=windows["frame"] + 1)), label="Other")
    assert list(area.area_lines(table_of(line_of(result_of(windows=windows)), moved))) == [
        "Mine (visual)"
    ]
    path = area.draw_area(table, tmp_path / "area.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_orders_are_held_against_the_papers() -> None:
    """A detector that is always right, one that is always wrong, and one that is the same."""
    ours = windows_of(400)
    ours["recording"] = [f"furnace-{k // 16}" for k in range(400)]  # 25 blocks
    right = ours.assign(decision=ours["label"], log_odds=ours["label"] - 0.5)
    wrong = right.assign(decision=1 - ours["label"], log_odds=0.5 - ours["label"])
    lines = [
        line_of(result_of(windows=windows), label=label, paper={"acc": acc} if acc else {})
        for label, windows, acc in (
            ("right", right, 0.9),  # the paper: better than ours
            ("wrong", wrong, 0.9),
            ("same", ours, 0.7),
            ("unprinted", wrong, None),
            ("ours", ours, 0.8),
        )
    ]
    table = table_of(*lines, against="ours (visual)", metrics=("acc",))
    rows = {
        row.split(" | ")[0].strip("| "): [cell.strip() for cell in row.strip("| \n").split("|")]
        for row in breakdown.orders_markdown(table).splitlines()[-4:]
    }
    assert [row[3] for row in rows.values() if len(row) > 3] == [
        "as in the paper",
        "**reversed**",
        "not significant",
    ]
    gap = intervals([right])["acc"].value - intervals([ours])["acc"].value
    assert rows["right"][2].startswith(f"{gap:+.4f} [")
    assert rows["right"][2].endswith("*+0.1000*")
    assert "p 1.000 *-0.1000*" in rows["same"][2]
    assert "*" not in rows["unprinted"][2]


def test_simulated_results_say_so_in_every_format(tmp_path: Path) -> None:
    table = table_of(line_of())
    for text in (
        render.table_markdown(table),
        render.table_latex(table),
        breakdown.interference_markdown(table),
        breakdown.events_markdown(table),
    ):
        assert "not results on the fused magnesium benchmark" in text
    assert pd.read_csv(io.StringIO(render.table_csv(table)))["synthetic"].all()
    real = table_of(line_of(result_of(synthetic=False, data="FMFBenchmarkV2")))
    assert "imulated" not in render.table_markdown(real)
    assert "FMFBenchmarkV2" in render.table_markdown(real)


def test_smoke_is_stamped_and_learning_is_marked() -> None:
    table = table_of(line_of(result_of(curve=[0.5, 0.6, 0.7, 0.9])), profile="smoke")
    assert "SMOKE" in render.table_markdown(table)
    assert "Mine †" in render.table_markdown(table)
    assert "SMOKE" in render.table_latex(table)
    flat = render.table_markdown(table_of(line_of()))
    assert "SMOKE" not in flat
    assert "†" not in flat


def test_rows_of_other_or_unknown_code_are_named() -> None:
    facts = {"config": {"select": "val/acc", "model": "vit"}}
    today, other = {"code": code_of("vit")}, {"code": {"syntax": "0" * 64}}
    lines = [
        line_of(result_of(**facts, **today), label="same"),
        line_of(result_of(**facts, **other), label="edited"),
        line_of(result_of(**facts), label="old"),
    ]
    text = " ".join(table_of(*lines).head())
    assert "Code changed since: edited (visual) (`--stale retrain` trains them again)." in text
    assert "It is not recorded with which code old (visual) was trained." in text
    assert "ode" not in " ".join(table_of(lines[0]).head())


def test_a_note_says_which_trainings_were_in_bfloat16() -> None:
    old, low, full = (
        line_of(result_of(**facts), label=label)
        for label, facts in (
            ("old", {}),
            ("low", {"precision": "bf16-mixed"}),
            ("full", {"precision": "32-true"}),
        )
    )
    assert "Precision" not in render.table_markdown(table_of(old, full))
    assert "\n\nPrecision of the trainings: bf16-mixed.\n" in render.table_markdown(table_of(low))
    both = "Precision of the trainings: 32-true: old (visual), full (visual); bf16-mixed: low"
    assert both in render.table_markdown(table_of(old, low, full))


@pytest.mark.parametrize(
    ("curve", "metric", "still"),
    [
        ([0.5, 0.7, 0.8, 0.8], "val/acc", False),
        ([0.5, 0.7, 0.8, 0.82], "val/acc", True),
        ([0.9, 0.5, 0.3, 0.2], "val/loss", True),
        ([0.9, 0.2, 0.3, 0.4], "val/loss", False),
        ([0.5, 0.9], "val/acc", False),  # too few to tell
    ],
)
def test_a_curve_that_still_rises_has_not_flattened(
    curve: list[float], metric: str, still: bool
) -> None:
    assert rising(curve, metric) is still


def test_the_head_states_the_windows() -> None:
    data = {"frames": 4, "stride": 12, "current_samples": 60}
    table = table_of(line_of(result_of(config={"select": "val/acc", "seed": 0, "data": data})))
    assert "40 windows of 4 frames over 1.44 s, 60 samples of current (30 s)." in table.head()[0]


def test_latex_has_a_cell_for_every_column_and_no_bare_sign() -> None:
    table = table_of(line_of(label="50 % & more_or_less"), line_of(failed="a_b"))
    body = (
        render.table_latex(table)
        .split(r"\midrule")[1]
        .split(r"\bottomrule")[0]
        .strip()
        .splitlines()
    )
    assert r"50 \% \& more\_or\_less" in body[0]
    assert body[0].replace(r"\&", "").count("&") == len(METRICS) + 1
    assert r"failed: a\_b" in body[1]


def test_the_best_value_of_a_column_is_bold_and_no_reference_is() -> None:
    flat = windows_of(seed=1)
    right = flat.assign(decision=flat["label"], log_odds=flat["label"] - 0.5)
    lines = [
        line_of(result_of(windows=right.assign(decision=0, log_odds=-0.5)), label="None"),
        line_of(result_of(windows=flat), label="Mine", paper={"acc": 0.9}),
        line_of(result_of(windows=right), label="Oracle", reference=True),
    ]
    text = render.table_latex(table_of(*lines, metrics=("acc", "fdr")))
    rows = {row.split(" & ")[0]: row.split(" & ")[2:] for row in text.splitlines() if " & " in row}
    bold = {name: [r"\mathbf" in cell for cell in cells] for name, cells in rows.items()}
    assert bold["None"] == [False, True]  # no false alarm
    assert bold["Mine"] == [True, False]
    assert bold["Oracle"] == [False, False]
    assert r"\caption{A table}" in text
    assert r"\label{tab:mine}" in text
    assert "[" in rows["Mine"][0]


def test_compact_latex_has_the_spread_over_seeds_and_neither_interval_nor_paper() -> None:
    line = replace(line_of(paper={"acc": 0.9}), spread={"acc": 0.0123})
    text = render.table_latex(table_of(line, metrics=("acc",)), "compact")
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert rf"$\mathbf{{{line.intervals['acc'].value:.4f}}} \pm 0.0123$" in body
    assert "[" not in body
    assert "paper" not in body


def test_every_file_of_a_table_is_written_and_twice_the_same(tmp_path: Path) -> None:
    table = table_of(line_of(paper={"acc": 0.9}), line_of(label="Other", modality="current"))
    first = {
        path.name: path.read_bytes()
        for path in render.write_table(table, tmp_path / "a", render.draw_rows)
    }
    second = {
        path.name: path.read_bytes()
        for path in render.write_table(table, tmp_path / "b", render.draw_rows)
    }
    assert set(first) == {"mine.md", "mine.tex", "mine.csv", "mine.png"}
    assert first == second


def test_two_detectors_joined_add_their_logits_and_keep_the_first_ones_mask() -> None:
    a, b = windows_of(seed=1), windows_of(seed=2, dense=False)
    both = joined(a, b)
    logits = [torch.tensor(np.stack([np.zeros(40), part["log_odds"]], 1)) for part in (a, b)]
    fused = (logits[0] + logits[1]).softmax(1)  # eq. (12)
    assert both["decision"].tolist() == fused.argmax(1).tolist()
    np.testing.assert_allclose(1 / (1 + np.exp(-both["log_odds"])), fused[:, 1])
    assert both[list(PIXELS)].equals(a[list(PIXELS)])
    assert not set(PIXELS) & set(joined(b, a))
    with pytest.raises(ValueError, match="different windows"):
        joined(a, b.iloc[1:].reset_index(drop=True))


def test_row_1_of_table_5_is_the_untrained_join_of_table_4_with_the_mask_of_row_0() -> None:
    four, five = (read_experiment(f"table{number}") for number in (4, 5))
    (join,) = (row for row in four.rows if row.join and not row.reference)
    one = next(row for row in five.rows if row.label.startswith("1:"))
    zero = five.rows[0]
    assert [(row.model, row.modality, row.config) for row in five.joined_in(one)] == [
        (row.model, row.modality, row.config) for row in four.joined_in(join)
    ]
    assert five.joined_in(one)[0] is zero
    printed = {name: value for name, value in one.paper.items() if name != "miou"}
    assert printed == join.paper
    assert one.paper["miou"] == zero.paper["miou"]


# By interference, and events


def test_rates_under_a_disturbance_are_those_of_its_windows() -> None:
    line = line_of()
    windows = line.windows[0]
    found = breakdown.interference(line)
    flame = windows[windows["tags"] & int(Tag.FLAME) > 0]
    free = windows[windows["tags"] == 0]
    for name, part in (("flame", flame), ("none", free)):
        assert found[name]["acc"].value == pytest.approx(np.mean(part["label"] == part["decision"]))
    assert "feeding" not in found  # there is none in these windows
    assert len(breakdown.under(windows)["mist"]) == (windows["tags"] & 1 > 0).sum()
    untagged = replace(line, windows=(windows.drop(columns="tags"),))
    assert "have no disturbance tags" in breakdown.interference_markdown(table_of(untagged))


def test_an_event_is_found_at_its_first_alarm_and_an_alarm_without_one_is_false() -> None:
    label = [0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 0, 0]
    calls = [0, 1, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0]  # false alarm; found after 10 s; false; missed
    since = [np.nan, np.nan, 0, 10, 20, np.nan, np.nan, np.nan, 0, 10, np.nan, np.nan]
    windows = pd.DataFrame(
        {
            "recording": "furnace",
            "frame": 250 * np.arange(12),
            "time": [f"2030-01-01 00:0{k // 6}:{k % 6}0" for k in range(12)],
            "label": label,
            "decision": calls,
            "since_onset": since,
        }
    )
    found = breakdown.event_rates(windows)
    assert (found["events"], found["found"]) == (2, 1)
    assert found["delay_median"] == found["delay_p90"] == 10
    assert found["spacing"] == 10
    assert found["false_per_hour"] == pytest.approx(2 / (7 * 10 / 3600))
    assert found["alarm_share"] == pytest.approx(5 / 12)


# From nothing


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=2, seconds=60, size=(32, 32))
    return folder


PROFILE: Mapping[str, Any] = {
    "select": "val/acc",
    "net": {"dim": 24, "depth": 1},
    "data": {
        "frames": 2,
        "current_samples": 12,
        "batch_size": 8,
        "epoch_windows": 32,
        "val_windows": 20,
        "test_windows": 40,
        "guard_seconds": 5,
        "val_fraction": 0.2,
    },
    "trainer": {"max_epochs": 3, "accelerator": "cpu"},
}


def command(folder: Path, root: Path, *more: str, **experiment: Any) -> list[str]:
    (folder / "tiny.yaml").write_text(yaml.safe_dump(dict(PROFILE)))
    content = {"references": False, **experiment}
    path = write_experiment(folder, **content)
    words = ["table", path, "--profile", str(folder / "tiny.yaml"), "--data.root", str(root)]
    return [*words, "--results", str(folder / "results"), "--runs", str(folder / "runs"), *more]


ROWS = [
    {"label": "visual", "model": "fmformer", "modality": "visual"},
    {"label": "current", "model": "fmformer", "modality": "current"},
    {"label": "both", "join": ["visual", "current"], "modality": "cross"},
]


def test_stored_results_are_tabulated_without_training(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tmp_path, root, "--stored", rows=ROWS)) == 0
    assert capsys.readouterr().out.count("| not trained yet |") == 2
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_table_is_made_once_and_a_row_that_fails_takes_no_other_with_it(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {**ROWS[0], "label": "odd", "config": {"net": {"tube": [3, 8, 8]}}}
    words = command(tmp_path, root, "--jobs", "2", "--seeds", "2", rows=[*ROWS, broken])
    assert main(words) == 1  # a row has failed
    out = capsys.readouterr().out
    assert "failed: 2 frames" in out
    table = pd.read_csv(tmp_path / "results" / "mine.csv").set_index("method")
    assert table["acc"].notna().to_dict() == {
        "visual": True,
        "current": True,
        "both": True,
        "odd": False,
    }
    assert table.loc["visual", "acc_sd"] >= 0
    kept = sorted((tmp_path / "results" / "runs").glob("*.json"))
    assert len(kept) == 4  # two rows, two seeds
    tests = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("runs/*/test.json"))]
    stored = [read_result(path) for path in kept]
    for result, test in zip(stored, tests, strict=True):
        again = intervals([result.windows])
        for name in ("acc", "f1", "fdr", "mdr", "auroc", "aupr"):
            assert again[name].value == pytest.approx(test["metrics"][name], abs=1e-6), name

    stamps = {path: path.stat().st_mtime_ns for path in kept}
    assert main(command(tmp_path, root, "--seeds", "2", rows=ROWS)) == 0
    assert "4 of 4 results are there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in kept} == stamps

    kept[0].write_text(kept[0].read_text()[:100])
    assert main(command(tmp_path, root, "--seeds", "2", rows=ROWS)) == 2
    err = capsys.readouterr().err
    assert "is no JSON file" in err
    assert "; restore it, or delete it to have" in err
    kept[0].write_bytes(kept[1].read_bytes())
    assert main(command(tmp_path, root, "--seeds", "2", rows=ROWS)) == 2
    assert "made with another configuration or other data" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.full
def test_a_plug_in_that_changes_is_named_and_trained_again_on_request(
    tmp_path: Path, root: Path
) -> None:
    installed = tmp_path / "installed"
    info = installed / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fmbench.models]\nacme = acme_models:MODELS\n")
    module = installed / "acme_models.py"
    module.write_text(PLUG_IN)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(installed), *(entry for entry in sys.path if entry)])
    }
    row = {"label": "acme", "model": "acme-mean", "modality": "current"}
    words = command(tmp_path, root, rows=[row])
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**PROFILE, "net": {}}))

    def table(*more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "fmbench", *words, *more],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "Code changed" not in table()
    (path,) = tmp_path.glob("results/runs/*.json")
    first = path.read_bytes()
    module.write_text(PLUG_IN.replace("nn.ReLU", "nn.Tanh"))
    masks = path.with_name(f"{path.stem}-cases-0.npz")
    masks.touch()
    assert "Code changed since: acme (current)" in table()
    assert path.read_bytes() == first
    assert "Code changed" not in table("--stale", "retrain")
    assert path.read_bytes() != first
    assert not masks.exists()  # it was made from the old result
    assert read_result(path).facts["code"]["distribution"] == "acme"


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs us behind
from fmbench.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.full
def test_a_table_that_is_stopped_goes_on_where_it_was(tmp_path: Path, root: Path) -> None:
    row = {**ROWS[1], "config": {"trainer": {"max_epochs": 400}}}
    words = [sys.executable, "-c", INTERRUPTIBLE, *command(tmp_path, root, rows=[row])]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("runs/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "go on with the same command" in err
    assert "the running commands write their checkpoints" in out
    (log,) = tmp_path.glob("runs/*/log.txt")
    done = log.read_text().count(" of 400")
    assert 0 < done < 400
    row = {**ROWS[1], "config": {"trainer": {"max_epochs": 400}}}
    assert main(command(tmp_path, root, rows=[row])) == 0
    lines = log.read_text().splitlines()
    epochs = [int(line.split("epoch ")[1].split()[0]) for line in lines if " of 400" in line]
    assert epochs[-1] == 400
    assert len(epochs) <= 402  # at most the epoch under way was done twice


@pytest.mark.full
@pytest.mark.slow
def test_two_processes_share_a_table_and_train_no_row_twice(tmp_path: Path, root: Path) -> None:
    rows = [
        {**ROWS[1], "label": str(k), "config": {"optim": {"lr": 0.001 * k}}} for k in range(1, 5)
    ]
    words = [sys.executable, "-m", "fmbench", *command(tmp_path, root, rows=rows)]
    both = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outs = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outs
    logs = [path.read_text() for path in tmp_path.glob("runs/*/log.txt")]
    assert len(logs) == 4
    assert [log.count("epoch 1 of 3") for log in logs] == [1] * 4
    tables = [out.split("# A table")[1] for out in outs]
    assert tables[0] == tables[1]
    assert len(list(tmp_path.glob("results/runs/*.json"))) == 4


def test_the_result_of_other_data_is_refused(tmp_path: Path) -> None:
    class Data:
        def fingerprint(self) -> str:
            return "these"

    for part in ("test", "val"):
        (tmp_path / f"{part}.json").write_text(json.dumps({"data_fingerprint": "those"}))
    with pytest.raises(ValueError, match="was measured on other data"):
        results.gather(Job(label="a", config=Config(), fingerprint="these"), tmp_path, Data())  # type: ignore[arg-type]


def test_two_results_are_compared_on_the_command_line(tmp_path: Path, fmbench: Command) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        write_result(result_of(windows=windows_of(seed=seed)), tmp_path / f"{name}.json")
    done = fmbench("compare", tmp_path / "a.json", tmp_path / "b.json")
    assert done.status == 0, done.err
    assert "Simulated recordings" in done.out
    assert "Acc" in done.out
    several = fmbench(
        "compare", f"{tmp_path / 'a.json'},{tmp_path / 'b.json'}", tmp_path / "b.json"
    )
    assert several.status == 0, several.err
    refused(fmbench("compare", "gone.json", tmp_path / "b.json"), "gone.json: no such file")
    (tmp_path / "notes.md").write_text("# Mine")
    told = fmbench("compare", tmp_path / "notes.md", tmp_path / "b.json")
    refused(told, "notes.md is no JSON file")
    assert "delete" not in told.err  # it may be anything
