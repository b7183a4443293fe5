"""From a command's flags and YAML files to one checked set of plain values.

Groups of options are the keyword parameters of what a command builds: `--net.*` those of the chosen
model, `--data.*` those of the data module. Only plain values are read (numbers, text, true/false,
null, lists of these): a file cannot name a class, so nothing is imported because of a file.
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, Union, get_args, get_type_hints

import docstring_parser
from jsonargparse import ArgumentError, ArgumentParser

from fmbench.config.dotted import nest, peek
from fmbench.config.hints import choices, plain, words
from fmbench.config.parser_messages import read_refusal
from fmbench.errors import nearest
from fmbench.files.yaml_json import from_yaml


def descriptions(*sources: Any) -> dict[str, str]:
    """Descriptions of parameters in the docstrings of functions and classes; later ones win."""
    objects = [each for source in sources for each in (source, getattr(source, "__init__", None))]
    return {
        parameter.arg_name: " ".join((parameter.description or "").split()).removesuffix(".")
        for each in objects
        for parameter in docstring_parser.parse(inspect.getdoc(each) or "").params
    }


class Parser(ArgumentParser):
    """A command's options by dotted name.

    Attributes:
        hints: plain type of each option.
        arguments: positional arguments and required options, as the usage line shows them.
        instead: options that are set elsewhere, and the hint for users who try to set them.
        in_files: options that a YAML file may set.
        layers: (name, content) of YAML files, later ones winning.
    """

    def __init__(self, command: str, description: str = "") -> None:
        super().__init__(
            prog=f"fmbench {command}",
            description=description,
            exit_on_error=False,
            allow_abbrev=False,
            print_config=None,
        )
        self.hints: dict[str, Any] = {}
        self.arguments: list[str] = []
        self.instead: dict[str, str] = {}
        self.in_files: set[str] = set()
        self.layers: list[tuple[str, Any]] = []

    def positional(self, name: str, text: str, *, required: bool) -> None:
        """Add a positional argument."""
        self.add_argument(name, help=text, nargs=None if required else "?")
        self.arguments.append(name.upper() if required else f"[{name.upper()}]")

    def option(
        self, name: str, hint: Any, default: Any, text: str, *, section: Any = None, **more: Any
    ) -> None:
        """Add `--<name>` of the plain type `hint`, under a `section` of the help if given."""
        self.hints[name] = hint
        if "action" not in more:
            more["type"] = hint
        if isinstance(default, (Path, StrEnum)):
            default = str(default)
        section = section or self
        section.add_argument(f"--{name}", default=default, help=text, **more)

    def add_signature(
        self,
        group: str,
        source: Callable[..., Any],
        title: str,
        *,
        instead: Mapping[str, str] = types.MappingProxyType({}),
        also: Mapping[str, tuple[Any, str]] = types.MappingProxyType({}),
    ) -> None:
        """Add `--<group>.<name>` for every parameter of `source` that takes a plain value.

        Args:
            group: first part of the dotted names; empty for none.
            source: a class or function with type hints.
            title: heading in the help.
            instead: parameters that are set elsewhere, and the hint for users who try to set them.
            also: parameters that take a further type, and a sentence about it for the help.
        """
        section = self.add_argument_group(title)
        hints = get_type_hints(source.__init__ if inspect.isclass(source) else source)
        described = descriptions(source)
        prefix = f"{group}." if group else ""
        self.instead |= {prefix + name: text for name, text in instead.items()}
        for name, parameter in inspect.signature(source).parameters.items():
            more, text = also.get(name, (None, ""))
            hint = plain(Union[hints[name], more] if more else hints.get(name))  # noqa: UP007
            if hint is None or name in instead:
                continue
            empty = parameter.default is inspect.Parameter.empty
            default = None if empty else parameter.default
            self.in_files.add(prefix + name)
            text = ". ".join(filter(None, (described.get(name, ""), text)))
            self.option(prefix + name, hint, default, text, section=section)

    def values(self, argv: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
        """Every option's value by dotted name, and the names of those that were given.

        Args:
            argv: the command's flags; they win over every layer, wherever they are.

        Raises:
            ValueError: an unknown option, or a value that it does not take.
        """
        self.usage = " ".join([self.prog, *self.arguments, "[--option value ...]"])
        merged: dict[str, Any] = {}
        for file, content in self.layers:
            found = dict(self._leaves(content, file))
            with self._few_words(file, found):
                self.parse_object(nest(found), defaults=False)
            merged |= found
        argv = list(self._spread(argv))
        with self._few_words("", {}, argv):
            base = self.parse_object(nest(merged)) if merged else None
            values = self.parse_args(list(argv), namespace=base)
            flags = set(self.parse_args(list(argv), defaults=False).keys())
        for name in flags:
            self._refuse_null(f"--{name}", values[name], self.hints.get(name))
        return dict(values.items()), flags | set(merged)

    def _leaves(self, content: Any, file: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """(dotted name, value) of every entry of a YAML file's content."""
        if content is None:
            return
        if not isinstance(content, Mapping):
            what = f"{prefix[:-1]} is" if prefix else "the file holds"
            raise ValueError(f"{file}: {what} {content!r}; it must be a mapping of options")
        for key, value in content.items():
            name = f"{prefix}{key}"
            if name in self.in_files:
                self._refuse_null(f"{file}: {name}", value, self.hints[name])
                yield name, value
            elif any(known.startswith(f"{name}.") for known in self.in_files):
                yield from self._leaves(value, file, f"{name}.")
            else:
                raise ValueError(f"{file}: {self._unknown(name, self.in_files, '')}")

    def _spread(self, argv: Sequence[str]) -> Iterator[str]:
        """Flags, with `--net={depth: 4, heads: 3}` as `--net.depth=4 --net.heads=3`: a sweep can
        vary several settings together."""
        groups = {name.rpartition(".")[0] for name in self.in_files} - {""}
        for word in argv:
            name, equals, text = word.removeprefix("--").partition("=")
            if not word.startswith("--") or not equals or name not in groups:
                yield word
                continue
            try:
                content = from_yaml(text, f"--{name}")
            except ValueError:
                content = text
            if not isinstance(content, Mapping):
                raise ValueError(f"--{name} is {text!r}; it takes a mapping of its options")
            for option, value in self._leaves(content, f"--{name}", f"{name}."):
                yield f"--{option}={value if isinstance(value, str) else json.dumps(value)}"

    @staticmethod
    def _refuse_null(where: str, value: Any, hint: Any) -> None:
        """Refuse null unless the type allows it; the library takes it for any type."""
        if value is None and hint is not None and type(None) not in get_args(hint):
            raise ValueError(f"{where} is null; it takes {words(hint)}")

    def _unknown(self, name: str, known: Iterable[str], dashes: str) -> str:
        """The message about the unknown option `name`, with the nearest known one."""
        if name in self.instead:
            return f"{dashes}{name} is not set here: {self.instead[name]}"
        group, _, last = name.rpartition(".")
        beside = sorted(option for option in known if option.rpartition(".")[0] == group)
        members = [option for option in known if option.startswith(f"{name}.")]
        same = [option for option in known if option.rpartition(".")[2] == last]
        candidates = members or same or get_close_matches(name, beside, n=1)
        candidates = candidates or get_close_matches(name, list(known), n=1)
        if candidates:
            return f"there is no option {dashes}{name}; did you mean {dashes}{candidates[0]}?"
        listed = f"\nKnown: {', '.join(beside)}" if 0 < len(beside) < 20 else ""
        return f"there is no option {dashes}{name}{listed or f'; {self.prog} --help lists all'}"

    @contextmanager
    def _few_words(
        self, file: str, values: Mapping[str, Any], argv: Sequence[str] = ()
    ) -> Iterator[None]:
        """Turn a long message of the library into one line with the value and what is allowed."""
        try:
            yield
            return
        except ArgumentError as error:
            refusal = read_refusal(str(error))
        name = refusal.subject
        if refusal.kind == "missing":
            raise ValueError(f"{name} is missing; see {self.prog} --help")
        if refusal.kind == "other":
            raise ValueError(name)
        if refusal.kind == "unrecognized":
            if not name.startswith("--"):
                raise ValueError(f"unexpected {name!r}; an option is written --name value")
            raise ValueError(self._unknown(name[2:].partition("=")[0], self.hints, "--"))
        if name not in self.hints or (name not in values and not peek(argv, f"--{name}")):
            # jsonargparse reads `--run.out` as a part of the option `run`, which has no parts
            part = next(word for word in argv if word.startswith(f"--{name}."))
            raise ValueError(self._unknown(part[2:].partition("=")[0], self.hints, "--"))
        value = values[name] if name in values else peek(argv, f"--{name}")[-1]
        where = f"{file}: {name}" if file else f"--{name}"
        hint = self.hints[name]
        close = nearest(str(value), choices(hint))
        raise ValueError(f"{where} is {value!r}; it takes {words(hint)}{close}")
