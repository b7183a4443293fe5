"""The options of a watch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fmbench.config.hints import File, Folder
from fmbench.prepare.ingest import LogOptions

Speed = Literal["live", "max"]
Source = Annotated[str, "SOURCE"]


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """What is watched, and how.

    Args:
        video: an address (rtsp://, http://), a device (/dev/video0), a file that may grow, or a
            folder that gets segments.
        current: log of the PLC, a file that may grow; - for standard input, CSV or JSON lines.
        roi: x,y,w,h in pixels, or a YAML file: frame: [x, y, w, h] (default: the whole picture).
        start: clock of the first frame of files, "YYYY-MM-DD HH:MM:SS[.fff]" (default: frames that
            come live have the time of their arrival; with --speed max, as for data ingest).
        offset: seconds to add to the frames' clock to have the PLC's.
        log: how the log is written.
        alarms: the alarm rule of the checkpoint (default: a score of .5 is an alarm).
        out: folder of the event log, and of pictures and clips of alarms.
        every: seconds from decision to decision (default: the rule's, else 1).
        speed: live, as inputs come; max, files to their end as fast as possible.
        wait: seconds that a decision waits for the log's rows.
        give_up: seconds without video, or without a row of the log, after which to stop.
        on_alarm: command to run when an alarm begins or ends, with the event as JSON on its
            standard input.
        keep: number of alarms of which pictures and clips are kept.
        threads: threads of the decoder; 0: its choice.
        page: address of a page with picture, state, scores and currents, such as 127.0.0.1:8080.
        page_token: secret that the page's address must carry (?token=…); needed where the page can
            be reached from the network.

    Raises:
        ValueError: an option that would have no effect, or a value that is not allowed.
    """

    video: Source
    current: Source | None = None
    roi: str | None = None
    start: str | None = None
    offset: float = 0.0
    log: LogOptions = field(default_factory=LogOptions)
    alarms: File | None = None
    out: Folder | None = None
    every: float | None = None
    speed: Speed = "live"
    wait: float = 1.0
    give_up: float | None = None
    on_alarm: Annotated[str | None, "COMMAND"] = None
    keep: int = 100
    threads: int = 0
    page: Annotated[str | None, "HOST:PORT"] = None
    page_token: Annotated[str | None, "SECRET"] = None

    def __post_init__(self) -> None:
        if self.log.label_column is not None:
            raise ValueError("--label_column would have no effect: watch reads no labels")
        for name, least in (("wait", 0), ("give_up", 1), ("keep", 1), ("threads", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ValueError(f"--{name} is {value:g}; it must be at least {least}")
        if self.page_token is not None and self.page is None:
            raise ValueError("--page_token has no effect without --page")
        if self.every is not None and not 0 < self.every <= 3600:
            raise ValueError(f"--every is {self.every:g} s; it must be above 0, at most 3600")

    @property
    def replay(self) -> bool:
        """Whether inputs are files that are read as fast as possible."""
        return self.speed == "max"
