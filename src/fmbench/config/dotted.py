"""Dotted names of options: to trees and back, and on an unparsed command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """`{"net.depth": 4}` -> `{"net": {"depth": 4}}`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split(".")
        branch = tree
        for group in groups:
            branch = branch.setdefault(group, {})
        branch[last] = value
    return tree


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"net": {"depth": 4}}` -> `{"net.depth": 4}`."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def peek(argv: Sequence[str], flag: str) -> list[str]:
    """The values of `flag` on an unparsed command line, in order."""
    found = []
    for word, after in zip_longest(argv, argv[1:]):
        if word == flag and after is not None:
            found.append(after)
        elif word.startswith(f"{flag}="):
            found.append(word.partition("=")[2])
    return found
