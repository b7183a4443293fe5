"""The command line, as a user meets it. Runs in this process, save where start-up is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd
import pytest
import torch
import yaml

from fmbench.cli import COMMANDS, main
from fmbench.config.dotted import peek
from fmbench.config.hints import plain, words
from fmbench.config.profiles import find_config, profiles
from fmbench.config.resolve import resolve
from fmbench.tabular import SIMULATED
from fmbench.types import Modality


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def fmbench(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: str | Path) -> Outcome:
        capsys.readouterr()
        status = main([str(word) for word in argv])
        return Outcome(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lazily simulated root, made by the command itself."""
    root = tmp_path_factory.mktemp("data") / "tiny"
    assert main(["data", "simulate", "--preset", "tiny", "--lazy", "--out", str(root)]) == 0
    return root


def test_threads_that_wait_spin_for_a_moment_unless_the_user_has_said(
    fmbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "")  # so that it is as before in the end
        monkeypatch.delenv(name)
    fmbench("--version")
    assert os.environ["GOMP_SPINCOUNT"] == "1000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    fmbench("--version")
    assert os.environ["GOMP_SPINCOUNT"] == "5"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    fmbench("--version")
    assert "GOMP_SPINCOUNT" not in os.environ


SMALL_NET = ("--net.depth", "1", "--net.dim", "24")


@pytest.fixture(scope="module")
def fitted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    run = tmp_path_factory.mktemp("runs") / "run"
    words = ["fit", "--config", "smoke", *SMALL_NET, "--data.root", str(tiny), "--run", str(run)]
    assert main(words) == 0
    return run


def resolved(outcome: Outcome) -> dict[str, dict[str, object]]:
    """What `--print_config` printed."""
    assert outcome.status == 0, outcome.err
    content = yaml.safe_load(outcome.out)
    assert isinstance(content, dict)
    return content


def refused(outcome: Outcome, *parts: str) -> None:
    """Status 2, a few lines on stderr, the first of ours, and `parts` in them."""
    lines = outcome.err.splitlines()
    assert outcome.status == 2, outcome.err
    assert lines[0].startswith("fmbench: error: ")
    assert len(lines) <= 6
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.err


# Help


def test_help_lists_every_command_within_a_second_and_without_torch() -> None:
    script = (
        "import sys; from fmbench.cli import main; status = main(['--help'])\n"
        "assert not {'torch', 'lightning', 'jsonargparse'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    seconds = []
    for _ in range(3):  # the best of three: other work on the machine is no fault of ours
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        seconds.append(time.perf_counter() - began)
        assert done.returncode == 0, done.stderr
    assert min(seconds) < 1
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str, fmbench: Command) -> None:
    outcome = fmbench(*name.split(), "--help")
    assert outcome.status == 0
    assert f"fmbench {name}" in outcome.out


def test_fit_help_lists_the_options_of_the_chosen_model_with_their_meaning(
    fmbench: Command,
) -> None:
    out = " ".join(fmbench("fit", "--help", "--model", "fmformer").out.split())
    for option in ("--net.depth", "--data.batch_size", "--optim.lr", "--loss.alpha"):
        assert option in out
    assert "--trainer.max_epochs" in out
    assert "highest learning rate" in out
    assert "--trainer.callbacks" not in out


# Order: defaults < YAML < flags


def test_flags_win_over_yaml_and_yaml_over_defaults_wherever_they_stand(
    fmbench: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("net: {depth: 3, heads: 2}\noptim: {lr: 1e-2}\nseed: 7\n")
    (tmp_path / "b.yaml").write_text("net: {depth: 5}\n")
    files = ("--config", "a.yaml", "--config=b.yaml")
    for words_ in (
        ("fit", "--net.heads=4", *files, "--print_config"),
        ("fit", "--print_config", *files, "--net.heads", "4"),
        ("fit", *files[:2], "--net.heads", "4", files[2], "--print_config"),
    ):
        found = resolved(fmbench(*words_))
        assert (found["net"]["depth"], found["net"]["heads"]) == (5, 4)
        assert found["optim"]["lr"] == 1e-2  # PyYAML alone would read 1e-2 as text
        assert found["seed"] == 7
        assert found["net"]["dim"] == 96


def test_later_yaml_wins(fmbench: Command, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("net: {depth: 3}\n")
    (tmp_path / "b.yaml").write_text("net: {depth: 5}\n")
    for order, depth in ((("a.yaml", "b.yaml"), 5), (("b.yaml", "a.yaml"), 3)):
        words_ = [word for file in order for word in ("--config", file)]
        assert resolved(fmbench("fit", "--print_config", *words_))["net"]["depth"] == depth


def test_the_model_may_be_chosen_in_yaml_and_brings_its_own_options(
    fmbench: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("model: fmformer-official\nmodality: visual\n")
    official = resolved(fmbench("fit", "--config", "a.yaml", "--print_config"))
    paper = resolved(fmbench("fit", "--config", "a.yaml", "--model=fmformer", "--print_config"))
    assert official["model"] == "fmformer-official"
    assert official["modality"] == "visual"
    assert "dilation" not in official["net"]
    assert paper["net"]["dilation"] == 2


def test_print_config_fed_back_resolves_to_the_same(fmbench: Command, tmp_path: Path) -> None:
    asked = (
        "fit --print_config --config smoke --dense false --net.tube [1,4,4] --optim.lr 3e-4"
        " --trainer.limit_train_batches 0.5 --trainer.devices [0,1] --trainer.max_time 00:00:10:00"
        " --trainer.gradient_clip_val null --data.epoch_windows null --trainer.precision 16-mixed"
    )
    first = fmbench(*asked.split())
    (tmp_path / "again.yaml").write_text(first.out)
    second = fmbench("fit", "--config", "again.yaml", "--print_config")
    assert first.status == second.status == 0
    assert first.out == second.out
    found = resolved(first)
    assert found["trainer"]["limit_train_batches"] == 0.5
    assert found["trainer"]["gradient_clip_val"] is None
    assert found["net"]["tube"] == [1, 4, 4]


def test_the_trainer_gets_only_what_was_given(fmbench: Command) -> None:
    found = resolved(fmbench("fit", "--config", "smoke", "--print_config"))
    smoke = yaml.safe_load((profiles() / "smoke.yaml").read_text())
    assert found["trainer"] == smoke["trainer"]


# Profiles


@pytest.mark.parametrize("name", ["smoke", "cpu", "long", "paper", "demo"])
def test_profiles_resolve_by_name_and_by_path_and_hold_for_every_model(
    name: str, fmbench: Command
) -> None:
    outcomes = {
        fmbench("fit", "--config", form, "--print_config").out
        for form in (name, f"{name}.yaml", f"configs/{name}.yaml", str(profiles() / f"{name}.yaml"))
    }
    assert len(outcomes) == 1
    assert "net" not in yaml.safe_load((profiles() / f"{name}.yaml").read_text())


def test_fit_without_any_option_takes_the_default_profile() -> None:
    request = resolve([])
    assert (request.training.config.model, request.training.config.modality) == (
        "fmformer",
        "cross",
    )
    assert "profile cpu" in request.training.notice


def test_a_file_on_disk_comes_before_a_profile_of_its_name(
    fmbench: Command, tmp_path: Path
) -> None:
    (tmp_path / "smoke.yaml").write_text("seed: 41\n")
    assert resolved(fmbench("fit", "--config", "smoke.yaml", "--print_config"))["seed"] == 41
    assert resolved(fmbench("fit", "--config", "smoke", "--print_config"))["seed"] == 0


def test_paper_profile_is_section_four_c(fmbench: Command) -> None:
    found = resolved(fmbench("fit", "--config", "paper", "--print_config"))
    assert found["data"]["batch_size"] == 64
    assert found["data"]["frames"] == 10
    assert found["data"]["current_samples"] == 240
    assert (found["optim"]["lr"], found["optim"]["schedule"]) == (5e-4, "step")
    assert (found["optim"]["milestone"], found["optim"]["gamma"]) == (20, 0.1)
    assert found["loss"] == {"alpha": 1.0, "pixel_weight": 1.0, "positive_weight": 1.0}
    assert found["trainer"]["max_epochs"] == 30


def test_an_unknown_profile_is_refused_with_the_nearest(fmbench: Command) -> None:
    refused(fmbench("fit", "--config", "smok"), "smok", "did you mean 'smoke'", "paper")
    with pytest.raises(ValueError, match="no such file"):
        find_config("nowhere/smoke.yaml")


# Wrong usage


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("fit --modle x", ["--modle", "did you mean --model?"]),
        ("fit --mod fmformer", ["--mod;", "did you mean --model?"]),
        ("fit --net.dept 4", ["--net.dept;", "did you mean --net.depth?"]),
        ("fit --net.depth=four", ["--net.depth is 'four'", "a whole number"]),
        ("fit --net.depth 4.5", ["--net.depth is '4.5'", "a whole number"]),
        ("fit --net.depth null", ["--net.depth is 'null'", "a whole number"]),
        ("fit --net.depth", ["--net.depth", "expected one argument"]),
        ("fit --net {depth:3}", ["--net;", "did you mean --net."]),
        ("fit --lr 3", ["--lr;", "did you mean --optim.lr?"]),
        ("fit --optim.schedule cosin", ["step, cosine", "did you mean 'cosine'?"]),
        ("fit --trainer.max_epoch 3", ["did you mean --trainer.max_epochs?"]),
        ("fit --trainer.precision 17", ["--trainer.precision is '17'", "16-mixed"]),
        ("fit --trainer.callbacks x", ["--trainer.callbacks", "no flag or file can name"]),
        ("fit --trainer.logger true", ["use --logger"]),
        ("fit --data.modality cross", ["use --modality"]),
        ("fit --seed x", ["--seed is 'x'"]),
        ("fit --model fmfromer", ["fmfromer", "did you mean 'fmformer'?", "fmformer-official"]),
        ("fit --modality vision", ["vision", "current, visual, cross"]),
        ("fit --config", ["--config", "expected one argument"]),
        ("fit stray", ["unexpected 'stray'"]),
        ("fit --data.fit padd", ["--data.fit is 'padd'", "did you mean 'pad'?"]),
        ("fit --data.image_size 96", ["--data.image_size is '96'", "a list [a whole number"]),
        ("fit --data.root nowhere", ["nowhere", "no such folder"]),
        ("fitt", ["'fitt'", "did you mean 'fit'?"]),
        ("data chekc x", ["'data chekc'", "did you mean 'data check'?"]),
        ("data check", ["root is missing"]),
        ("data check nowhere", ["no such folder: nowhere", "fmbench data simulate"]),
        ("data stats nowhere", ["no such folder: nowhere", "fmbench data simulate"]),
        ("data simulate --preset tinny", ["tinny", "did you mean 'tiny'?", "paper"]),
        ("data simulate --set x", ["--set x", "NAME=VALUE"]),
        ("data simulate --seed x", ["--seed is 'x'"]),
        ("test", ["--checkpoint is missing"]),
        ("test --checkpoint nowhere.ckpt", ["nowhere.ckpt: no such file"]),
        ("test --checkpoint x --split tset", ["--split is 'tset'", "did you mean 'test'?"]),
        ("predict", ["--checkpoint is missing"]),
        ("predict --checkpoint x", ["recording is missing"]),
        ("predict rec --checkpoint x --video", ["give --movie"]),
        ("predict --checkpoint x rec --video --every 5", ["give --movie"]),
        ("predict rec", ["--checkpoint is missing"]),
        ("predict rec --every 0 --checkpoint x", ["--every is 0", "at least 1"]),
        ("predict rec --every 0s --checkpoint x", ["--every is 0s", "above 0s"]),
        ("predict rec --every 1.5 --checkpoint x", ["--every is '1.5'", "such as 25", "1s"]),
        ("predict rec --every 1min --checkpoint x", ["--every is '1min'", "such as 25", "1s"]),
        ("models --modality vision", ["vision", "current, visual, cross"]),
        ("import-official a.pth", ["target is missing"]),
        ("import-official a.pth b.ckpt", ["a.pth: no such file"]),
        ("demo --dri x", ["--dri", "did you mean --dir?"]),
    ],
)
def test_wrong_usage_is_refused_in_a_few_lines(
    line: str, parts: list[str], fmbench: Command, tmp_path: Path
) -> None:
    refused(fmbench(*line.split()), *parts)
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_read_the_modality_says_what_does(
    fmbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fmbench import registry

    models = registry.catalogue()
    only_current = type("OnlyCurrent", (), {"modalities": frozenset({Modality.CURRENT})})
    monkeypatch.setattr(registry, "catalogue", lambda: {**models, "only-current": only_current})
    refused(
        fmbench("fit", "--model", "only-current", "--modality", "cross"),
        "only-current reads current, not cross",
        "Models that read cross: always_abnormal, bilm, ",
    )


def test_debug_anywhere_shows_the_traceback_and_keeps_the_status(fmbench: Command) -> None:
    for line in ("--debug fit --modle x", "fit --debug --modle x", "fit --modle x --debug"):
        outcome = fmbench(*line.split())
        assert outcome.status == 2
        assert "Traceback" in outcome.err
        assert outcome.err.splitlines()[-1].startswith("fmbench: error: ")


# YAML


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trainer: {max_epoch: 3}", ["trainer.max_epoch;", "did you mean trainer.max_epochs?"]),
        ("net: {dept: 3}", ["net.dept;", "did you mean net.depth?"]),
        ("modle: fmformer", ["modle;", "did you mean model?"]),
        ("run: here", ["no option run", "Known: compile, dense"]),
        ("net: {depth: four}", ["net.depth is 'four'", "a whole number"]),
        ("net: {depth: true}", ["net.depth is True", "a whole number"]),
        ("net: {depth: null}", ["net.depth is null", "a whole number"]),
        ("optim: {schedule: cosin}", ["did you mean 'cosine'?"]),
        ("net: 3", ["net is 3", "a mapping"]),
        ("[1, 2]", ["[1, 2]", "a mapping"]),
        ("net: [1", ["a.yaml:1", "expected"]),
        ("seed: 1\nnet: {depth: 2", ["a.yaml:2", "expected"]),
    ],
)
def test_wrong_yaml_is_refused_with_the_file(
    text: str, parts: list[str], fmbench: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(text)
    refused(fmbench("fit", "--config", "a.yaml"), "a.yaml", *parts)


@pytest.mark.parametrize(
    "text",
    [
        "trainer: {callbacks: [{class_path: harm.Harm}]}",
        "trainer: {callbacks: {class_path: harm.Harm}}",
        "trainer: {profiler: {class_path: harm.Harm, init_args: {}}}",
        "trainer: {strategy: {class_path: harm.Harm}}",
        "trainer: {max_time: {class_path: harm.Harm}}",
        "data: {class_path: harm.Harm, init_args: {}}",
        "data: {root: {class_path: harm.Harm}}",
        "net: {class_path: harm.Harm}",
        "net: {depth: {class_path: harm.Harm}}",
        "net: {tube: [{class_path: harm.Harm}, 8, 8]}",
        "optim: {class_path: harm.Harm}",
        "model: {class_path: harm.Harm}",
        "model: harm.Harm",
        "seed: !!python/object/apply:harm.Harm []",
        "net: !!python/name:harm.Harm",
        "net: !!python/module:harm",
    ],
)
def test_nothing_is_imported_because_a_file_names_it(
    text: str, fmbench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "harm.py").write_text("open('harmed', 'w').close()\nclass Harm: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a.yaml").write_text(text)
    refused(fmbench("fit", "--config", "a.yaml"), "fmbench: error: ")
    assert not (tmp_path / "harmed").exists()
    assert "harm" not in sys.modules


def test_a_flag_names_no_class_either(fmbench: Command, tmp_path: Path) -> None:
    value = "{class_path: os.system, init_args: {command: 'touch harmed'}}"
    for option in ("--net.depth", "--trainer.max_epochs", "--optim.lr"):
        refused(fmbench("fit", option, value), option)
    # A text option keeps it as the text that it is.
    found = resolved(fmbench("fit", "--print_config", "--trainer.profiler", value))
    assert found["trainer"]["profiler"] == value
    assert not (tmp_path / "harmed").exists()


# Types


def test_only_plain_types_remain() -> None:
    assert plain(int | None) == int | None
    assert plain(str | Path) is str
    assert plain(bool | Path | None) == bool | str | None
    assert plain(Modality) == Literal["current", "visual", "cross"]
    assert plain(tuple[int, ...]) == tuple[int, ...]
    assert plain(list[Callable[[], None]] | None) is None
    assert plain(object) is None
    assert plain(type) is None


def test_types_are_named_in_words() -> None:
    assert words(int | None) == "a whole number or null"
    assert words(Literal["a", "b"]) == "one of a, b"
    assert words(tuple[int, int]) == "a list [a whole number, a whole number]"


def test_peek_finds_both_forms_in_order() -> None:
    assert peek(["--a", "1", "--b", "--a=2", "--a"], "--a") == ["1", "2"]
    assert peek(["--ab", "1"], "--a") == []


# Commands that work


def test_models_lists_parameters_at_the_papers_size(fmbench: Command) -> None:
    rows = [line.split() for line in fmbench("models").out.splitlines()]
    assert rows[0] == ["model", "modality", "parameters", "dense"]
    assert ["fmformer", "cross", "3,292,774", "yes"] in rows
    assert ["fmformer", "visual", "1,920,932", "yes"] in rows
    assert ["fmformer", "current", "1,371,842", "no"] in rows
    only = [line.split() for line in fmbench("models", "--modality", "visual").out.splitlines()]
    assert only[1:] == [row for row in rows[1:] if row[1] == "visual"]


def test_simulated_data_are_made_checked_and_counted(fmbench: Command, tiny: Path) -> None:
    outcome = fmbench("data", "check", tiny)
    assert (outcome.status, outcome.out) == (0, f"{tiny}: no faults, no warnings\n")
    outcome = fmbench("data", "stats", tiny)
    assert outcome.status == 0
    assert "normal" in outcome.out
    assert "abnormal" in outcome.out


def test_simulating_shows_plain_lines_where_there_is_no_terminal(
    fmbench: Command, tmp_path: Path
) -> None:
    outcome = fmbench("data", "simulate", "--preset=tiny", "--lazy", "--seed", "5", "--out", "x")
    assert outcome.status == 0
    assert "\x1b" not in outcome.out
    assert outcome.out.splitlines()[-1] == "x: synthetic (simulator v2), preset tiny, seed 5"
    assert (tmp_path / "x").is_dir()


def test_a_simulator_setting_changes_the_data(fmbench: Command, tiny: Path) -> None:
    asked = ("data", "simulate", "--preset", "tiny", "--lazy", "--out")
    assert fmbench(*asked, "calm", "--set", "process.beta=0").status == 0
    assert fmbench(*asked, "same").status == 0
    texts = {
        root: [file.read_text() for file in sorted(root.rglob("currents/*.csv"))]
        for root in (tiny, Path("calm"), Path("same"))
    }
    assert texts[tiny]
    assert texts[Path("same")] == texts[tiny]
    assert texts[Path("calm")] != texts[tiny]
    refused(fmbench(*asked, "x", "--set", "process.betta=0"), "betta")


def test_faults_are_listed_and_the_status_is_one(fmbench: Command, tmp_path: Path) -> None:
    fmbench("data", "simulate", "--preset", "tiny", "--lazy", "--out", "broken")
    currents = sorted(Path("broken").rglob("currents/*.csv"))[0]
    currents.write_text("\n".join(currents.read_text().splitlines()[:-1]) + "\n")
    outcome = fmbench("data", "check", "broken")
    assert outcome.status == 1
    assert currents.name in outcome.out
    assert "fault" in outcome.out.splitlines()[-1]


def test_fit_leaves_a_run_that_test_and_predict_take(
    fmbench: Command, fitted: Path, tiny: Path, tmp_path: Path
) -> None:
    best = fitted / "checkpoints" / "best.ckpt"
    outcome = fmbench("test", "--checkpoint", best, "--data.root", tiny, "--out", tmp_path / "t")
    assert outcome.status == 0, outcome.err
    first, *rows = outcome.out.splitlines()
    assert "synthetic data (simulator v2" in first
    printed = dict(row.split() for row in rows)
    written = json.loads((tmp_path / "t" / "test.json").read_text())["metrics"]
    assert float(printed["acc"]) == pytest.approx(written["acc"], abs=1e-4)

    recordings = pd.read_csv(tmp_path / "t" / "test-predictions.csv")["recording"]
    outcome = fmbench(
        "predict", recordings[0], "--checkpoint", best, "--data.root", tiny, "--out", "p",
        "--every", "250",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    files = [Path(line) for line in outcome.out.splitlines()]
    assert {file.suffix for file in files} == {".csv", ".png"}
    assert all(file.stat().st_size > 0 for file in files)


def test_a_run_is_not_overwritten_by_another(fmbench: Command, fitted: Path, tiny: Path) -> None:
    before = (fitted / "checkpoints" / "best.ckpt").read_bytes()
    asked = ("fit", "--config", "smoke", "--data.root", tiny, "--run", fitted)
    refused(fmbench(*asked), "holds a run already", "--resume auto")
    assert (fitted / "checkpoints" / "best.ckpt").read_bytes() == before


def test_a_run_goes_on_with_the_configuration_that_it_wrote(
    fmbench: Command, fitted: Path, tmp_path: Path
) -> None:
    found = resolved(fmbench("fit", "--run", fitted, "--resume", "auto", "--print_config"))
    assert found == yaml.safe_load((fitted / "config.yaml").read_text())
    assert found["net"]["dim"] == 24


def test_fit_without_data_makes_the_default_set_and_says_so(
    fmbench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fmbench.cli import data

    asked: list[dict[str, object]] = []
    write = data.write

    def smaller(root: Path, **settings: object) -> None:
        """The default set itself takes minutes; its recipe is noted, a tiny one is made."""
        asked.append(settings)
        write(root, **(settings | {"preset": "tiny"}))

    monkeypatch.setattr(data, "write", smaller)
    outcome = fmbench("fit", "--config", "smoke", *SMALL_NET, "--modality", "current")
    assert outcome.status == 0, outcome.err
    assert "making the default simulated set" in outcome.out
    assert asked == [{"preset": "wide", "seed": 0, "lazy": True}]
    assert (tmp_path / "data" / "sim").is_dir()
    assert len(list((tmp_path / "runs").glob("fmformer-current-*/checkpoints/best.ckpt"))) == 1


def test_without_a_configuration_the_cpu_profile_is_used_and_named(
    fmbench: Command, tiny: Path
) -> None:
    found = resolved(fmbench("fit", "--print_config"))
    cpu = yaml.safe_load((profiles() / "cpu.yaml").read_text())
    assert cpu["data"].items() <= found["data"].items()
    quick = (
        "--trainer.max_epochs 1 --trainer.limit_train_batches 1 --trainer.log_every_n_steps 1"
        " --data.val_windows 8"
    )
    outcome = fmbench("fit", *SMALL_NET, *quick.split(), "--data.root", tiny, "--run", "r")
    assert outcome.status == 0, outcome.err
    assert "profile cpu" in outcome.out
    assert "--config paper" in outcome.out


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ("--data.stride 0", ["stride is 0"]),
        ("--data.batch_size 0", ["batch_size is 0"]),
        ("--data.frames 3", ["3 frames", "2 or 4"]),
        ("--net.tube [2,7,8]", ["64", "7"]),
        ("--trainer.accelerator gpuu", ["gpuu"]),
        ("--dense true --modality current", ["dense"]),
    ],
)
def test_values_that_do_not_fit_are_refused(
    options: str, parts: list[str], fmbench: Command, tiny: Path
) -> None:
    asked = ("fit", "--config", "smoke", "--data.root", tiny, "--run", "r")
    refused(fmbench(*asked, *options.split()), *parts)


def test_a_root_without_recordings_is_refused(fmbench: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(fmbench("fit", "--data.root", "empty", "--run", "r"), "empty")


def test_a_read_only_run_folder_is_refused(fmbench: Command, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir(mode=0o500)
    if os.geteuid() == 0:  # root writes anywhere, save where the kernel itself refuses
        folder = Path("/sys")
    run = folder / "run"
    refused(fmbench("fit", "--config", "smoke", "--data.root", tiny, "--run", run), f"{run}: ")


def test_a_run_folder_that_is_a_file_is_refused(
    fmbench: Command, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "r").write_text("")
    refused(fmbench("fit", "--config", "smoke", "--data.root", tiny, "--run", "r"), "r: ")


def test_a_file_that_is_no_checkpoint_is_refused(fmbench: Command, tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_text("no weights")
    refused(fmbench("test", "--checkpoint", "a.ckpt"), "a.ckpt")


def test_ctrl_c_ends_with_130_says_how_to_go_on_and_leaves_a_whole_checkpoint(
    tiny: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words_ = [
        "fit", "--config", "smoke", *SMALL_NET, "--data.root", str(tiny), "--run", str(run),
        "--trainer.max_epochs", "10000",
    ]  # fmt: skip
    # A process started in the background inherits an ignored SIGINT; a user's terminal does not.
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fmbench.cli import main
sys.exit(main({words_!r}))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    last = run / "checkpoints" / "last.ckpt"
    for _ in range(1200):
        if last.is_file() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert "fmbench: error: interrupted" in err
    assert f"go on with: fmbench fit --run {run} --resume auto" in err
    assert "Traceback" not in err
    assert main(["test", "--checkpoint", str(last), "--data.root", str(tiny)]) == 0
    epoch = torch.load(last, weights_only=True)["epoch"]
    again = ["fit", "--run", str(run), "--resume", "auto", "--trainer.max_epochs"]
    assert main([*again, str(epoch + 3)]) == 0
    assert torch.load(last, weights_only=True)["epoch"] > epoch


@pytest.mark.slow
def test_demo_ends_with_the_papers_metrics_and_a_picture(fmbench: Command, tmp_path: Path) -> None:
    outcome = fmbench("demo", "--dir", "demo", "--config", "smoke")
    assert outcome.status == 0, outcome.err
    for name in ("Acc", "F1", "FDR", "MDR", "mIoU", SIMULATED, "next:"):
        assert name in outcome.out
    pictures = [line for line in outcome.out.splitlines() if line.endswith(".png")]
    assert Path(pictures[0]).stat().st_size > 10_000


def test_a_part_of_an_option_that_has_none_is_answered_with_the_option(fmbench: Command) -> None:
    refused(fmbench("fit", "--run.out", "x"), "no option --run.out", "did you mean --run?")


def test_processes_of_one_training_share_a_folder(
    fmbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fmbench.config.resolve import resolve

    named = resolve([]).folder
    monkeypatch.setenv("LOCAL_RANK", "1")  # as Lightning tells the processes that it starts
    assert resolve([]).folder == named
    assert resolve(["--run", "mine"]).folder == Path("mine")
    monkeypatch.delenv("LOCAL_RANK")
    for launcher in ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2"}, {"SLURM_NTASKS": "2"}):
        with monkeypatch.context() as started:
            for name, value in launcher.items():
                started.setenv(name, value)
            refused(fmbench("fit"), "--run is missing; processes that torchrun or srun starts")
            assert resolve(["--run", "mine"]).folder == Path("mine")
