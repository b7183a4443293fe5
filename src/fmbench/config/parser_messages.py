"""The reason why jsonargparse refuses a command line, read from the wording of its message.

The library has no other way to tell; `tests/cli/test_parser_messages.py` holds the patterns against
the installed version.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

PATTERNS: dict[Literal["value", "unrecognized", "missing"], str] = {
    "value": r'Parser key "([^"]+)"',
    "unrecognized": r"unrecognized arguments: (\S+)",
    "missing": r"arguments are required: (.*)",
}


class Refusal(NamedTuple):
    """Why the library refuses a command line.

    Attributes:
        kind: value (an option does not take its value), unrecognized, missing (positional
            arguments), or other.
        subject: the option, the word, or the arguments; for `other` the message.
    """

    kind: Literal["value", "unrecognized", "missing", "other"]
    subject: str


def read_refusal(message: str) -> Refusal:
    """The reason that a message of jsonargparse's `ArgumentError` gives."""
    for kind, pattern in PATTERNS.items():
        if match := re.search(pattern, message):
            return Refusal(kind, match[1])
    return Refusal("other", re.sub(r"^argument (\S+): ", r"\1: ", message))
