"""Learning rates: the same trials for every method, the best on validation, used by the tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fmbench.cli import main
from fmbench.tables.experiment import Row, config_for, read_experiment
from fmbench.tables.rates import Rates, TunedRow, read_rates, tuned, write_rates
from fmbench.tables.table import make
from fmbench.tables.tune import best_rate
from recordings import write_root
from test_tables import line_of, table_of

INFORMER = Row(label="Informer", modality="current", model="informer")


def rates(**changes: Any) -> Rates:
    row = TunedRow(lr=3e-4, tried={3e-4: 0.8, 1e-3: 0.7})
    content = {
        "profile": "cpu",
        "data": "d",
        "windows": 8,
        "select": "val/acc",
        "rows": {"informer current": row},
    }
    return Rates(**content | changes)


@pytest.mark.parametrize(
    ("tried", "select", "best"),
    [
        ({1e-4: 0.5, 1e-3: 0.9, 3e-3: 0.7}, "val/acc", 1e-3),
        ({1e-4: 0.5, 1e-3: 0.9, 3e-3: 0.7}, "val/loss", 1e-4),
        ({1e-4: 0.9, 1e-3: 0.9, 3e-3: 0.9}, "val/acc", 1e-3),  # the profile's
        ({1e-4: 0.9, 1e-3: 0.5, 3e-3: 0.9}, "val/acc", 1e-4),
    ],
)
def test_the_rate_with_the_best_validation_wins(
    tried: dict[float, float], select: str, best: float
) -> None:
    assert best_rate(tried, 1e-3, select) == best


def test_a_rate_counts_over_the_profile_and_under_the_row() -> None:
    assert tuned(None, INFORMER) == {}
    assert tuned(rates(), Row(label="ViT", modality="visual", model="vit")) == {}
    found = tuned(rates(), INFORMER)
    assert config_for(INFORMER, profile="cpu", seed=0).optim["lr"] == 1e-3
    assert config_for(INFORMER, profile="cpu", seed=0, tuned=found).optim["lr"] == 3e-4
    own = INFORMER.model_copy(update={"config": {"optim": {"lr": 0.5}}})
    assert config_for(own, profile="cpu", seed=0, tuned=found).optim["lr"] == 0.5


def test_the_file_is_read_as_it_was_written_and_damage_is_named(tmp_path: Path) -> None:
    assert read_rates(tmp_path) is None
    write_rates(rates(), tmp_path)
    assert read_rates(tmp_path) == rates()
    path = tmp_path / "rates.yaml"
    path.write_text(path.read_text().replace("lr: 0.0003", "lr: -1.0"))
    with pytest.raises(ValueError, match=r"rows\['?informer current|informer current\.lr is -1"):
        read_rates(tmp_path)


def test_what_is_not_tuned_is_said_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "fig7"]) == 2
    assert "fig7 has no rates of its own; tune table2" in capsys.readouterr().err
    write_root(tmp_path / "root", recordings=2, seconds=60, size=(32, 32))
    file = tmp_path / "rules.yaml"
    row = {"label": "R", "model": "rms_current", "modality": "current", "reference": True}
    file.write_text(yaml.safe_dump({"title": "Rules", "rows": [row], "references": False}))
    assert main(["tune", str(file), f"--data.root={tmp_path / 'root'}"]) == 2
    assert "rules has no row to tune beside reference rows" in capsys.readouterr().err


def test_the_head_names_rows_that_were_not_tuned() -> None:
    known = line_of(label="Known", model="informer", modality="current")
    other = line_of(label="Other", model="vit", modality="visual")
    table = replace(table_of(known, other), rates=rates())
    head = " ".join(table.head())
    assert "Learning rates are the best of the same few for every method" in head
    assert "The profile's rate, not tuned: Other (visual)." in head
    assert "not tuned" not in " ".join(replace(table_of(known), rates=rates()).head())
    assert "Learning rates" not in " ".join(table_of(known, other).head())


@pytest.fixture
def experiment(tmp_path: Path) -> tuple[list[str], Path]:
    """Words of `fmbench` for an experiment of one row that learns and one of rules."""
    root = tmp_path / "root"
    write_root(root, recordings=2, seconds=60, size=(32, 32))
    rows = [
        {"label": "Learner", "model": "itransformer", "modality": "current"},
        {"label": "Rules", "model": "rms_current", "modality": "current"},
    ]
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump({"title": "Two rows", "rows": rows, "references": False}))
    profile = tmp_path / "short.yaml"
    profile.write_text(
        "data: {current_samples: 12, batch_size: 4, epoch_windows: 16, val_windows: 8,"
        " test_windows: 8}\noptim: {lr: 1e-3}\nselect: val/acc\n"
        "trainer: {max_epochs: 3, accelerator: cpu}\n"
    )
    words = [str(file), "--profile", str(profile), f"--data.root={root}"]
    return [*words, "--results", str(tmp_path / "results")], tmp_path


@pytest.mark.slow
@pytest.mark.full
def test_rates_are_tried_once_and_the_table_takes_the_best(
    experiment: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words, folder = experiment
    tuning = ["tune", *words, "--windows", "8", "--runs", str(folder / "tuning"), "--jobs", "2"]
    assert main(tuning) == 0
    found = read_rates(folder / "results")
    assert found is not None
    assert list(found.rows) == ["itransformer current"]
    of_row = found.rows["itransformer current"]
    assert list(of_row.tried) == [3e-4, 1e-3, 3e-3]
    assert of_row.tried[of_row.lr] == max(of_row.tried.values())
    runs = sorted((folder / "tuning").iterdir())
    assert len(runs) == 3
    for run in runs:
        facts = json.loads((run / "val.json").read_text())
        assert facts["config"]["data"]["epoch_windows"] == 4  # 8 windows in 2 epochs
        assert facts["metrics"]["acc"] == of_row.tried[facts["config"]["optim"]["lr"]]
    capsys.readouterr()
    assert main(tuning) == 0
    assert "every row has its rate" in capsys.readouterr().out
    with_other = [*tuning[:-4], "--windows", "16"]
    assert main(with_other) == 2
    assert "rates of other data, profile or windows" in capsys.readouterr().err

    assert main(["table", *words, "--stored"]) == 0
    assert "Learning rates are the best" not in capsys.readouterr().out  # no result yet
    table = make(
        read_experiment(words[0]),
        profile=words[2],
        seeds=1,
        results=folder / "results" / "runs",
        runs=folder / "runs",
        at_once=1,
        say=lambda line: None,
        train=False,
        rates=found,
        changes={"data": {"root": str(folder / "root")}},
    )
    assert [line.jobs[0].config.optim["lr"] for line in table.lines] == [of_row.lr, 1e-3]
