"""The command line: `fmbench <command> [--group.option value ...]`.

One module a group of commands; each command is a function whose signature and docstring make its
options and its help (`fmbench.config.command`). Modules, and torch with them, are imported when a
command runs; help texts are stored (`fmbench.cli.help_cache`), so that they appear at once.
"""

from __future__ import annotations

import ast
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name

from fmbench.cli.help_cache import is_stored, stored
from fmbench.errors import nearest

COMMANDS = {
    "demo": ("cli.demo:demo",),
    "fit": ("cli.train:fit",),
    "test": ("cli.train:test", "training.measure:measure"),
    "predict": ("cli.predict:predict", "training.predict:predict"),
    "alarms": ("cli.alarms:alarms", "alarms.run:choose_alarms"),
    "watch": ("cli.watch:watch",),
    "table": ("cli.table:table",),
    "tune": ("cli.table:tune",),
    "compare": ("cli.table:compare",),
    "sweep": ("cli.sweep:sweep", "sweep.trials:run_sweep"),
    "speed": ("cli.speed:speed",),
    "report": ("cli.report:report",),
    "models": ("cli.models:models",),
    "data simulate": ("cli.data:simulate", "simulator.dataset_writer:write_dataset"),
    "data ingest": ("cli.ingest:ingest",),
    "data frames": ("cli.frames:frames",),
    "data annotate": ("cli.annotate:annotate", "prepare.annotate.labels:annotate"),
    "data select": ("cli.select:select", "prepare.select:select"),
    "data check": ("cli.data:check", "prepare.check:check_root"),
    "data doctor": ("cli.doctor:doctor", "prepare.doctor.examine:examine"),
    "data stats": ("cli.data:stats",),
    "data pack": ("cli.data:pack",),
    "import-official": ("cli.models:import_official",),
    "export": ("cli.export:export", "export.run:export"),
    "export-weights": ("cli.models:export_weights",),
}
"""Each command's function, then functions whose docstrings describe options that it hands them."""

MAX_ERROR_LINES = 6
MAX_ERROR_WIDTH = 400
"""Characters of a line; a message repeats the value, which may be long."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0, 1 faults found, 2 bad usage or input, 128 + a signal."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "OMP_WAIT_POLICY" not in os.environ:
        # A waiting thread spins a thousand times, then sleeps. If it slept at once, small steps
        # would take up to twice as long; the default, spinning on, starves all threads where other
        # processes use the cores as well (benchmarks/table2.md).
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
    """The exit status for an exception that stopped a command, and a few lines for the user."""
    notes = getattr(error, "__notes__", [])
    # Lightning answers Ctrl-C by closing down and raising SystemExit out of the KeyboardInterrupt.
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return 130, ["fmbench: error: interrupted", *notes]
    if isinstance(error, SystemExit):
        lines = [f"fmbench: error: {error}", *notes] if notes else []
        return (error.code if isinstance(error.code, int) else int(error.code is not None)), lines
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
    """Whether Lightning refused a value; compared by name, since importing Lightning is slow."""
    return type(error).__name__ == "MisconfigurationException"


def _dispatch(words: list[str]) -> int:
    """Run the command that `words` begin with."""
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(version("fmformer-bench"))
        return 0
    for name in COMMANDS:
        parts = name.split()
        if words[: len(parts)] == parts:
            rest = words[len(parts) :]
            if is_stored(rest) and (name == "models" or {"-h", "--help"} & set(rest)):
                return stored(words, partial(_run, name, rest))
            return _run(name, rest)
    known, given = list(COMMANDS), words[0]
    if words[0] == "data":
        if len(words) == 1 or words[1] in ("-h", "--help"):
            print(_overview("data "))
            return 0
        known, given = [name for name in COMMANDS if name.startswith("data ")], " ".join(words[:2])
    raise ValueError(
        f"there is no command {given!r}{nearest(given, known)}\nCommands: {', '.join(known)}"
    )


def _run(name: str, words: Sequence[str]) -> int:
    """Call a command's function with the arguments that `words` give it."""
    from fmbench.config.command import arguments

    function, *described_by = (resolve_name(f"fmbench.{path}") for path in COMMANDS[name])
    return int(function(**arguments(name, function, words, described_by)))


def _summaries() -> dict[str, str]:
    """The first line of every command's docstring, read without importing the modules."""
    lines = {
        f"cli.{file.stem}:{node.name}": (ast.get_docstring(node) or "").partition("\n")[0]
        for file in Path(__file__).parent.glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    return {name: lines[paths[0]] for name, paths in COMMANDS.items()}


def _overview(prefix: str = "") -> str:
    """The help that lists the commands whose names begin with `prefix`."""
    return "\n".join(
        [
            f"usage: fmbench {prefix}<command> [options]",
            "",
            "Anomaly detection in fused magnesium furnaces, from video and three-phase current.",
            "",
            "commands:",
            *(
                f"  {name:<18}{text}"
                for name, text in _summaries().items()
                if name.startswith(prefix)
            ),
            "",
            "fmbench <command> --help   the command's options",
            "--debug                    with any command: the traceback of an error",
            "--version                  the version",
            "",
            "Begin with `fmbench demo`, or with `fmbench fit --model fmformer --modality cross`.",
        ]
    )
