"""`alarms`: an alarm rule chosen on validation recordings and measured on test recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmbench.alarms.budget import Budget, duration, rate_bound, readable, support
from fmbench.alarms.calibration import Reliability, best_temperature, reliability
from fmbench.alarms.choose import Candidate, Cusum, best_of, cusum_states, tried, tried_cusum
from fmbench.alarms.events import OUTSIDE, Marks, Outcome, Track, judge, track_of
from fmbench.alarms.file import ALARMS_FILE, Alarms, calibrated, read_alarms, write_alarms
from fmbench.alarms.footage import Footage, footage_of, scored
from fmbench.alarms.rule import AlarmRule, Floats, states
from fmbench.data import FurnaceData
from fmbench.data.datamodule import Split
from fmbench.data.windows import spacing_of
from fmbench.files.checksum import sha256
from fmbench.files.staging import staged
from fmbench.progress import progress_bar
from fmbench.training.checkpoint import load
from fmbench.training.console import say
from fmbench.training.lit import Detector
from fmbench.training.measure import open_data
from fmbench.training.predict import AlarmOf

BARE = 0.5
"""The threshold of a classifier, which the rule is compared with."""
LONGEST_EVERY = 60.0
"""Seconds from one decision to the next."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A split: its decisions, and their calibrated scores, each (m,)."""

    track: Track
    scores: Floats
    odds: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """What was chosen on the validation recordings, and all that was tried."""

    alarms: Alarms
    budget: Budget
    cusum: Cusum
    cusum_met: bool
    candidates: Sequence[Candidate]
    picked: Candidate
    before: Reliability
    after: Reliability
    val: Scored


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A way to make alarms, and what it did on the test recordings."""

    name: str
    alarm: Marks
    outcome: Outcome


def choose_alarms(
    checkpoint: Path,
    out: Path,
    *,
    budget: Budget,
    every: float = 1.0,
    data: Mapping[str, Any] | None = None,
) -> Alarms:
    """Choose a rule for a checkpoint, measure it, and write both into a new folder.

    Args:
        checkpoint: a file that `fit` or `import_official` wrote.
        out: an empty or new folder; it is complete or absent.
        budget: false alarms that are allowed.
        every: seconds from one decision to the next.
        data: options of `FurnaceData` that differ from those of the training.

    Raises:
        ValueError: not a checkpoint, recordings that it cannot read, splits without footage, a
            validation part without an event or without normal operation, or a folder that is not
            empty.
    """
    from fmbench.alarms.pictures import draw
    from fmbench.alarms.report import events_csv, in_words

    detector = load(checkpoint)
    part = open_data(detector, data)
    apart = 1 / part.spec.plant.frame_rate
    if not apart * 0.999 <= every <= LONGEST_EVERY:
        raise ValueError(
            f"--every is {every}; it must be from {apart:g}, the time of a frame, to "
            f"{LONGEST_EVERY:g} seconds"
        )
    footage = {"val": footage_of(part, "val"), "test": footage_of(part, "test")}
    model = f"{detector.stamp['model']} ({detector.problem.modality})"
    with staged(out) as folder:
        say(f"{model}, an alarm rule for {budget.text}, on {part.description}")
        with progress_bar("val") as show:
            val = scored(detector, part, footage["val"], every, show)
        _check(val, every)
        chosen = choose(val, every, budget, checkpoint, part)
        say(in_one_line(chosen))
        with progress_bar("test") as show:
            test = scored(detector, part, footage["test"], every, show)
        measured = scored_at(test, every, chosen.alarms.temperature)
        methods = measure_methods(chosen, measured)
        say(measured_in_one_line(methods[0].outcome))
        write_alarms(folder / ALARMS_FILE, chosen.alarms)
        events_csv(folder / "events.csv", measured.track, methods[0].outcome)
        facts = {"model": model, "trained_on": detector.stamp["trained_on"]}
        (folder / "alarms.md").write_text(
            in_words(chosen, measured, methods, facts, causal_note(part, detector)),
            encoding="utf-8",
        )
        draw(folder, chosen, measured, methods)
    return chosen.alarms


def choose(
    footage: Sequence[Footage], every: float, budget: Budget, checkpoint: Path, data: FurnaceData
) -> Chosen:
    """Temperature, rule and CUSUM, from validation recordings only."""
    logits = torch.cat([each.logits for each in footage])
    label = np.concatenate([each.label for each in footage])
    temperature = float(f"{best_temperature(logits.numpy(), label):.6g}")
    val = scored_at(footage, every, temperature)
    before, after = (
        reliability(calibrated(logits, each), label > 0) for each in (1.0, temperature)
    )
    with progress_bar("choice") as show:
        candidates = tried(val.track, val.scores, show)
    picked, met = best_of(candidates, budget)
    cusum, cusum_met = best_of(tried_cusum(val.track, val.odds), budget)
    hours = val.track.normal_hours
    alarms = Alarms(
        rule=picked.rule,
        temperature=temperature,
        checkpoint_sha256=sha256(checkpoint),
        budget=budget.text,
        budget_met=met,
        normal_hours=round(hours, 4),
        false_alarms=len(picked.outcome.false_at),
        supports_at_best=float(f"{24 * rate_bound(hours):.4g}"),
        data=data.description,
        data_fingerprint=data.fingerprint(),
        simulated=data.synthetic,
    )
    return Chosen(
        alarms=alarms,
        budget=budget,
        cusum=cusum.rule,
        cusum_met=cusum_met,
        candidates=candidates,
        picked=picked,
        before=before,
        after=after,
        val=val,
    )


def scored_at(footage: Sequence[Footage], every: float, temperature: float) -> Scored:
    """The decisions of some footage with their scores at a temperature."""
    track = track_of(footage, every)
    odds = [
        (each.logits[:, 1:].double() / temperature).logsumexp(1)
        - each.logits[:, 0].double() / temperature
        for each in footage
    ]
    return Scored(
        track=track,
        scores=track.spread([calibrated(each.logits, temperature) for each in footage], OUTSIDE),
        odds=track.spread([each.numpy() for each in odds], float("nan")),
    )


def measure_methods(chosen: Chosen, test: Scored) -> list[Method]:
    """The chosen rule, the bare threshold, and CUSUM, on the test recordings."""
    every = chosen.alarms.rule.every
    bare = AlarmRule(on=BARE, off=BARE, every=every)
    alarms = {
        "rule": test.track.states(chosen.alarms.rule, test.scores),
        f"threshold {BARE}": test.track.states(bare, test.scores),
        "CUSUM": cusum_states(test.track, test.odds, [chosen.cusum])[:, 0],
    }
    return [Method(name=k, alarm=v, outcome=judge(test.track, v)) for k, v in alarms.items()]


def in_one_line(chosen: Chosen) -> str:
    """What was chosen, what supports it, and loudly if it does not meet the budget."""
    outcome, budget = chosen.picked.outcome, chosen.budget
    hours, count = outcome.normal_hours, len(outcome.false_at)
    text = (
        f"validation: {outcome.found.sum()} of {len(outcome.found)} events, {count} false alarms; "
        + support(hours, budget)
        + f"\nexpected calibration error: {chosen.before.ece:.4f}, with a temperature of "
        f"{chosen.alarms.temperature:.4g} {chosen.after.ece:.4f}"
    )
    if not chosen.alarms.budget_met:
        text = (
            f"NO RULE MEETS THE BUDGET of {budget.text}: the best has {count} false alarms in "
            f"{hours:.1f} h of normal operation ({outcome.per_day:.3g} a day)\n{text}"
        )
    return text


def measured_in_one_line(outcome: Outcome) -> str:
    """What the rule did on the test recordings."""
    low, high = outcome.interval
    return (
        f"test: {outcome.found.sum()} of {len(outcome.found)} events, median delay "
        f"{outcome.median:.1f} s; {len(outcome.false_at)} false alarms in "
        f"{duration(outcome.normal_hours)} of normal operation, {readable(outcome.per_day)} a day "
        f"[{readable(low)}, {readable(high)}]"
    )


def causal_note(data: FurnaceData, detector: Detector) -> str:
    """What to add to the delays of a live detector."""
    if not detector.problem.modality.has_current or data.spec.causal:
        return ""
    return (
        "Windows of this checkpoint hold up to a second of current after the frame (data.causal is "
        "false); a live detector alarms up to a second later."
    )


def measured_alarms(
    alarms: Alarms,
    checkpoint: Path,
    *,
    data: Mapping[str, Any] | None = None,
    split: Split = "test",
) -> dict[str, float]:
    """Event and range-based measures of a rule on a split, by name (`fmbench.alarms.report`).

    Raises:
        ValueError: not a checkpoint, or recordings that it cannot read.
    """
    from fmbench.alarms.report import measures, volume

    detector = load(checkpoint)
    part = open_data(detector, data)
    footage = footage_of(part, split)
    with progress_bar("alarms") as show:
        found = scored(detector, part, footage, alarms.rule.every, show)
    of_split = scored_at(found, alarms.rule.every, alarms.temperature)
    alarm = of_split.track.states(alarms.rule, of_split.scores)
    return {
        **measures(of_split, alarm, judge(of_split.track, alarm)),
        "vus_pr": volume(of_split),
    }


def alarm_of(path: Path, checkpoint: Path, every: int | str) -> AlarmOf:
    """The alarms of a file, for the predictions of a recording.

    Args:
        path: alarms.yaml.
        checkpoint: the one it was chosen for.
        every: frames from one prediction to the next; or seconds, as "1s".

    Raises:
        ValueError: another file, that of another checkpoint, or another spacing of decisions.
    """
    alarms = read_alarms(path, checkpoint)
    rate = load(checkpoint).problem.frame_rate
    spacing = spacing_of(every, rate) / rate
    if abs(spacing - alarms.rule.every) > 0.02 * alarms.rule.every:
        raise ValueError(
            f"--every {every} is a decision every {spacing:g} s, but the rule in {path} counts"
            f" decisions every {alarms.rule.every:g} s; give --every {alarms.rule.every:g}s"
        )
    return lambda seconds, logits: states(
        alarms.rule, seconds, calibrated(logits, alarms.temperature)
    )


def _check(footage: Sequence[Footage], every: float) -> None:
    """Raises: ValueError: nothing to choose a rule by."""
    track = track_of(footage, every)
    hours = sum(len(each.seconds) for each in footage) * every / 3600
    if not (track.event >= 0).any():
        raise ValueError(
            f"the validation part ({hours:.2g} h) has no event: a rule cannot be chosen; label an "
            "event in it, or choose other validation recordings (fmbench data select)"
        )
    if not track.normal.any():
        raise ValueError(
            f"the validation part ({hours:.2g} h) has no normal operation apart from events: false "
            "alarms cannot be counted; add recordings of normal operation to it"
        )
