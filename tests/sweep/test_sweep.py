"""W&B sweep files, run without a server; the same files as W&B's own code sees them."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from fmbench.cli import main
from fmbench.config.resolve import resolve
from fmbench.sweep import known_sweeps, read_sweep, run_sweep, write_summary
from fmbench.sweep.file import extremes
from recordings import write_root
from test_cli import Command, fmbench, refused
from test_tables import INTERRUPTIBLE

__all__ = ["fmbench"]  # a fixture

SWEEPS = Path(__file__).parents[2] / "configs" / "sweep"
TINY: dict[str, Any] = {
    "program": "fmbench",
    "command": ["${env}", "fmbench", "fit", "--logger", "wandb", "${args}"],
    "method": "grid",
    "metric": {"name": "val/acc", "goal": "maximize"},
    "parameters": {
        "modality": {"value": "current"},
        "net.depth": {"value": 1},
        "optim.lr": {"values": [0.001, 0.003]},
        "net": {"values": [{"dim": 12}, {"dim": 24}]},
    },
}
FAST = {
    "data.current_samples": 12,
    "data.batch_size": 8,
    "data.epoch_windows": 16,
    "data.val_windows": 20,
    "data.val_fraction": 0.2,
    "data.guard_seconds": 5,
    "trainer.max_epochs": 2,
    "trainer.accelerator": "cpu",
}


def write(folder: Path, **changes: Any) -> str:
    content = {key: value for key, value in (TINY | changes).items() if value is not None}
    (folder / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return str(folder / "mine.yaml")


def fast(root: Path) -> list[str]:
    return [f"--data.root={root}", *(f"--{name}={value}" for name, value in FAST.items())]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=2, seconds=60, size=(32, 32))
    return folder


# Files


def test_ours_are_the_ablations_of_the_paper() -> None:
    assert known_sweeps() == ["alpha", "lengths", "lr", "table3", "table5"]
    assert len(read_sweep("table5").combinations()) == 4  # IDs 1 to 4
    assert len(read_sweep("table3").combinations()) == 6


@pytest.mark.parametrize("name", known_sweeps())
def test_the_command_that_wandbs_agent_builds_is_one_that_fit_takes(name: str) -> None:
    """What `wandb agent` does with the file, by its own functions (0.31: `_command_run`)."""
    content = yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())
    sweep = read_sweep(name)
    for k in range(max(len(extremes(each)) for each in sweep.space.values())):
        chosen = {}
        for parameter, entry in content["parameters"].items():
            values = entry.get("values") or [entry.get("value", entry.get("min")), entry.get("max")]
            value = values[k % len(values)]
            chosen[parameter] = {"value": values[0] if value is None else value}
        macros = create_sweep_command_args({"args": chosen}) | {"env": ["/usr/bin/env"]}
        words: list[str] = []
        for word in create_sweep_command(content["command"]):
            words += macros[word[2:-1]] if word.startswith("${") else [word]
        assert words[:3] == ["/usr/bin/env", "fmbench", "fit"]
        config = resolve(words[3:]).training.config
        assert config.logger == "wandb"
        for parameter, entry in chosen.items():
            group, _, option = parameter.partition(".")
            asked = getattr(config, group)
            if isinstance(entry["value"], dict):
                assert entry["value"].items() <= dict(asked).items()
            else:
                assert (asked[option] if option else asked) == pytest.approx(entry["value"])


@pytest.mark.slow
def test_our_files_are_valid_by_wandbs_own_schema(tmp_path: Path) -> None:
    """The schema is in W&B's package `sweeps`, which asks for NumPy 1 and so is not installed."""
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(tmp_path)]
    if subprocess.run([*words, "sweeps>=0.2"], capture_output=True).returncode:
        pytest.skip("pip reaches no package index")
    (wheel,) = tmp_path.glob("*.whl")
    schema = json.loads(zipfile.ZipFile(wheel).read("sweeps/config/schema.json"))
    for path in SWEEPS.glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(TINY | {"method": "guess"}, schema)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"colour": 1}, "mine.yaml: there is no key 'colour'"),
        ({"method": "guess"}, "method: there is no 'guess'\nKnown: grid, random, bayes"),
        ({"metric": {"name": "test/acc"}}, "metric.name: 'test/acc' is none of validation"),
        ({"metric": None}, "metric is missing: name, one of validation such as val/acc"),
        (
            {"metric": {"name": "val/acc", "goal": "max"}},
            "metric.goal: there is no 'max'\nKnown: maximize, minimize",
        ),
        ({"run_cap": 0}, "run_cap is 0; it must be at least 1"),
        ({"parameters": {}}, "parameters is {}; it must be at least 1 long: value, values"),
        (
            {"early_terminate": {"type": "hyperband"}},
            "early_terminate is {'type': 'hyperband'}; it must be left out: it needs W&B's server",
        ),
        ({"command": ["rm", "-rf", "/", "${args}"]}, "here only a fit can be run"),
        ({"command": ["fmbench", "fit"]}, "here only a fit can be run"),
        ({"command": "fmbench fit"}, "it must be a list"),
        ({"program": "train.py", "command": None}, "here only a fit can be run"),
        ({"parameters": {"optim.lr": 3}}, "parameters.optim.lr: give it value, values"),
        ({"parameters": {"optim": {"parameters": {}}}}, "nested names are written with dots"),
        ({"parameters": {"optim.lr": {"values": 3}}}, "values is 3; it must be a list"),
        ({"parameters": {"optim.lr": {"min": "1e-4", "max": 1.0}}}, "write 1.0e-4"),
        ({"parameters": {"optim.lr": {"value": 1.0}}}, "every parameter has one value"),
        ({"parameters": {"optim.lr": {"min": 0.1}}}, "parameters.optim.lr: max is None"),
        ({"parameters": {"optim.lr": {"min": 0.1, "max": 1.0}}}, "a grid needs values"),
        (
            {"parameters": {"optim.lr": {"min": 0.1, "max": 1.0, "distribution": "beta"}}},
            "distribution 'beta' cannot be followed here",
        ),
        (
            {
                "method": "random",
                "parameters": {
                    "optim.lr": {"min": 0.0, "max": 1.0, "distribution": "log_uniform_values"}
                },
            },
            "parameters.optim.lr: ",
        ),
    ],
)
def test_a_wrong_sweep_file_is_refused_with_its_place(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError) as refusal:
        read_sweep(write(tmp_path, **changes))
    assert said in str(refusal.value)


def test_a_sweep_that_does_not_exist_is_answered_with_the_nearest(fmbench: Command) -> None:
    refused(fmbench("sweep", "tabel5"), "no sweep 'tabel5'; did you mean 'table5'?", "lengths")
    refused(fmbench("sweep", "lr", "--jobs", "0"), "--jobs is 0; it must be at least 1")


def test_what_fit_does_not_take_is_refused_before_anything_is_trained(
    tmp_path: Path, root: Path, fmbench: Command
) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"optim.rate": {"values": [1, 2]}}, "there is no option --optim.rate"),
        ({"optim.lr": {"values": [0.1, "high"]}}, "--optim.lr is 'high'; it takes a number"),
        ({"net": {"values": [{"dim": 12}, {"dimm": 12}]}}, "there is no option net.dimm"),
    ]
    for parameters, said in cases:
        path = write(tmp_path, parameters=parameters)
        refused(fmbench("sweep", path, "--data.root", root, "--out", tmp_path / "out"), said)
        assert not (tmp_path / "out").exists()
    path = write(tmp_path, method="random")
    told = fmbench("sweep", path, "--data.root", root, "--out", tmp_path / "out")
    refused(told, "method random has no end; say how many: --count 20")


# Runs


@pytest.mark.full
@pytest.mark.slow
def test_a_grid_is_trained_once_and_goes_on(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sweep", write(tmp_path), "--out", str(tmp_path / "out"), *fast(root)]
    assert main([*words, "--count", "3"]) == 0
    assert main([*words, "--jobs", "2"]) == 0
    table = pd.read_csv(tmp_path / "out" / "mine.csv").sort_values("trial")
    found = list(zip(table["optim.lr"], table["net"], strict=True))
    dims = [str({"dim": 12}), str({"dim": 24})]
    assert found == [(0.001, dims[0]), (0.001, dims[1]), (0.003, dims[0]), (0.003, dims[1])]
    for number, (lr, net), value in zip(table["trial"], found, table["val/acc"], strict=True):
        run = tmp_path / "out" / f"{number:03d}"
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert (config["optim"]["lr"], f"{{'dim': {config['net']['dim']}}}") == (lr, net)
        assert config["logger"] == "csv"  # no server
        logged = pd.read_csv(run / "log" / "version_0" / "metrics.csv")["val/acc"]
        assert value == pytest.approx(logged.max(), abs=1e-5)
        assert not (run / "test.json").exists()
    assert (tmp_path / "out" / "mine.png").stat().st_size > 10_000

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/val.json")}
    capsys.readouterr()
    assert main(words) == 0
    assert "min] trial" not in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("out/*/val.json")} == stamps
    assert main([*words, "--trainer.max_epochs", "3"]) == 2
    assert "holds trials of other settings" in capsys.readouterr().err
    (tmp_path / "out" / "trials.db").write_bytes(b"no database" * 100)
    assert main(words) == 2
    assert "trials.db is no database of trials, or a damaged one" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.full
def test_a_trial_that_fails_takes_no_other_with_it_and_is_tried_again(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {
        "model": {"value": "fmformer"},
        "modality": {"value": "current"},
        "net.depth": {"value": 1},
        "net.dim": {"values": [12, 13]},  # 13 channels do not go into 3 heads
    }
    path = write(tmp_path, parameters=parameters)
    words = ["sweep", path, "--out", str(tmp_path / "out"), *fast(root)]
    for trials in (2, 3):
        assert main(words) == 1
        assert "failed: " in capsys.readouterr().out
        table = pd.read_csv(tmp_path / "out" / "mine.csv")
        assert len(table) == trials
        assert table["val/acc"].notna().tolist() == [True] + [False] * (trials - 1)


@pytest.mark.slow
@pytest.mark.full
def test_a_sweep_that_is_stopped_tries_the_same_as_one_that_is_not(
    tmp_path: Path, root: Path
) -> None:
    parameters = TINY["parameters"] | {
        "net": {"value": {"dim": 12}},
        "optim.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
    }
    path = write(tmp_path, method="random", run_cap=2, parameters=parameters)
    words = ["sweep", path, *fast(root), "--trainer.max_epochs", "40"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *words, "--out", str(tmp_path / "a")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("a/001/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "go on with the same command" in err
    assert not (tmp_path / "a" / "001" / "val.json").exists()
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    assert main([*words, "--out", str(tmp_path / "b")]) == 0
    first, second = (pd.read_csv(tmp_path / x / "mine.csv").sort_values("trial") for x in "ab")
    assert first["optim.lr"].tolist() == second["optim.lr"].tolist()
    assert first["optim.lr"].nunique() == 2
    assert len(first) == 2


def test_two_do_not_run_the_same_sweep(tmp_path: Path, root: Path) -> None:
    import fcntl

    sweep = read_sweep(write(tmp_path))
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another process runs the sweep"):
            run_sweep(sweep, out=tmp_path / "out", at_once=1, say=print, more=fast(root))


def test_bayes_draws_nearer_to_what_was_good() -> None:
    """The samplers as the sweep uses them, a new one for each trial, on a parabola."""
    from fmbench.sweep.trials import _trials

    sweep = read_sweep("lr")
    study = optuna.create_study(direction="maximize")
    for trial in _trials(sweep, study, 20):
        study.tell(trial.number, -((math.log10(trial.params["optim.lr"]) + 3) ** 2))
    drawn = np.log10([trial.params["optim.lr"] for trial in study.trials])
    assert drawn.min() >= -4
    assert drawn.max() <= -2
    assert np.abs(drawn[12:] + 3).mean() < 0.1  # 0.5 of values drawn evenly


def test_the_best_trial_stands_first_and_failures_last(tmp_path: Path) -> None:
    sweep = read_sweep("lr")
    table = pd.DataFrame(
        {
            "trial": [0, 1, 2],
            "optim.lr": [1e-3, 2e-3, 3e-3],
            "optim.warmup_steps": [50, 60, 70],
            "val/acc": [0.7, math.nan, 0.8],
            "failed": ["", "out of memory", ""],
        }
    )
    written = write_summary(sweep, table, "Simulated recordings.", tmp_path)
    lines = written[0].read_text().splitlines()
    assert lines[2] == "Simulated recordings."
    assert [line.split(" | ")[0] for line in lines[-3:]] == ["| 2", "| 0", "| 1"]
    assert "failed: out of memory" in lines[-1]
    assert len(written) == 3
