"""Why a decision cannot be made: the state of the stream, and of the log beside its clock."""

from __future__ import annotations

import math
from typing import NamedTuple

from fmbench.watch.currents import CLOCK, LiveCurrents

APART = 3.0
"""Seconds between the newest row of a log that is being written and the clock of the frames."""


class Reason(NamedTuple):
    """Why there is no decision: which input, and what is said."""

    kind: str
    text: str


def no_picture(since: float, lost: str, dropped: int) -> Reason:
    """Why an instant has no picture.

    Args:
        since: seconds since the last picture before; infinite without one.
        lost: how it is known that the source is lost; empty if it is not.
        dropped: pictures that could not be judged in time.
    """
    if lost:
        return Reason("video", f"video lost: {lost}")
    if dropped:
        return Reason("video", "pictures come faster than they can be judged")
    if math.isinf(since):
        return Reason("video", "no picture yet")
    return Reason("video", f"video stalled: no picture for {since:.1f} s")


def no_currents(
    log: LiveCurrents, seconds: float, until: float, *, fresh: bool, ahead: float
) -> Reason | None:
    """Why a log does not suffice for a frame; None if it does.

    Args:
        log: what was read of it.
        seconds: the frame's time, since 1970.
        until: up to which the log has to reach.
        fresh: whether its rows come at present.
        ahead: seconds by which its newest row may be after the frame.
    """
    behind = until - log.newest
    if not math.isfinite(behind):
        return Reason("currents", f"currents missing: {log.fault or 'no row yet'}")
    if behind > CLOCK:
        if fresh and behind > APART:
            return Reason("clock", f"clocks apart: the log's newest row is {behind:.1f} s behind")
        why = f" ({log.fault})" if log.fault else ""
        return Reason("currents", f"currents missing: the newest row is {behind:.1f} s behind{why}")
    if (apart := log.newest - seconds) > ahead:
        return Reason("clock", f"clocks apart: the log's newest row is {apart:.1f} s ahead")
    return None
