"""Signatures and docstrings -> options, help and arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, Literal

import pytest

from fmbench.cli import COMMANDS
from fmbench.config.command import arguments
from fmbench.config.hints import File
from fmbench.config.parser import Parser, descriptions
from fmbench.types import Modality


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Options of its own.

    Attributes:
        depth: number of layers.
    """

    depth: int = 2


def copy(
    source: Path,
    target: Path | None = None,
    *,
    log: File,
    rate: float = 0.5,
    mode: Literal["fast", "safe"] = "safe",
    modality: Modality | None = None,
    quiet: bool = False,
    tags: Annotated[Sequence[str], "NAME=VALUE"] = (),
    inner: Inner,
) -> int:
    """Copy a file.

    Everything is copied.

    Args:
        source: the file, 100 % of it.
        log: where lines go, 50 % of them.
    """
    return 0


def log_lines(path: Path, *, log: Path, rate: float) -> None:
    """Log.

    Args:
        log: another text.
        rate: lines a second.
    """


def parsed(line: str) -> dict[str, Any]:
    return arguments("copy", copy, line.split())


def test_defaults_are_those_of_the_signature() -> None:
    assert parsed("a --log l") == {
        "source": Path("a"),
        "target": None,
        "log": Path("l"),
        "rate": 0.5,
        "mode": "safe",
        "modality": None,
        "quiet": False,
        "tags": (),
        "inner": Inner(),
    }


def test_values_have_the_types_of_the_signature() -> None:
    line = "a b --log=l --rate 2 --mode fast --modality visual --quiet --depth 7"
    found = parsed(f"{line} --tags x=1 --tags y=2")
    assert (found["target"], found["rate"], found["mode"]) == (Path("b"), 2.0, "fast")
    assert found["modality"] is Modality.VISUAL
    assert found["quiet"] is True
    assert found["tags"] == ["x=1", "y=2"]
    assert found["inner"] == Inner(depth=7)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "source is missing; see fmbench copy --help"),
        ("a", "--log is missing; see fmbench copy --help"),
        ("a --log l --rate fast", "--rate is 'fast'; it takes a number"),
        ("a --log l --mode fats", "--mode is 'fats'; it takes one of fast, safe; did you mean"),
        ("a --log l --quiet=no", "--quiet: ignored explicit argument 'no'"),
        ("a --log l --rate null", "--rate is 'null'; it takes a number"),
        ("a b c --log l", "unexpected 'c'"),
    ],
)
def test_what_the_signature_does_not_allow_is_refused(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        parsed(line)


def test_help_is_the_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments("copy", copy, ["--help"], [log_lines])
    out = " ".join(capsys.readouterr().out.split())
    assert "usage: fmbench copy SOURCE [TARGET] --log FILE [--option value ...]" in out
    assert "Copy a file. Everything is copied." in out
    for text in (
        "the file, 100 % of it",
        "where lines go, 50 % of them",
        "lines a second",
        "number of layers",
    ):
        assert text in out
    assert "another text" not in out  # the command's own words win


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_described(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: dict[str, str] = {}
    option, positional = Parser.option, Parser.positional

    def seen(
        self: Parser, option_name: str, hint: Any, default: Any, text: str, **more: Any
    ) -> None:
        added[option_name] = text
        option(self, option_name, hint, default, text, **more)

    def seen_positional(self: Parser, argument: str, text: str, *, required: bool) -> None:
        added[argument] = text
        positional(self, argument, text, required=required)

    monkeypatch.setattr(Parser, "option", seen)
    monkeypatch.setattr(Parser, "positional", seen_positional)
    function, *described_by = (resolve_name(f"fmbench.{path}") for path in COMMANDS[name])
    with pytest.raises(SystemExit):
        arguments(name, function, ["--help"], described_by)
    undescribed = [each for each, text in added.items() if not text]
    assert not [each for each in undescribed if not each.startswith("trainer.")]
    own = descriptions(function)
    assert own.keys() <= inspect.signature(function).parameters.keys()
    for source in described_by:  # named only where it describes something
        taken = descriptions(source).keys() & inspect.signature(function).parameters.keys()
        assert taken - own.keys()
