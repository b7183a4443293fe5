"""Names of recordings: file names without a suffix, which every file of a recording shares."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

LONGEST = 200
"""Bytes of a name in UTF-8: file systems take 255, with suffixes and a process number."""
ALLOWED = f"letters, digits, -, _ and spaces inside, at most {LONGEST} bytes"


def valid_name(name: str) -> str:
    """The name in composed form (NFC), in which files are written.

    A dot would end the name (official-format 4), `/` would leave the folder, and a leading - would
    be read as an option.

    Raises:
        ValueError: it has other characters, is empty, or too long.
    """
    composed = unicodedata.normalize("NFC", name)
    problem = ""
    if not composed:
        problem = "it is empty"
    elif len(composed.encode(errors="replace")) > LONGEST:
        problem = f"it has {len(composed.encode(errors='replace'))} bytes"
    elif odd := next((letter for letter in composed if not _allowed(letter)), ""):
        problem = f"{odd!r} is not allowed"
    elif composed != composed.strip() or composed.startswith("-"):
        problem = "it begins with - or a space, or ends with a space"
    if problem:
        shown = name if len(name) <= 60 else f"{name[:57]}..."
        raise ValueError(f"{shown!r} is no name of a recording: {problem}. Allowed: {ALLOWED}")
    return composed


def name_from(file_stem: str) -> str:
    """The valid name nearest to a file name without its suffix: `cam.2030.05.01` gives
    `cam-2030-05-01`; "recording" where nothing is left."""
    composed = unicodedata.normalize("NFC", file_stem)
    text = "".join(letter if _allowed(letter) else "-" for letter in composed)
    text = text.encode()[:LONGEST].decode(errors="ignore")
    return text.strip().lstrip("- ") or "recording"


def same_name(name: str) -> str:
    """A form that is equal for names that look alike (NFC and NFD)."""
    return unicodedata.normalize("NFC", name)


def as_known(name: str, known: Collection[str]) -> str:
    """The one of `known` that looks like `name`; `name` where there is none."""
    if name in known:
        return name
    return next((each for each in known if same_name(each) == same_name(name)), name)


def _allowed(letter: str) -> bool:
    return letter in " -_" or unicodedata.category(letter)[0] in "LMN"
