"""`fmbench data annotate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmbench.config.parser import Parser
from fmbench.data.recording import Recording
from fmbench.prepare import annotate as events_to_masks
from fmbench.prepare.annotate import RADIUS, SIGMA, Agreement, Event, read_events
from fmbench.prepare.annotate.event_picture import event_picture
from fmbench.prepare.annotate.events import MARKS


def annotate(argv: list[str]) -> int:
    """Masks from key frames and boxes, as the labels of recordings, and a picture of each event."""
    parser = Parser(
        "data annotate",
        "Masks from onset, apex, offset and boxes on key frames: boxes are propagated to the "
        "frames between, and refined by a weighted median filter that the frame guides.",
        "--events FILE --root ROOT ",
    )
    parser.option("events", str | None, None, "YAML, or COCO-style JSON", metavar="FILE")
    parser.option("root", str | None, None, "the data set's folder", metavar="DIR")
    parser.flag("replace", "overwrite the labels of recordings that have some")
    parser.flag("compare", "write no label: say how far boxes and masks agree with those there")
    parser.option("pictures", str, "annotation", "where pictures of the events go", metavar="DIR")
    parser.option("radius", float, RADIUS, "of the filter, in sides of the box")
    parser.option("sigma", float, SIGMA, "of the filter, in grey levels of red")
    values, _ = parser.values(argv)
    _check(values)
    asked = {name: values[name] for name in ("replace", "compare")}
    knobs = {name: values[name] for name in ("radius", "sigma")}
    recordings = events_to_masks.recordings_to_annotate(values["root"])
    events = read_events(Path(values["events"]), recordings)
    chosen = [recording for recording in recordings if recording.name in events]
    for recording in chosen:  # all of them before the first is written
        events_to_masks.check_labels(recording, **asked)
    coarse, refined, compared = Agreement(), Agreement(), 0
    for recording in chosen:
        mine = events[recording.name]
        _draw(recording, mine, Path(values["pictures"]), knobs)  # labels there are the old ones
        found = events_to_masks.annotate(recording, mine, **asked, **knobs)
        path = events_to_masks.destination(recording)
        done = "compared with" if values["compare"] else "written to"
        print(
            f"{recording.name}: {len(mine)} event{'s' * (len(mine) != 1)}, {found.frames} of "
            f"{recording.num_frames} frames; {done} {path}"
        )
        if found.compared:
            print(f"  {_agreement(found.coarse, found.refined)}")
            if found.missed:
                print(f"  {found.missed} frames outside the events were labelled abnormal")
            coarse, refined, compared = coarse + found.coarse, refined + found.refined, compared + 1
    if compared > 1:
        print(f"{compared} recordings together: {_agreement(coarse, refined)}")
    return 0


def _check(values: dict[str, Any]) -> None:
    for needed in ("events", "root"):
        if values[needed] is None:
            raise ValueError(f"--{needed} is missing; see fmbench data annotate --help")
    for above_zero in ("radius", "sigma"):
        if not values[above_zero] > 0:
            raise ValueError(f"--{above_zero} is {values[above_zero]:g}; it must be above 0")
    if values["replace"] and values["compare"]:
        raise ValueError("--replace overwrites labels and --compare leaves them; give one of them")


def _draw(recording: Recording, events: list[Event], folder: Path, knobs: dict[str, float]) -> None:
    for number, event in enumerate(events, 1):
        marks: dict[int, str] = {}
        for mark in MARKS:
            frame = getattr(event, mark)
            marks[frame] = f"{marks[frame]}, {mark}" if frame in marks else mark
        path = event_picture(
            folder / f"{recording.name}-event-{number}.png",
            events_to_masks.show(recording, events, event, **knobs),
            marks=marks,
            title=f"{recording.name}, event {number} of {len(events)}",
            synthetic=recording.synthetic,
        )
        print(path)


def _agreement(coarse: Agreement, refined: Agreement) -> str:
    """IoU of abnormal pixels with the labels that were there."""
    return (
        f"IoU with the labels that it had: boxes {coarse.pooled:.3f} (mean of frames "
        f"{coarse.mean:.3f}), refined masks {refined.pooled:.3f} ({refined.mean:.3f})"
    )
