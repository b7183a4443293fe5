"""The bytes of a text file -> text, by an encoding that is given or found."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

_MARKS = {
    b"\xef\xbb\xbf": ("utf-8-sig", "UTF-8 with BOM"),
    b"\xff\xfe": ("utf-16", "UTF-16"),
    b"\xfe\xff": ("utf-16", "UTF-16"),
}
_HEAD = 4096
"""Bytes in which UTF-16 without a byte order mark is looked for."""

_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*(\[\s*[\[{]|{\s*\")")
"""The begin of a list of lists or objects, or of an object."""


def read_text(path: Path, encoding: str | None = None) -> tuple[str, str]:
    """Text with line ends as `\\n`, and the name of its encoding.

    Found are UTF-8 and UTF-16, with and without a byte order mark, GBK and Windows-1252. GBK has
    its common Chinese characters in pairs of bytes, the first of 0xB0 to 0xD7; in Western text,
    bytes above 127 are mostly single, and small letters with accents are above 0xDF.

    Raises:
        ValueError: no such file, an unknown encoding, or bytes that are no text in it.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    raw = path.read_bytes()
    if raw.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path}: an Excel workbook; save it as CSV and give that file")
    if _JSON.match(raw):
        raise ValueError(f"{path}: JSON, no table of rows and columns; save it as CSV")
    codec, name = (encoding, encoding) if encoding else _found(raw)
    if codec.replace("_", "-").lower().startswith("utf-16"):
        raw = raw[: len(raw) // 2 * 2]  # of a character that was cut off
    try:
        text = raw.decode(codec)
    except LookupError:
        raise ValueError(
            f"--encoding is {encoding!r}; it takes an encoding's name, as utf-8, utf-16, cp1252,"
            " gbk"
        ) from None
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path}, line {line}: byte {raw[error.start]:#x} is no text in {name}; give"
            " --encoding, as cp1252 or gbk"
        ) from None
    if "\0" in text:
        raise ValueError(f"{path}: no CSV with a header line: it holds bytes that are no text")
    text = text.removeprefix("\ufeff")
    return text.replace("\r\n", "\n").replace("\r", "\n"), name


def encoding_of(begin: bytes, encoding: str | None = None) -> tuple[str, str]:
    """The codec of a text by its first bytes, and its name; `encoding` if it is given.

    Raises:
        ValueError: an unknown encoding.
    """
    if encoding is None:
        whole = begin[: begin.rfind(b"\n") + 1] or begin  # the last character may be cut off
        return _found(whole if len(whole) % 2 == 0 else whole + begin[len(whole) :][:1])
    try:
        return codecs.lookup(encoding).name, encoding
    except LookupError:
        raise ValueError(
            f"--encoding is {encoding!r}; it takes an encoding's name, as utf-8, utf-16, cp1252,"
            " gbk"
        ) from None


def _found(raw: bytes) -> tuple[str, str]:
    """The codec, and how a message names it."""
    for mark, found in _MARKS.items():
        if raw.startswith(mark):
            return found
    head = raw[:_HEAD]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if odd > len(head) // 5 and even < odd // 10:
        return "utf-16-le", "UTF-16"
    if even > len(head) // 5 and odd < even // 10:
        return "utf-16-be", "UTF-16"
    runs = re.findall(rb"[\x80-\xff]+", raw)
    leads = [byte for run in runs for byte in run[::2]]
    chinese = sum(byte < 0xD8 for byte in leads) > 0.7 * len(leads)  # common characters, GB 2312
    for codec, name in (("utf-8", "UTF-8"), ("gb2312", "GBK"), ("cp1252", "Windows-1252")):
        if codec == "gb2312" and (not chinese or any(len(run) % 2 for run in runs)):
            continue
        try:
            raw.decode(codec)
        except UnicodeDecodeError:
            continue
        return ("gbk" if codec == "gb2312" else codec), name
    return "gb18030", "GB18030"
