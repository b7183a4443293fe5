"""What `fit` can be told: defaults, YAML files and flags, resolved to one Config."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch import Trainer

from fmbench.config.dotted import nest, peek
from fmbench.config.parser import Parser
from fmbench.config.profiles import find_config
from fmbench.config.schema import Config
from fmbench.data import FurnaceData
from fmbench.files.yaml_json import read_yaml
from fmbench.objective import Loss, Optim
from fmbench.registry import find_model

DEFAULT_PROFILE = "cpu"
RUN = "FMBENCH_RUN"
"""Variable that tells the processes that Lightning starts for a training its folder."""


class Request(NamedTuple):
    """What a `fit` command line asks for."""

    config: Config
    run: Path
    resume: str | None
    force: bool
    own_root: bool
    """Whether the user named the data's root."""
    print_config: bool
    notice: str


def resolve(argv: list[str]) -> Request:
    """Defaults, YAML files and flags of `fit`, in this order, as one Request."""
    parser = Parser("fit", "Train a model. Order: defaults < YAML files < flags.")
    parser.option("run", str | None, None, "its folder (default: a new one in runs/)")
    parser.option("resume", str | None, None, "go on from: auto, or a checkpoint")
    parser.flag("force", "go on although configuration or recordings have changed")
    parser.flag("print_config", "print the resolved YAML and stop")
    config, values, given, notice = training(parser, argv)
    return Request(
        config=config,
        run=Path(values["run"] or _new_folder(config, asked_only=values["print_config"])),
        resume=values["resume"],
        force=values["force"],
        own_root="data.root" in given,
        print_config=values["print_config"],
        notice=notice,
    )


def training(parser: Parser, argv: list[str]) -> tuple[Config, dict[str, Any], set[str], str]:
    """The Config that a command line asks for, for a command with options of its own.

    Args:
        parser: with the command's own options; those of a training are added.
        argv: the command's flags.

    Returns:
        The Config, every option's value, the names of those given, and a line about the
        configuration files if the user named none.
    """
    files, notice = _config_files(argv)
    layers = [(file, read_yaml(find_config(file))) for file in files]
    parser.repeated("config", "a YAML file or a profile; the later wins", metavar="FILE")
    _add_training(parser, argv, layers)
    values, given = parser.values(argv, layers)
    return _config(values, given), values, given, notice


def _new_folder(config: Config, *, asked_only: bool) -> str:
    """A run's folder named after model and time, one for all processes of the training.

    Raises:
        ValueError: processes that were started side by side, which would each name their own.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0" and RUN in os.environ:
        return os.environ[RUN]  # Lightning started us
    tasks = os.environ.get("WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_NTASKS")
    if int(tasks or 1) > 1 and not asked_only:
        raise ValueError(
            "--run is missing; processes that torchrun or srun starts must be told the folder that"
            " they share: --run runs/NAME"
        )
    os.environ[RUN] = f"runs/{config.model}-{config.modality}-{datetime.now():%Y%m%d-%H%M%S}"
    return os.environ[RUN]


def config_of(layers: Sequence[tuple[str, Any]]) -> Config:
    """The Config of YAML contents alone.

    Args:
        layers: (name for messages, content), later ones winning.

    Raises:
        ValueError: an unknown option, or a value that it does not take.
    """
    parser = Parser("fit", "")
    _add_training(parser, [], layers)
    return _config(*parser.values([], layers))


def _config_files(argv: list[str]) -> tuple[list[str], str]:
    """The YAML files to read in order, and a line about them if the user named none.

    A run that goes on starts from the configuration that it wrote down.
    """
    named = peek(argv, "--config")
    if named:
        return named, ""
    if peek(argv, "--resume") and peek(argv, "--run"):
        stored = Path(peek(argv, "--run")[-1]) / "config.yaml"
        if stored.is_file():
            return [str(stored)], f"configuration: {stored}"
    return [DEFAULT_PROFILE], (
        f"configuration: profile {DEFAULT_PROFILE}, minutes on 2 cores"
        " (--config paper: the paper's recipe)"
    )


def _add_training(parser: Parser, argv: list[str], layers: Sequence[tuple[str, Any]]) -> None:
    """All options of a Config; those under `net` are of the model that is asked for."""
    chosen: dict[str, str] = {"model": Config.model, "modality": Config.modality}
    for _, content in layers:
        if isinstance(content, dict):
            chosen |= {key: str(content[key]) for key in chosen if content.get(key) is not None}
    chosen |= {key: peek(argv, f"--{key}")[-1] for key in chosen if peek(argv, f"--{key}")}
    model = find_model(chosen["model"], chosen["modality"])
    parser.add_signature("", Config, "what is trained")
    parser.add_signature("net", model, f"{chosen['model']}: its own options")
    add_data(parser, "data")
    parser.add_signature("optim", Optim, "optimiser")
    parser.add_signature("loss", Loss, "loss")
    add_trainer(parser)


def _config(values: dict[str, Any], given: set[str]) -> Config:
    """The resolved Config; of the trainer only what was given, the rest is Lightning's choice."""
    kept = {
        name: value
        for name, value in values.items()
        if not name.startswith("trainer.") or name in given
    }
    empty: dict[str, Any] = {group: {} for group in ("net", "data", "optim", "loss", "trainer")}
    tree = empty | nest(kept)
    return Config(**{field.name: tree[field.name] for field in fields(Config)})


def add_data(parser: Parser, title: str) -> None:
    parser.add_signature(
        "data",
        FurnaceData,
        title,
        instead={"modality": "use --modality", "seed": "use --seed"},
    )


def add_trainer(parser: Parser) -> None:
    parser.add_signature(
        "trainer",
        Trainer,
        "Lightning's Trainer",
        instead={
            "logger": "use --logger",
            "default_root_dir": "use --run",
            "enable_checkpointing": "a run always keeps its checkpoints",
            "enable_model_summary": "the first line of a run says how large the model is",
            "enable_progress_bar": "a bar on a terminal, plain lines elsewhere",
            "use_distributed_sampler": "each window goes to one process, once",
            "fast_dev_run": "it would leave no checkpoint; use --config smoke",
            "barebones": "it would leave no checkpoint and no metrics",
            "callbacks": "a callback is an object, which no flag or file can name",
            "plugins": "a plug-in is an object, which no flag or file can name",
        },
    )
