"""Lines of a log as they are written: of a file that grows and is rotated, or of a pipe."""

from __future__ import annotations

import codecs
import csv
import io
import json
import queue
import threading
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from fmbench.prepare.ingest.encodings import encoding_of

CHUNK = 1 << 18
"""Bytes read at a time, so that memory stays flat over a long log."""
LATEST, HEAD = 1 << 22, 100
"""Of a long file: bytes at its end, and lines at its begin, that are read."""
WAITING = 20_000
"""Lines of a pipe that may wait to be read."""


class NewLines(NamedTuple):
    """Complete lines that were not there before.

    Attributes:
        lines: without their ends.
        restarted: whether they begin another file, with a header of its own.
        ended: whether none will follow.
    """

    lines: list[str]
    restarted: bool = False
    ended: bool = False


class LineSource(Protocol):
    """Where a log's lines come from.

    Attributes:
        name: for messages.
        encoding: its name.
    """

    name: Path
    encoding: str

    def poll(self) -> NewLines:
        """Lines that are there now; does not wait."""

    def close(self) -> None:
        """Read no more."""


class GrowingFile:
    """The lines of a file, and those that are appended; of its successor after a rotation.

    Args:
        path: the file, which may not exist yet.
        encoding: None to find it by its first bytes.
        follow: whether more lines may come after its end.
        skip: of a long file, whether to read only its first lines and those of its last megabytes.
    """

    def __init__(
        self, path: Path, encoding: str | None, *, follow: bool, skip: bool = False
    ) -> None:
        self.name, self._follow, self._skip = path, follow, skip
        self.encoding, self._given = encoding or "UTF-8", encoding
        self._file: IO[bytes] | None = None
        self._inode = -1
        self._rest, self._cut = "", False
        self._decoder: Any = None

    def poll(self) -> NewLines:
        """See LineSource; an empty answer while there is no file."""
        restarted = False
        if self._file is None:
            if not self._open():
                return NewLines([])
            restarted = True
        assert self._file is not None
        data = self._file.read(CHUNK)
        if not data and self._replaced():
            lines = self._split(b"", final=True)
            self.close()
            return NewLines(lines)
        if data and self._decoder is None:
            codec, self.encoding = encoding_of(data, self._given)
            self._decoder = codecs.getincrementaldecoder(codec)("replace")
            if self._skip and self.name.stat().st_size > LATEST + len(data):
                return NewLines(self._jump(data), restarted)
        ended = not data and not self._follow
        return NewLines(self._split(data, final=ended), restarted, ended)

    def close(self) -> None:
        """See LineSource."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> bool:
        try:
            self._file = self.name.open("rb")
        except FileNotFoundError:
            return False
        self._inode = self.name.stat().st_ino
        self._decoder, self._rest = None, ""
        return True

    def _jump(self, data: bytes) -> list[str]:
        """The first lines; then go on at the last megabytes."""
        assert self._file is not None
        lines = self._split(data, final=False)
        self._file.seek((self.name.stat().st_size - LATEST) // 4 * 4)
        self._decoder.reset()
        self._rest, self._cut, self._skip = "", True, False
        return lines[:HEAD]

    def _replaced(self) -> bool:
        """Whether the name now has another file, or the file was emptied."""
        assert self._file is not None
        try:
            now = self.name.stat()
        except FileNotFoundError:  # between the two steps of a rotation
            return False
        return self._follow and (now.st_ino != self._inode or now.st_size < self._file.tell())

    def _split(self, data: bytes, *, final: bool) -> list[str]:
        if self._decoder is None or not (data or self._rest):
            return []
        text = self._rest + self._decoder.decode(data, final)
        lines = text.replace("\r\n", "\n").replace("\0", "").split("\n")
        self._rest = "" if final else lines.pop()
        if self._cut and lines:
            lines, self._cut = lines[1:], False
        return [line.rstrip("\r").removeprefix("\ufeff") for line in lines]


class Pipe:
    """The lines of a stream that another program writes, CSV or JSON lines.

    A JSON line is an object with a time and numbers; the keys of the first are the columns.

    Args:
        stream: read by a thread of its own.
        name: for messages.
    """

    encoding = "UTF-8"

    def __init__(self, stream: IO[str], name: str = "standard input") -> None:
        self.name = Path(name)
        self.is_json: bool | None = None
        self._stream = stream
        self._queue: queue.Queue[str | None] = queue.Queue(WAITING)
        self._keys: list[str] = []
        self._begun = self._done = False
        threading.Thread(target=self._read, daemon=True).start()

    def poll(self) -> NewLines:
        """See LineSource."""
        lines: list[str] = []
        while not self._done and len(lines) < WAITING:
            try:
                line = self._queue.get_nowait()
            except queue.Empty:
                break
            if line is None:
                self._done = True
            elif line.strip():
                lines += self._as_csv(line.rstrip("\r\n"))
        restarted = bool(lines) and not self._begun
        self._begun |= restarted
        return NewLines(lines, restarted, self._done)

    def close(self) -> None:
        """See LineSource; the thread ends with the program."""

    def _read(self) -> None:
        try:
            for line in self._stream:
                self._queue.put(line)
        except (OSError, ValueError):  # closed
            pass
        self._queue.put(None)

    def _as_csv(self, line: str) -> list[str]:
        if self.is_json is None:
            self.is_json = line.lstrip().startswith("{")
        if not self.is_json:
            return [line]
        try:
            found = json.loads(line)
        except ValueError:
            return [line]  # which the reader of rows refuses
        first = not self._keys
        if first:
            self._keys = list(found)
        row = [found.get(key, "") for key in self._keys]
        return [_joined(self._keys), _joined(row)] if first else [_joined(row)]


def _joined(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(["" if each is None else each for each in cells])
    return text.getvalue()
