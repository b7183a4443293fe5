"""The command line: `fmbench <command> [--group.option value ...]`.

One module a group of commands. They, and torch with them, are imported when a command runs, so
that help answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pkgutil import resolve_name

from fmbench.errors import nearest

COMMANDS = {
    "demo": ("fmbench.cli.demo:demo", "simulate, train, test, draw: the whole way in minutes"),
    "fit": ("fmbench.cli.train:fit", "train a model"),
    "test": ("fmbench.cli.train:test", "measure a checkpoint"),
    "predict": ("fmbench.cli.train:predict", "scores and a picture of a recording"),
    "table": ("fmbench.cli.table:table", "a table of the paper: train, test, tabulate"),
    "compare": ("fmbench.cli.table:compare", "is one result better than another?"),
    "sweep": ("fmbench.cli.sweep:sweep", "a W&B sweep file, run without a server"),
    "speed": ("fmbench.cli.speed:speed", "how fast a model is on this machine, and what it costs"),
    "models": ("fmbench.cli.models:models", "what can be trained"),
    "data simulate": ("fmbench.cli.data:simulate", "make a synthetic data set"),
    "data ingest": ("fmbench.cli.ingest:ingest", "a raw video and a PLC's log to a recording"),
    "data annotate": ("fmbench.cli.annotate:annotate", "masks from boxes on a few key frames"),
    "data select": ("fmbench.cli.data:select", "which frames train, validate and test"),
    "data check": ("fmbench.cli.data:check", "every fault of a data set"),
    "data doctor": ("fmbench.cli.doctor:doctor", "what to look at before training, as one page"),
    "data stats": ("fmbench.cli.data:stats", "the paper's Table I for a data set"),
    "import-official": ("fmbench.cli.models:import_official", "the released weights, made ours"),
    "export-weights": ("fmbench.cli.models:export_weights", "a checkpoint's weights, to share"),
}

MAX_ERROR_LINES = 6
MAX_ERROR_WIDTH = 400
"""Characters of a line; a message repeats what it was given."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0, 1 faults found, 2 bad usage or input, 128 + a signal."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "OMP_WAIT_POLICY" not in os.environ:
        # A thread that waits for the others spins a thousand times, then sleeps. Asleep at once,
        # small steps take up to twice as long; spinning on, as is the default, starves all where
        # others use the cores as well (benchmarks/table2.md).
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    debug = "--debug" in words
    try:
        return _dispatch([word for word in words if word != "--debug"])
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        status, lines = explain(error)
        if debug and status:
            traceback.print_exc()
        for line in lines:
            print(line, file=sys.stderr)
        return status


def explain(error: BaseException) -> tuple[int, list[str]]:
    """The exit status of what stopped a command, and the few lines that say so."""
    notes = getattr(error, "__notes__", [])
    # Lightning answers Ctrl-C by closing down and raising SystemExit out of the KeyboardInterrupt.
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return 130, ["fmbench: error: interrupted", *notes]
    if isinstance(error, SystemExit):
        said = [f"fmbench: error: {error}", *notes] if notes else []
        return (error.code if isinstance(error.code, int) else int(error.code is not None)), said
    status, text = 2, str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif not isinstance(error, (ValueError, OSError)) and not _is_lightnings_refusal(error):
        status = 1
        text = f"{type(error).__name__}: {text}\nThis is unexpected; --debug shows where it was."
    lines = [_cut(line.rstrip()) for line in text.splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    if len(lines) > MAX_ERROR_LINES:
        lines = [*lines[: MAX_ERROR_LINES - 1], "(shortened; --debug shows all)"]
    return status, [f"fmbench: error: {lines[0]}", *lines[1:], *notes]


def _cut(line: str) -> str:
    return line if len(line) <= MAX_ERROR_WIDTH else f"{line[:MAX_ERROR_WIDTH]} …"


def _is_lightnings_refusal(error: BaseException) -> bool:
    """Whether Lightning refused a value; told by name, since it may never have been imported."""
    return type(error).__name__ == "MisconfigurationException"


def _dispatch(words: list[str]) -> int:
    """Run the command that `words` begin with."""
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(version("fmformer-bench"))
        return 0
    for name, (function, _) in COMMANDS.items():
        parts = name.split()
        if words[: len(parts)] == parts:
            return int(resolve_name(function)(words[len(parts) :]))
    known, given = list(COMMANDS), words[0]
    if words[0] == "data":
        if len(words) == 1 or words[1] in ("-h", "--help"):
            print(_overview("data "))
            return 0
        known, given = [name for name in COMMANDS if name.startswith("data ")], " ".join(words[:2])
    raise ValueError(
        f"there is no command {given!r}{nearest(given, known)}\nCommands: {', '.join(known)}"
    )


def _overview(prefix: str = "") -> str:
    """The help that lists the commands whose names begin with `prefix`."""
    shown = {name: text for name, (_, text) in COMMANDS.items() if name.startswith(prefix)}
    return "\n".join(
        [
            f"usage: fmbench {prefix}<command> [options]",
            "",
            "Anomaly detection in fused magnesium furnaces, from video and three-phase current.",
            "",
            "commands:",
            *(f"  {name:<18}{text}" for name, text in shown.items()),
            "",
            "fmbench <command> --help   the command's options",
            "--debug                    with any command: the traceback of an error",
            "--version                  the version",
            "",
            "Begin with `fmbench demo`, or with `fmbench fit --model fmformer --modality cross`.",
        ]
    )
