"""`fmbench fit`, `fmbench test`, `fmbench predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from fmbench.cli.data import ensure
from fmbench.config.parser import Parser
from fmbench.config.resolve import Request, add_data, add_trainer, resolve
from fmbench.metrics import Counts
from fmbench.training import run
from fmbench.training.console import say
from fmbench.training.guard import Stopped
from fmbench.training.measure import measure
from fmbench.training.predict import predict as predict_recording


def fit(argv: list[str]) -> int:
    """Train a model; with no configuration by profile `cpu`, with no data on simulated data."""
    request = resolve(argv)
    if request.print_config:
        print(request.config.to_yaml(), end="")
        return 0
    if request.notice:
        say(request.notice)
    ensure(Path(request.config.data["root"]), own_root=request.own_root)
    best = train(request)
    say(f"best checkpoint: {best}")
    say(f"next: fmbench test --checkpoint {best}")
    return 0


def train(request: Request) -> Path:
    """Run the training; the best checkpoint. Where it is stopped, it is said how to go on."""
    try:
        return run.fit(request.config, run=request.run, resume=request.resume, force=request.force)
    except (KeyboardInterrupt, Stopped) as stopped:
        stopped.add_note(f"go on with: fmbench fit --run {request.run} --resume auto")
        raise


def test(argv: list[str]) -> int:
    """Measure a checkpoint on recordings."""
    parser = Parser("test", "Measure a checkpoint on recordings.")
    parser.option("checkpoint", str | None, None, "what `fit` wrote", metavar="FILE")
    parser.option("split", Literal["val", "test"], "test", "the part to measure on")
    parser.option("out", str | None, None, "write metrics and predictions here", metavar="DIR")
    add_data(parser, "data (where not given: as in training)")
    add_trainer(parser)
    values, given = parser.values(argv)
    metrics = measure(
        _checkpoint(values),
        data=_given(values, given, "data"),
        split=values["split"],
        out=Path(values["out"]) if values["out"] else None,
        trainer=_given(values, given, "trainer"),
    )
    for name, value in metrics.items():
        say(
            f"{name:<8}{value:>10.4f}" if name not in Counts._fields else f"{name:<8}{value:>10.0f}"
        )
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
    add_data(parser, "data (where not given: as in training)")
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
