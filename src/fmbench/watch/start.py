"""Begin a watch: everything that can be wrong is found before the first decision."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from fmbench.alarms.file import Alarms, read_alarms
from fmbench.alarms.rule import AlarmRule
from fmbench.files.checksum import sha256
from fmbench.format.columns import format_second
from fmbench.prepare.ingest.placing import created_at
from fmbench.prepare.ingest.times import Times
from fmbench.prepare.ingest.video_clock import NO_CLOCK, start_of
from fmbench.prepare.ingest.video_files import dated, find_videos
from fmbench.training.checkpoint import load
from fmbench.watch.announce import Announcer, Witness
from fmbench.watch.clock import ArrivalClock, FileClock, FrameClock, local_now, utc_now
from fmbench.watch.currents import LiveCurrents
from fmbench.watch.events import EventLog, Memory, Messages, Output
from fmbench.watch.grid import first_second
from fmbench.watch.judge import Judge, causal_shift
from fmbench.watch.latch import Alarm
from fmbench.watch.lines import GrowingFile, LineSource, Pipe
from fmbench.watch.options import WatchOptions
from fmbench.watch.page import Page
from fmbench.watch.reader import Reader
from fmbench.watch.record import Command, Recorder
from fmbench.watch.run import Watch
from fmbench.watch.shown import Shown
from fmbench.watch.sources import VideoSource

PATIENCE = 3.0
"""Seconds in which a live log is expected to show its layout, before watching begins without."""


def watch(checkpoint: Path, options: WatchOptions) -> int:
    """Watch until the files end, or for ever.

    Args:
        checkpoint: a file that `fit` wrote.
        options: what is watched, and how.

    Returns:
        0 at the end of the files; 1 after `give_up`.

    Raises:
        ValueError: an input or an option that cannot be used.
    """
    with ExitStack() as stack:
        return _watch(checkpoint, options, stack)


def _watch(checkpoint: Path, options: WatchOptions, stack: ExitStack) -> int:
    tell, out = Messages(), options.out
    alarms = None if options.alarms is None else read_alarms(options.alarms, checkpoint)
    rule = _rule(options, alarms)
    judge = Judge(load(checkpoint), None if alarms is None else alarms.temperature)
    plan = judge.plan(rule.every)
    given = None if options.start is None else start_of(options.start, options.log)
    source = VideoSource(
        options.video,
        replay=options.replay,
        stamped=given is not None and not options.replay,
        threads=options.threads,
    )
    _check_inputs(judge, options)
    start = None if given is None else float(given.seconds[0])
    if options.replay and start is None:
        start = _start_of_file(source.path or Path(options.video), tell)
    currents = _currents(judge, options, start, given, tell, stack)
    clock, now = _clocks(options, start, currents)
    begins = currents.first() if currents is not None and start is not None else None
    reader = Reader(
        source,
        clock,
        plan,
        roi=options.roi,
        size=judge.size,
        begin=lambda first: max(first_second(first), begins or 0),
        views=out is not None or options.page is not None,
    )
    _introduce(judge, rule, alarms, tell)
    facts = {
        "checkpoint": sha256(checkpoint),
        "rule": asdict(rule),
    }
    memory = Memory(None if out is None else out / "state.json", facts, tell)
    kept = memory.read()
    announcer = Announcer(
        Alarm(rule, None if kept is None else kept["latch"]),
        output=Output(sys.stdout, tell),
        log=EventLog(None if out is None else out / "events.jsonl", tell),
        memory=memory,
        witnesses=_witnesses(judge, rule, options, tell, stack),
        lost=None if kept is None else kept["lost"],
    )
    running = Watch(
        judge,
        reader,
        currents,
        every=rule.every,
        replay=options.replay,
        arriving=start is None,
        now=now,
        wait=options.wait,
        give_up=options.give_up,
        announcer=announcer,
        tell=tell,
    )
    status = running.run()
    counts = announcer.counts
    tell(
        f"{counts['decisions']} decisions, {counts['NO DECISION']} could not be made;"
        f" {counts['alarms']} alarms"
    )
    return status


def _rule(options: WatchOptions, alarms: Alarms | None) -> AlarmRule:
    """Raises: ValueError: another --every than the rule's."""
    if alarms is None:
        return AlarmRule(every=1.0 if options.every is None else options.every)
    if options.every not in (None, alarms.rule.every):
        raise ValueError(
            f"--every is {options.every:g} s, but the rule in {options.alarms} was chosen for a"
            f" decision every {alarms.rule.every:g} s; leave --every out"
        )
    return alarms.rule


def _check_inputs(judge: Judge, options: WatchOptions) -> None:
    """Raises: ValueError: a log is missing, or has no effect."""
    if judge.modality.has_current and options.current is None:
        raise ValueError(f"--current is missing; the checkpoint reads {judge.modality} input")
    if not judge.modality.has_current and options.current is not None:
        raise ValueError(
            "--current would have no effect: the checkpoint reads video alone; leave it out"
        )


def _currents(
    judge: Judge,
    options: WatchOptions,
    start: float | None,
    given: Times | None,
    tell: Messages,
    stack: ExitStack,
) -> LiveCurrents | None:
    """The log, of which the first rows were read."""
    if options.current is None:
        return None
    currents = LiveCurrents(
        _lines(options, skip=start is None),
        options.log,
        judge.plant,
        phases=judge.detector.problem.current_channels,
        samples=judge.spec.current_samples,
        tell=tell,
        start=start if given is not None else None,
    )
    stack.callback(currents.close)
    _settle(currents, options.replay)
    if given is not None and currents.clock not in (None, "elapsed", given.clock):
        both = ("--start", options.current)
        zoned, bare = both if given.clock == "utc" else both[::-1]
        raise ValueError(
            f"{zoned} has times with a zone (or since 1970), {bare} without: they cannot be"
            " compared; give --zone, as --zone Europe/Berlin"
        )
    return currents


def _lines(options: WatchOptions, *, skip: bool) -> LineSource:
    """Raises: ValueError: a folder, or a replay of a log that is not there."""
    assert options.current is not None
    if options.current == "-":
        return Pipe(sys.stdin)
    path = Path(options.current)
    if path.is_dir():
        raise ValueError(f"--current {path} is a folder; give the file of the log")
    if options.replay and not path.is_file():
        raise ValueError(f"--current {path}: no such file")
    return GrowingFile(
        path, options.log.encoding, follow=not options.replay, skip=skip and not options.replay
    )


def _settle(currents: LiveCurrents, replay: bool) -> None:
    """Read the log's first rows, so that a log that cannot be read is refused at once."""
    begin = time.monotonic()
    while not currents.ended and currents.first() is None:
        if currents.poll():
            continue
        if not replay and time.monotonic() - begin > PATIENCE:
            return
        time.sleep(0.02)


def _clocks(
    options: WatchOptions, start: float | None, currents: LiveCurrents | None
) -> tuple[FrameClock, Callable[[], float]]:
    """The frames' clock, and the time now by the log's clock: UTC if the log's is, else this
    computer's wall clock."""
    known = None if currents is None else currents.clock
    in_utc = options.log.zone is not None if known is None else known == "utc"
    now = utc_now if in_utc else local_now
    if start is None:
        return ArrivalClock(options.offset, now), now
    return FileClock(start, options.offset), now


def _start_of_file(path: Path, tell: Messages) -> float:
    """Seconds since 1970 of a recording's first frame, by its name or container.

    Raises:
        ValueError: neither says so.
    """
    first = find_videos([path])[0]
    found = dated(first)
    if found is None:
        found = created_at(first)
    if found is None:
        raise ValueError(NO_CLOCK.partition(":")[0] + ": give --start, the time of its first frame")
    tell(f"the first frame is of {format_second(found)}, as {first.name} says")
    return found


def _witnesses(
    judge: Judge, rule: AlarmRule, options: WatchOptions, tell: Messages, stack: ExitStack
) -> list[Witness]:
    """The recorder of alarms, the command and the page, as far as options name them."""
    found: list[Witness] = []
    if options.on_alarm is not None:
        command = Command(options.on_alarm, tell)
        stack.callback(command.close)
        found.append(command)
    if options.out is not None:
        trained_on = judge.detector.stamp["trained_on"]
        recorder = Recorder(
            options.out,
            keep=options.keep,
            plant=judge.plant,
            title=f"{judge.detector.stamp['model']}, trained on {trained_on.partition(',')[0]}",
            threshold=rule.on,
            tell=tell,
        )
        stack.callback(recorder.close)
        found.append(recorder)
    if options.page is not None:
        stamp = judge.detector.stamp
        shown = Shown(
            title=f"Watch: {stamp['model']}",
            plant=judge.plant,
            modality=judge.modality,
            rule=rule,
            simulated=judge.detector.trained_on_simulated,
            out=options.out,
            token=options.page_token,
        )
        page = Page(options.page, options.page_token, shown, tell)
        stack.callback(page.close)
        tell(f"page: {page.address}" + ("?token=…" if options.page_token else ""))
        found.append(shown)
    return found


def _introduce(judge: Judge, rule: AlarmRule, alarms: Alarms | None, tell: Messages) -> None:
    """Say what is watched with, and what must be known about it."""
    stamp = judge.detector.stamp
    tell(f"{stamp['model']} ({judge.modality}), trained on {stamp['trained_on']}")
    tell(
        f"alarm: {rule.needed} of {rule.of} decisions at {rule.on:g} or above, one every"
        f" {rule.every:g} s" + (", no rule was chosen (--alarms)" if alarms is None else "")
    )
    if alarms is not None:
        simulated = ", simulated" if alarms.simulated else ""
        tell(
            f"{alarms.false_alarms} false alarms in {alarms.normal_hours:.1f} h of validation"
            f"{simulated}; budget {alarms.budget}{'' if alarms.budget_met else ', NOT met'}"
        )
    if judge.modality.has_current and not judge.was_causal:
        tell(
            "WARNING: this checkpoint was trained on windows that show up to a second of current"
            f" after the frame; watching shows none. Scores differ: {causal_shift(judge.detector)}."
            " Train with --data.causal true for a furnace that is watched"
        )
