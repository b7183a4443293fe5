"""YAML and JSON files as plain values: numbers, text, true and false, null, lists, mappings.

A small file whose aliases expand to a huge or endless value is refused before it is expanded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

MOST = 1_000_000
"""Most values of a YAML file, with all aliases expanded."""


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The content of a YAML file.

    Raises:
        ValueError: it is not YAML, has a tag that would build an object, or more than MOST values.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: {error}") from None
    return from_yaml(text, str(path), loader)


def from_yaml(text: str, where: str, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """The content of YAML text; `where` names its source in messages.

    Raises:
        ValueError: as `read_yaml`.
    """
    try:
        reading = loader(text)
        node = reading.get_single_node()
        if node is not None and _count(node, {}) > MOST:
            raise ValueError(f"its aliases (*name) expand to more than {MOST:,} values")
        return None if node is None else reading.construct_document(node)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply, or within itself") from None
    except Exception as error:  # `!!bool x` is a KeyError of the library, `!!int ""` an IndexError
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ValueError(f"{where}{line}: {getattr(error, 'problem', None) or error}") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None


def _count(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Values of a node, expanded; RecursionError for a node within itself."""
    if node not in known:
        inner: Iterable[yaml.Node] = ()
        if isinstance(node, yaml.SequenceNode):
            inner = node.value
        elif isinstance(node, yaml.MappingNode):
            inner = chain.from_iterable(node.value)
        known[node] = 1 + sum(_count(each, known) for each in inner)
    return known[node]
