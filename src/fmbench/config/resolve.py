"""A training's options: defaults, YAML files and flags, resolved to one Config."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from lightning.pytorch import Trainer

from fmbench.config.command import Options, Reader, arguments
from fmbench.config.dotted import nest, peek
from fmbench.config.hints import Folder
from fmbench.config.parser import Parser
from fmbench.config.profiles import find_config
from fmbench.config.schema import Config, as_plain
from fmbench.data import FurnaceData
from fmbench.files.yaml_json import read_yaml
from fmbench.objective import Loss, Optim
from fmbench.registry import find_model

DEFAULT_PROFILE = "cpu"
RUN = "FMBENCH_RUN"
"""Environment variable with the run's folder, for the processes that Lightning starts."""


def group(
    prefix: str,
    source: Callable[..., Any],
    instead: Mapping[str, str] = MappingProxyType({}),
    also: Mapping[str, tuple[Any, str]] = MappingProxyType({}),
) -> Options:
    """The options `--<prefix>.*` of `source`; the parameter gets those that the user gave.

    `instead` and `also` are those of `Parser.add_signature`.
    """

    def add(parser: Parser, title: str, _: Sequence[str] = ()) -> Reader:
        parser.add_signature(prefix, source, title, instead=instead, also=also)
        return lambda values, given: {
            name.removeprefix(f"{prefix}."): values[name]
            for name in sorted(given)
            if name.startswith(f"{prefix}.")
        }

    return add


DATA = group("data", FurnaceData, {"modality": "use --modality", "seed": "use --seed"})
TRAINER = group(
    "trainer",
    Trainer,
    {
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
    {
        "precision": (
            Literal["auto"],
            "auto: bf16-mixed where the CPU or GPU has bfloat16 in hardware, else 32-true",
        ),
    },
)
DataOptions = Annotated[Mapping[str, Any], DATA]
TrainerOptions = Annotated[Mapping[str, Any], TRAINER]


class Resolved(NamedTuple):
    """A training as a command line describes it.

    Attributes:
        config: its resolved options.
        own_root: whether the user named the data's root.
        notice: a line about the configuration files, if the user named none.
        argv: the command line.
    """

    config: Config
    own_root: bool
    notice: str
    argv: Sequence[str]


def _add_resolved(parser: Parser, _: str, argv: Sequence[str]) -> Reader:
    """`--config`, and all options of a Config."""
    files, notice = _config_files(argv)
    parser.layers = [(file, read_yaml(find_config(file))) for file in files]
    text = "a YAML file or a profile; the last one wins"
    parser.option("config", list[str], None, text, action="append", metavar="FILE")
    _add_groups(parser, argv)
    return lambda values, given: Resolved(
        config=_config(values, given), own_root="data.root" in given, notice=notice, argv=argv
    )


TrainingOptions = Annotated[Resolved, _add_resolved]


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `fit`.

    Attributes:
        training: what is trained, and how.
        run: folder of the run (default: a new one in runs/).
        resume: continue from a checkpoint, or from the newest of the run (auto).
        force: continue although configuration or recordings have changed.
        print_config: print the resolved YAML and stop.
    """

    training: TrainingOptions
    run: Folder | None = None
    resume: str | None = None
    force: bool = False
    print_config: bool = False

    @cached_property
    def folder(self) -> Path:
        """The run's folder: `run`, or a new one named after model and time, which all processes
        of the training share.

        Raises:
            ValueError: processes that were started side by side would each name their own.
        """
        if self.run:
            return self.run
        if os.environ.get("LOCAL_RANK", "0") != "0" and RUN in os.environ:
            return Path(os.environ[RUN])  # Lightning started this process
        launcher = "WORLD_SIZE" if "TORCHELASTIC_RUN_ID" in os.environ else "SLURM_NTASKS"
        if int(os.environ.get(launcher) or 1) > 1:
            raise ValueError(
                "--run is missing; processes that torchrun or srun starts need the folder that"
                " they share: --run runs/NAME"
            )
        config, now = self.training.config, datetime.now()
        os.environ[RUN] = f"runs/{config.model}-{config.modality}-{now:%Y%m%d-%H%M%S}"
        return Path(os.environ[RUN])


def resolve(argv: Sequence[str]) -> Request:
    """The arguments that `fit` has on a command line.

    Raises:
        ValueError: an unknown option, or a value that it does not take.
    """
    return Request(**arguments("fit", Request, argv))


def config_of(layers: Sequence[tuple[str, Any]]) -> Config:
    """The Config of YAML contents, without flags.

    Args:
        layers: (name for messages, content), later ones winning.

    Raises:
        ValueError: an unknown option, or a value that it does not take.
    """
    parser = Parser("fit")
    parser.layers = list(layers)
    _add_groups(parser, [])
    return _config(*parser.values([]))


def configure(profile: str = DEFAULT_PROFILE, **options: Any) -> Config:
    """The configuration of a training, as `fmbench fit` resolves it.

    Args:
        profile: a profile's name, or the path of a YAML file.
        options: of Config, over the profile's: model, modality, seed, …, and the groups net, data,
            optim, loss and trainer as mappings.

    Raises:
        ValueError: no such profile, an unknown option, or a value that it does not take.
    """
    return config_of([(profile, read_yaml(find_config(profile))), ("configure", as_plain(options))])


def _config_files(argv: Sequence[str]) -> tuple[list[str], str]:
    """The YAML files to read in order, and a line about them if the user named none.

    A resumed run reads the configuration that it wrote.
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


def _add_groups(parser: Parser, argv: Sequence[str]) -> None:
    """All options of a Config; those under `net` are the chosen model's."""
    chosen: dict[str, str] = {"model": Config.model, "modality": Config.modality}
    for _, content in parser.layers:
        if isinstance(content, dict):
            chosen |= {key: str(content[key]) for key in chosen if content.get(key) is not None}
    chosen |= {key: peek(argv, f"--{key}")[-1] for key in chosen if peek(argv, f"--{key}")}
    model = find_model(chosen["model"], chosen["modality"])
    parser.add_signature("", Config, "what is trained")
    parser.add_signature("net", model, f"{chosen['model']}: its own options")
    DATA(parser, "data", argv)
    parser.add_signature("optim", Optim, "optimiser")
    parser.add_signature("loss", Loss, "loss")
    TRAINER(parser, "Lightning's Trainer", argv)


def _config(values: Mapping[str, Any], given: set[str]) -> Config:
    """The resolved Config; of the trainer only what was given, the rest is Lightning's choice."""
    kept = {
        name: value
        for name, value in values.items()
        if not name.startswith("trainer.") or name in given
    }
    empty: dict[str, Any] = {group: {} for group in ("net", "data", "optim", "loss", "trainer")}
    tree = empty | nest(kept)
    return Config(**{field.name: tree[field.name] for field in fields(Config)})
