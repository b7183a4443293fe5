"""What a watch writes: decisions, its event log, and the state from which it goes on."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from fmbench.files.atomic import write_text

State = Literal["OK", "ALARM", "NO DECISION"]
SAVED = 1.0
"""Seconds between two writes of the state."""


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        time: of its frame, by the log's clock: YYYY-MM-DD HH:MM:SS.mmm.
        seconds: the same, since 1970.
        frame: its index in the recording that `fmbench data ingest` would make; None without one.
        score: probability in [0, 1] that the window is abnormal; None where there is no decision.
        state: ALARM while there is an alarm, OK while there is none, or NO DECISION.
        input: the input that the reason is about: video, camera (what it shows), clip, currents,
            clock, window, model; empty otherwise.
        reason: why there is no decision; empty otherwise.
        alarm: whether there is an alarm; one goes on while there are no decisions.
        latency: seconds from the arrival of the frame to the decision; None in a replay.
    """

    time: str
    seconds: float
    frame: int | None
    score: float | None
    state: State
    input: str
    reason: str
    alarm: bool
    latency: float | None

    def line(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


def clock_text(seconds: float) -> str:
    """Seconds since 1970 as YYYY-MM-DD HH:MM:SS.mmm."""
    return str(np.datetime64(round(seconds * 1000), "ms")).replace("T", " ")


class Messages:
    """Lines for people on standard error."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, text: str) -> None:
        """Say a line."""
        print(text, file=sys.stderr, flush=True)

    def once(self, key: str, text: str, every: float = 600.0) -> None:
        """Say a line, unless one of this key was said within `every` seconds."""
        now = time.monotonic()
        if now - self._said.get(key, -math.inf) >= every:
            self._said[key] = now
            self(text)

    def over(self, key: str) -> None:
        """Forget a key, so that its next line is said."""
        self._said.pop(key, None)


class EventLog:
    """Appends events to a file, one JSON object a line; a full disk stops nothing.

    Args:
        path: the file; None to write none.
        tell: says a line about a file that cannot be written.
    """

    def __init__(self, path: Path | None, tell: Messages) -> None:
        self._path, self._tell = path, tell
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, event: str, seconds: float, **more: Any) -> dict[str, Any]:
        """Append an event; returns it."""
        found = {"event": event, "time": clock_text(seconds), "seconds": seconds, **more}
        if self._path is not None:
            line = json.dumps(found, ensure_ascii=False) + "\n"
            guarded(self._tell, self._path, lambda path: _append(path, line))
        return found


class Memory:
    """The state of a watch, in a file that its next start reads.

    Args:
        path: the file; None to keep none.
        facts: what must be equal for the state to be used, as the checkpoint and the rule.
        tell: says a line about a file that cannot be written or used.
    """

    def __init__(self, path: Path | None, facts: dict[str, Any], tell: Messages) -> None:
        self._path, self._facts, self._tell = path, facts, tell
        self._saved = -math.inf

    def read(self) -> dict[str, Any] | None:
        """The state that was saved; None if there is none of this checkpoint and rule."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            same = {key: found[key] for key in self._facts} == self._facts
        except (ValueError, KeyError, TypeError, OSError):
            self._tell(f"{self._path} is damaged; watching begins anew")
            return None
        if not same:
            self._tell(f"{self._path} is of another checkpoint or rule; watching begins anew")
            return None
        return dict(found)

    def save(self, state: dict[str, Any], *, now: bool = False) -> None:
        """Keep a state, at most once a second unless `now`."""
        if self._path is None or (time.monotonic() - self._saved < SAVED and not now):
            return
        self._saved = time.monotonic()
        text = json.dumps({**self._facts, **state}) + "\n"
        guarded(self._tell, self._path, lambda path: write_text(path, text))


def guarded(tell: Messages, path: Path, write: Callable[[Path], object]) -> bool:
    """Write a file; an error is said in a line, not raised. Whether it was written."""
    try:
        write(path)
    except OSError as error:
        tell.once(
            f"write {path.parent}",
            f"{path} cannot be written ({error.strerror or error}); watching goes on without it",
        )
        return False
    tell.over(f"write {path.parent}")
    return True


class Output:
    """Decisions as JSON lines; a reader that has gone stops nothing."""

    def __init__(self, stream: TextIO, tell: Messages) -> None:
        self._stream, self._tell, self._gone = stream, tell, False

    def write(self, decision: Decision) -> None:
        """Write a line."""
        if self._gone:
            return
        try:
            self._stream.write(decision.line() + "\n")
            self._stream.flush()
        except OSError as error:
            self._gone = isinstance(error, BrokenPipeError)
            if self._gone:  # what is buffered goes nowhere, and the end of the program is no error
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._tell.once(
                "output", f"standard output cannot be written ({error.strerror}); watching goes on"
            )


def _append(path: Path, line: str) -> None:
    _end_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def _end_line(path: Path) -> None:
    """End a line that was cut off when a watch was killed, or the disk was full."""
    if path.is_file() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
