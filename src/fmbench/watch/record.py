"""Pictures and clips of alarms, and the command that runs when an alarm begins or ends."""

from __future__ import annotations

import json
import queue
import shlex
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from fmbench.files.atomic import in_one_step
from fmbench.format.columns import Currents
from fmbench.pictures import Scene, overlay
from fmbench.types import Plant
from fmbench.watch.events import Decision, Messages, guarded
from fmbench.watch.reader import VIEWS, Picture

BEFORE, AFTER = 10.0, 5.0
"""Seconds of a clip before an alarm begins, and after."""
SHOWN = 60
"""Decisions in the picture of an alarm."""
LONGEST, AT_ONCE = 30.0, 4
"""Seconds after which a command is ended; commands that may run at a time."""


class Recorder:
    """Writes `alarm-<time>.png` and `.mp4` for each alarm, in a thread of its own.

    Args:
        out: folder of the files.
        keep: number of alarms whose files are kept; older ones are removed.
        plant: channels of the currents.
        title: of the pictures; says if the detector was trained on simulated recordings.
        threshold: score of a vote for an alarm.
        tell: says lines about files that cannot be written.
    """

    def __init__(
        self, out: Path, *, keep: int, plant: Plant, title: str, threshold: float, tell: Messages
    ) -> None:
        self._out, self._keep, self._plant, self._tell = out, keep, plant, tell
        self._title, self._threshold = title, threshold
        self._views: deque[tuple[float, bytes]] = deque(maxlen=round((BEFORE + AFTER) / VIEWS))
        self._decisions: deque[tuple[float, float, NDArray[np.uint8]]] = deque(maxlen=SHOWN)
        self._samples: Currents | None = None
        self._open: float | None = None  # when the alarm began of which no files are written yet
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(8)
        self._worker = threading.Thread(target=self._work, daemon=True, name="recorder")
        self._worker.start()

    def picture(self, picture: Picture) -> None:
        """Keep the newest views; write the files once the alarm's seconds are over."""
        if picture.view is not None:
            self._views.append((picture.seconds, picture.view))
        if self._open is not None and picture.seconds >= self._open + AFTER:
            self._write()

    def decision(
        self, decision: Decision, picture: NDArray[np.uint8] | None, currents: Currents | None
    ) -> None:
        """Keep the newest scores and samples."""
        if picture is not None and decision.score is not None:
            self._decisions.append((decision.seconds, decision.score, picture))
        if currents is not None:
            self._samples = currents

    def event(self, event: dict[str, Any]) -> None:
        """An alarm begins."""
        if event["event"] == "alarm begins":
            if self._open is not None:
                self._write()
            self._open = float(event["seconds"])

    def close(self) -> None:
        """Write what is open, and end."""
        if self._open is not None:
            self._write()
        self._jobs.put(None)
        self._worker.join(60)

    def _write(self) -> None:
        """Hand the files of an alarm to the thread."""
        assert self._open is not None
        when = str(np.datetime64(round(self._open), "s")).replace(":", "").replace("-", "")
        views = [each for each in self._views if each[0] >= self._open - BEFORE]
        decisions, samples = list(self._decisions), self._samples
        stem, self._open = self._out / f"alarm-{when}", None

        def job() -> None:
            if decisions:
                guarded(
                    self._tell,
                    stem.with_suffix(".png"),
                    lambda path: self._png(path, decisions, samples),
                )
            if views:
                guarded(self._tell, stem.with_suffix(".mp4"), lambda path: _mp4(path, views))
            self._prune()

        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._tell.once("recorder", f"{stem.name}: no files, since earlier ones are waiting")

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # a picture must not stop the next one
                self._tell.once("recorder", f"an alarm's picture failed: {error}")

    def _png(
        self,
        path: Path,
        decisions: list[tuple[float, float, NDArray[np.uint8]]],
        samples: Currents | None,
    ) -> None:
        seconds, scores, pictures = (list(each) for each in zip(*decisions, strict=True))
        first = min(seconds)
        values, times = np.empty((0, 0), np.float32), np.empty(0)
        if samples is not None:
            values = samples.values
            step = 1 / self._plant.current_rate
            times = float(samples.seconds[-1]) + 1 - step * np.arange(len(values), 0, -1) - first
            values, times = values[times >= 0], times[times >= 0]
        scene = Scene(
            frames=np.stack(pictures).transpose(0, 2, 3, 1),
            times=np.array(seconds) - first,
            currents=values,
            current_times=times,
            channels=self._plant.channels,
            scores=np.array(scores),
            score_times=np.array(seconds) - first,
            threshold=self._threshold,
            title=self._title,
        )
        with in_one_step(path) as beside:
            made = beside.with_suffix(".png")
            overlay(made, scene)
            if made != beside:
                made.replace(beside)

    def _prune(self) -> None:
        stems = sorted({path.stem for path in self._out.glob("alarm-*T*.*")})
        for stem in stems[: -self._keep]:
            for path in self._out.glob(f"{stem}.*"):
                path.unlink(missing_ok=True)


def _mp4(path: Path, views: list[tuple[float, bytes]]) -> None:
    """JPEG pictures with their times -> a video."""
    first = cv2.imdecode(np.frombuffer(views[0][1], np.uint8), cv2.IMREAD_COLOR)
    assert first is not None
    with in_one_step(path) as beside, av.open(str(beside), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=round(1 / VIEWS), options={"crf": "28"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for _, data in views:
            shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if shown is not None and shown.shape == first.shape:
                frame = av.VideoFrame.from_ndarray(np.asarray(shown, np.uint8), format="bgr24")
                out.mux(stream.encode(frame))
        out.mux(stream.encode())


class Command:
    """Runs a command for each event of an alarm; one that fails or hangs stops nothing.

    Args:
        text: the command and its arguments, quoted as for a shell, which is not used.
        tell: says lines about a command that fails.

    Raises:
        ValueError: no such command, or a quote is not closed.
    """

    def __init__(self, text: str, tell: Messages) -> None:
        try:
            self._words = shlex.split(text)
        except ValueError as error:
            raise ValueError(f"--on_alarm {text}: {error}") from None
        if not self._words or shutil.which(self._words[0]) is None:
            raise ValueError(f"--on_alarm {text}: there is no such command")
        self._tell = tell
        self._places = threading.Semaphore(AT_ONCE)
        self._running: list[threading.Thread] = []

    def picture(self, picture: Picture) -> None:
        """Not used."""

    def decision(self, decision: Decision, picture: Any, currents: Currents | None) -> None:
        """Not used."""

    def event(self, event: dict[str, Any]) -> None:
        """Run it for an alarm that begins or ends."""
        if not event["event"].startswith("alarm"):
            return
        if not self._places.acquire(blocking=False):
            self._tell(f"--on_alarm: {AT_ONCE} commands still run; it is not run for this event")
            return
        thread = threading.Thread(target=self._run, args=[json.dumps(event)], daemon=True)
        self._running = [each for each in self._running if each.is_alive()] + [thread]
        thread.start()

    def close(self) -> None:
        """Wait for commands that run."""
        for thread in self._running:
            thread.join(LONGEST + 1)

    def _run(self, event: str) -> None:
        try:
            done = subprocess.run(
                self._words,
                input=event + "\n",
                text=True,
                timeout=LONGEST,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                check=False,
            )
            if done.returncode:
                said = (done.stderr.strip().splitlines() or [""])[-1]
                self._tell(f"--on_alarm: status {done.returncode} {said}".rstrip())
        except subprocess.TimeoutExpired:
            self._tell(f"--on_alarm: ended after {LONGEST:g} s")
        except OSError as error:
            self._tell(f"--on_alarm: {error.strerror or error}")
        finally:
            self._places.release()
