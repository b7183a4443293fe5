"""Type hints of options: which are plain, how a message names them, how a value gets its type."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

File = Annotated[Path, "FILE"]
Folder = Annotated[Path, "DIR"]
Files = Annotated[Sequence[str], "FILE [FILE ...]"]

PLAIN = (bool, int, float, str, type(None))


def plain(hint: Any) -> Any:
    """`hint` with only its plain members: `str | Path | Callable` becomes `str`; None if none."""
    if hint in PLAIN:
        return hint
    if isinstance(hint, type) and issubclass(hint, Path):
        return str
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return Literal[tuple(str(member) for member in hint)]
    origin, members = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return plain(members[0])
    if origin is Literal:
        return hint
    if origin in (Union, types.UnionType):
        kept = tuple(plain(member) for member in members if plain(member) is not None)
        return Union[kept] if set(kept) - {type(None)} else None  # noqa: UP007 -- from a tuple
    if origin in (list, tuple, dict, Sequence, Mapping):
        kept = tuple(member if member is ... else plain(member) for member in members)
        container = {Sequence: list, Mapping: dict}.get(origin, origin)
        return container[kept] if None not in kept else None
    return None


def words(hint: Any) -> str:
    """The plain type `hint` in words, for messages."""
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        type(None): "null",
    }
    if hint in names:
        return names[hint]
    origin, members = get_origin(hint), get_args(hint)
    if origin is Literal:
        return f"one of {', '.join(choices(hint))}"
    if origin in (Union, types.UnionType):
        literals = [f"one of {', '.join(choices(hint))}"] if choices(hint) else []
        others = [words(member) for member in members if get_origin(member) is not Literal]
        return " or ".join(literals + others)
    inner = ", ".join("..." if member is ... else words(member) for member in members)
    return f"{'a mapping' if origin is dict else 'a list'} [{inner}]"


def choices(hint: Any) -> list[str]:
    """The words that the plain type `hint` allows; empty where it allows any."""
    if get_origin(hint) is Literal:
        return [str(member) for member in get_args(hint)]
    return list(dict.fromkeys(word for member in get_args(hint) for word in choices(member)))


def notes(hint: Any) -> Iterator[Any]:
    """What `Annotated` adds to `hint` or to its members."""
    yield from getattr(hint, "__metadata__", ())
    for member in get_args(hint):
        yield from notes(member)


def typed(hint: Any, value: Any) -> Any:
    """A parsed `value` as `hint` has it: text as a Path or a StrEnum; None where an empty path is
    given and null is allowed."""
    members = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for member in members:
        kind = member.__origin__ if get_origin(member) is Annotated else member
        if isinstance(kind, type) and issubclass(kind, (Path, StrEnum)) and isinstance(value, str):
            return None if not value and type(None) in members else kind(value)
    return value
