"""`fmbench fit`, `fmbench test`, `fmbench predict`."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightning.pytorch import Trainer

from fmbench import run
from fmbench.cli.data import write
from fmbench.config import Parser, find_config, nest, peek, read_yaml
from fmbench.data import FurnaceData
from fmbench.lit import Loss, Optim
from fmbench.predict import predict as predict_recording
from fmbench.progress import say
from fmbench.registry import find_model
from fmbench.run import Config

DEFAULT_PROFILE = "cpu"
COUNTS = ("tn", "fp", "fn", "tp")


class Request(NamedTuple):
    """What a `fit` command line asks for."""

    config: Config
    run: Path
    resume: str | None
    own_root: bool
    """Whether the user named the data's root."""
    print_config: bool
    notice: str


def fit(argv: list[str]) -> int:
    """Train a model; with no configuration by profile `cpu`, with no data on simulated data."""
    request = resolve(argv)
    if request.print_config:
        print(request.config.to_yaml(), end="")
        return 0
    if request.notice:
        say(request.notice)
    root = Path(request.config.data["root"])
    if not root.is_dir():
        if request.own_root:
            raise ValueError(f"--data.root {root}: no such folder")
        say(f"no data yet: making the default simulated set (wide, lazy, seed 0) in {root}")
        write(root, preset="wide", seed=0, lazy=True)
    best = train(request)
    say(f"best checkpoint: {best}")
    say(f"next: fmbench test --checkpoint {best}")
    return 0


def resolve(argv: list[str]) -> Request:
    """Defaults, YAML files and flags of `fit`, in this order, as one Request."""
    files, notice = _config_files(argv)
    layers = [(file, read_yaml(find_config(file))) for file in files]
    values, given = _fit_parser(argv, layers).values(argv, layers)
    config = _config(values, given)
    name = f"{config.model}-{config.modality}-{datetime.now():%Y%m%d-%H%M%S}"
    return Request(
        config=config,
        run=Path(values["run"] or f"runs/{name}"),
        resume=values["resume"],
        own_root="data.root" in given,
        print_config=values["print_config"],
        notice=notice,
    )


def train(request: Request) -> Path:
    """Run the training; the best checkpoint. On Ctrl-C the message says how to go on."""
    try:
        return run.fit(request.config, run=request.run, resume=request.resume)
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"go on with: fmbench fit --run {request.run} --resume auto")
        raise


def test(argv: list[str]) -> int:
    """Measure a checkpoint on recordings."""
    parser = Parser("test", "Measure a checkpoint on recordings.")
    parser.option("checkpoint", str | None, None, "what `fit` wrote", metavar="FILE")
    parser.option("split", Literal["val", "test"], "test", "the part to measure on")
    parser.option("out", str | None, None, "write metrics and predictions here", metavar="DIR")
    _add_data(parser, "data (where not given: as in training)")
    _add_trainer(parser)
    values, given = parser.values(argv)
    metrics = run.test(
        _checkpoint(values),
        data=_given(values, given, "data"),
        split=values["split"],
        out=Path(values["out"]) if values["out"] else None,
        trainer=_given(values, given, "trainer"),
    )
    for name, value in metrics.items():
        print(f"{name:<8}{value:>10.4f}" if name not in COUNTS else f"{name:<8}{value:>10.0f}")
    return 0


def predict(argv: list[str]) -> int:
    """Scores and pictures of one recording."""
    parser = Parser(
        "predict", "A recording to scores (CSV) and a picture (PNG, MP4).", "RECORDING "
    )
    parser.add_argument("recording", help="a name in the data root, or the path of a .mat file")
    parser.option("checkpoint", str | None, None, "what `fit` wrote", metavar="FILE")
    parser.option("out", str, "predictions", "where the files go", metavar="DIR")
    parser.option("every", int, 25, "frames from one score to the next")
    parser.flag("video", "write an MP4 too")
    _add_data(parser, "data (where not given: as in training)")
    values, given = parser.values(argv)
    if values["every"] < 1:
        raise ValueError(f"--every is {values['every']}; it must be at least 1")
    written = predict_recording(
        _checkpoint(values),
        values["recording"],
        out=Path(values["out"]),
        data=_given(values, given, "data"),
        every=values["every"],
        video=values["video"],
    )
    print("\n".join(str(path) for path in written))
    return 0


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


def _fit_parser(argv: list[str], layers: list[tuple[str, Any]]) -> Parser:
    """All options of `fit`; those under `net` are of the model that is asked for."""
    chosen: dict[str, str] = {"model": Config.model, "modality": Config.modality}
    for _, content in layers:
        if isinstance(content, dict):
            chosen |= {key: str(content[key]) for key in chosen if content.get(key) is not None}
    chosen |= {key: peek(argv, f"--{key}")[-1] for key in chosen if peek(argv, f"--{key}")}
    model = find_model(chosen["model"], chosen["modality"])

    parser = Parser("fit", "Train a model. Order: defaults < YAML files < flags.")
    parser.repeated("config", "a YAML file or a profile; the later wins", metavar="FILE")
    parser.option("run", str | None, None, "its folder (default: a new one in runs/)")
    parser.option("resume", str | None, None, "go on from: auto, or a checkpoint")
    parser.flag("print_config", "print the resolved YAML and stop")
    parser.add_signature("", Config, "what is trained")
    parser.add_signature("net", model, f"{chosen['model']}: its own options")
    _add_data(parser, "data")
    parser.add_signature("optim", Optim, "optimiser")
    parser.add_signature("loss", Loss, "loss")
    _add_trainer(parser)
    return parser


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


def _add_data(parser: Parser, title: str) -> None:
    parser.add_signature(
        "data",
        FurnaceData,
        title,
        instead={"modality": "use --modality", "seed": "use --seed"},
    )


def _add_trainer(parser: Parser) -> None:
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
            "fast_dev_run": "it would leave no checkpoint; use --config smoke",
            "barebones": "it would leave no checkpoint and no metrics",
            "callbacks": "a callback is an object, which no flag or file can name",
            "plugins": "a plug-in is an object, which no flag or file can name",
        },
    )


def _checkpoint(values: dict[str, Any]) -> Path:
    if values["checkpoint"] is None:
        raise ValueError("--checkpoint FILE is missing; `fmbench fit` prints the one that it wrote")
    path = Path(values["checkpoint"])
    if not path.is_file():
        raise ValueError(f"--checkpoint {path}: no such file")
    return path


def _given(values: dict[str, Any], given: set[str], group: str) -> dict[str, Any]:
    """What the user set under `group`, by bare name."""
    prefix = f"{group}."
    return {name.removeprefix(prefix): values[name] for name in given if name.startswith(prefix)}
