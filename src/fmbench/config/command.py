"""A command is a typed function: its signature makes its options, its docstring their help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, get_type_hints

import docstring_parser

from fmbench.config.hints import notes, plain, typed
from fmbench.config.parser import Parser, descriptions

Reader = Callable[[Mapping[str, Any], set[str]], Any]
"""One argument, from the values of all options and the names of those that the user gave."""

Options = Callable[[Parser, str, Sequence[str]], Reader]
"""Adds several options to a parser: under a heading, for a command line."""


def arguments(
    command: str,
    function: Callable[..., Any],
    argv: Sequence[str],
    described_by: Sequence[Callable[..., Any]] = (),
) -> dict[str, Any]:
    """Parse a command line into the arguments of `function`, by name.

    Positional parameters are positional arguments; keyword-only ones are options. `bool = False` is
    a flag; a `Sequence[str]` may be given several times, and takes several words if its
    placeholder ends in "...]"; a keyword-only parameter without a default is required; a dataclass
    contributes its fields. `Annotated` adds the placeholder of the help (text), or `Options` that
    fill the parameter.

    Args:
        command: its name, after `fmbench`.
        function: the command, or a dataclass that holds its arguments.
        argv: the words after the command's name.
        described_by: functions whose docstrings describe parameters that the command's does not.

    Raises:
        ValueError: an unknown option, a value that an option does not take, or a missing argument.
    """
    text = docstring_parser.parse(inspect.getdoc(function) or "")
    parser = Parser(command, text.description or "")
    read = _add_parameters(parser, function, argv, described_by)
    found: dict[str, Any] = read(*parser.values(argv))
    return found


def _add_parameters(
    parser: Parser,
    function: Callable[..., Any],
    argv: Sequence[str],
    described_by: Sequence[Callable[..., Any]] = (),
) -> Reader:
    hints = get_type_hints(function, include_extras=True)
    described = descriptions(*described_by, function)
    readers = {
        name: _add_parameter(parser, parameter, hints[name], described.get(name, ""), argv)
        for name, parameter in inspect.signature(function).parameters.items()
    }
    return lambda values, given: {name: read(values, given) for name, read in readers.items()}


def _add_parameter(
    parser: Parser, parameter: inspect.Parameter, hint: Any, text: str, argv: Sequence[str]
) -> Reader:
    several = [note for note in notes(hint) if callable(note)]
    if several:
        add: Options = several[0]
        return add(parser, text, argv)
    if isinstance(hint, type) and is_dataclass(hint):
        inner = _add_parameters(parser, hint, argv)
        return lambda values, given: hint(**inner(values, given))
    name, default = parameter.name, parameter.default
    required = default is inspect.Parameter.empty
    placeholder = next(notes(hint), name.upper())
    repeated = plain(hint) == list[str]
    if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
        parser.positional(name, text, required=required)
        required = False  # the library says that it is missing
    elif hint is bool and default is False:
        parser.option(name, bool, False, text, action="store_true")
    elif repeated and str(placeholder).endswith("...]"):
        parser.option(name, list[str], None, text, action="extend", nargs="+", metavar=name.upper())
    elif repeated:
        parser.option(name, list[str], None, text, action="append", metavar=placeholder)
    else:
        metavar = {"metavar": placeholder} if [*notes(hint)] else {}
        parser.option(name, plain(hint), None if required else default, text, **metavar)
        if required:
            parser.arguments.append(f"--{name} {placeholder}")

    def read(values: Mapping[str, Any], given: set[str]) -> Any:
        if required and values[name] is None:
            raise ValueError(f"--{name} is missing; see {parser.prog} --help")
        return values[name] or default if repeated else typed(hint, values[name])

    return read
