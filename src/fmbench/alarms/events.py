"""What alarms do: events found, delays, false alarms. Counted by event, never point-adjusted.

An event is a run of abnormal frames. Its zone begins `LEAD` seconds before its onset, since a
labelled onset is not exact, and ends `GRACE` seconds after its end, since the shell cools. All
other footage is normal operation.

A false alarm is a time in alarm within normal operation: an alarm that begins there, or that goes
on after a zone. An event is found if there is an alarm at one of its decisions, unless that alarm
was a false one before. So a detector that always alarms finds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbench.alarms.budget import poisson_interval
from fmbench.alarms.footage import Footage
from fmbench.alarms.rule import AlarmRule, Floats, states

LEAD, GRACE = 10.0, 30.0
"""Seconds of an event's zone before its onset and after its end."""
APART = 1e6
"""Seconds between two stretches of a track: more than any rule reaches back."""
OUTSIDE = -1.0
"""Score between two stretches; it ends every alarm."""

Marks = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Track:
    """The decisions of several stretches, one after the other, with one more between two of them.

    Attributes:
        seconds: (m,) ascending.
        real: (m,) False for the decisions between two stretches.
        stretch: (m,) number of the stretch.
        event: (m,) number of the event that goes on, or -1.
        normal: (m,) whether it is normal operation.
        first: (E,) first decision of each event's zone.
        onset, end: (E,) on the scale of `seconds`.
        begun: (E,) whether the onset is not known.
        every: seconds from one decision to the next.
        footage: the stretches.
    """

    seconds: Floats
    real: Marks
    stretch: Ints
    event: Ints
    normal: Marks
    first: Ints
    onset: Floats
    end: Floats
    begun: Marks
    every: float
    footage: Sequence[Footage]

    @property
    def normal_hours(self) -> float:
        """Hours of normal operation."""
        return float(self.normal.sum()) * self.every / 3600

    def local(self, at: Floats, stretch: Ints) -> Floats:
        """Times of the track as seconds of the recordings."""
        starts = np.array([each.seconds[0] for each in self.footage])
        return np.asarray(at - stretch * APART + starts[stretch])

    def spread(self, values: Sequence[NDArray[Any]], between: float) -> NDArray[Any]:
        """Values of the decisions of each stretch, as (m,); `between` two stretches."""
        first = np.asarray(values[0])
        out = np.full(len(self.seconds), between, first.dtype)
        out[self.real] = np.concatenate(list(values))
        return out

    def states(self, rule: AlarmRule, scores: Floats) -> Marks:
        """(m,) whether there is an alarm, from (m,) scores."""
        return states(rule, self.seconds, scores) & self.real


def track_of(footage: Sequence[Footage], every: float) -> Track:
    """Join stretches of footage."""
    seconds: list[Floats] = []
    real: list[Marks] = []
    stretch: list[Ints] = []
    event: list[Ints] = []
    normal: list[Marks] = []
    onset: list[float] = []
    end: list[float] = []
    begun: list[bool] = []
    first: list[int] = []
    for k, each in enumerate(footage):
        start, now = each.seconds[0], each.seconds
        of_event = np.full(len(now) + 1, -1)
        clear = np.ones(len(now) + 1, np.bool_)
        clear[-1] = False
        base = sum(len(part) for part in seconds)
        for a, b in each.events:
            of_event[:-1][(now >= a) & (now <= b)] = len(onset)
            zone = (now >= a - LEAD) & (now <= b + GRACE)
            clear[:-1] &= ~zone
            first.append(base + int(np.searchsorted(now, a - LEAD)))
            onset.append(a - start + k * APART)
            end.append(b - start + k * APART)
        begun += each.begun.tolist()
        seconds.append(np.append(now - start, now[-1] - start + APART / 2) + k * APART)
        real.append(np.append(np.ones(len(now), np.bool_), False))
        stretch.append(np.full(len(now) + 1, k))
        event.append(of_event)
        normal.append(clear)
    return Track(
        seconds=np.concatenate(seconds),
        real=np.concatenate(real),
        stretch=np.concatenate(stretch),
        event=np.concatenate(event),
        normal=np.concatenate(normal),
        first=np.array(first, np.int64),
        onset=np.array(onset, np.float64),
        end=np.array(end, np.float64),
        begun=np.array(begun, np.bool_),
        every=every,
        footage=footage,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What alarms did on a track.

    Attributes:
        found: (E,) whether each event was found.
        alarm_at: (E,) time of the first alarm of a found event on the track's scale, else NaN.
        delay: (E,) seconds from the onset; NaN also where the onset is not known, or where the
            alarm of the event before still went on.
        false_at, false_until: (F,) decisions at which each false alarm begins, and its last.
        alarms: number of alarms, true and false.
        normal_hours: hours of normal operation.
        in_alarm, normal_in_alarm: share of all decisions in alarm; of those in normal operation.
    """

    found: Marks
    alarm_at: Floats
    delay: Floats
    false_at: Ints
    false_until: Ints
    alarms: int
    normal_hours: float
    in_alarm: float
    normal_in_alarm: float

    @property
    def median(self) -> float:
        """Median delay, seconds; NaN without one."""
        return self.quantile(0.5)

    def quantile(self, share: float) -> float:
        """A quantile of the delays, seconds; NaN without one."""
        known = self.delay[~np.isnan(self.delay)]
        return float(np.quantile(known, share)) if len(known) else float("nan")

    @property
    def per_day(self) -> float:
        """False alarms in 24 hours of normal operation; NaN without any."""
        return 24 * len(self.false_at) / self.normal_hours if self.normal_hours else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of `per_day`."""
        return poisson_interval(len(self.false_at), self.normal_hours / 24)


def judge(track: Track, alarm: Marks) -> Outcome:
    """What the alarms did.

    Args:
        track: m decisions.
        alarm: (m,) whether there is an alarm after each.
    """
    index = np.arange(len(alarm))
    alarm = alarm & track.real
    before = np.concatenate([[False], alarm[:-1]])
    start = np.maximum.accumulate(np.where(alarm & ~before, index, -1))  # of the alarm
    is_false = alarm & track.normal
    was_false = alarm & (np.maximum.accumulate(np.where(is_false, index, -1)) >= start)
    begins = np.flatnonzero(is_false & ~np.concatenate([[False], is_false[:-1]]))
    stops = np.flatnonzero(is_false & ~np.concatenate([is_false[1:], [False]]))
    count = len(track.onset)
    at = np.full(count, np.nan)
    delay = np.full(count, np.nan)
    hits = np.flatnonzero(alarm & ~was_false & (track.event >= 0))
    which, place = np.unique(track.event[hits], return_index=True)
    first = hits[place]
    at[which] = track.seconds[first]
    known = ~track.begun[which] & (start[first] >= track.first[which])
    delay[which[known]] = (at - track.onset)[which[known]]
    normal = int(track.normal.sum())
    return Outcome(
        found=~np.isnan(at),
        alarm_at=at,
        delay=delay,
        false_at=begins,
        false_until=stops,
        alarms=int((alarm & ~before).sum()),
        normal_hours=track.normal_hours,
        in_alarm=float(alarm.sum() / track.real.sum()),
        normal_in_alarm=float(is_false.sum() / normal) if normal else float("nan"),
    )
