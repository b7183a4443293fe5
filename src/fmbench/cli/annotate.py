"""`fmbench data annotate`."""

from __future__ import annotations

from pathlib import Path

from fmbench.config.hints import File, Folder
from fmbench.data.recording import Recording
from fmbench.prepare import annotate as events_to_masks
from fmbench.prepare.annotate import RADIUS, SIGMA, Agreement, Event, read_events
from fmbench.prepare.annotate.event_picture import event_picture
from fmbench.prepare.annotate.events import MARKS


def annotate(
    *,
    events: File,
    root: Folder,
    replace: bool = False,
    compare: bool = False,
    pictures: Folder = Path("annotation"),
    radius: float = RADIUS,
    sigma: float = SIGMA,
) -> int:
    """Write masks from boxes on key frames, and a picture of each event.

    Onset, apex and offset of an event have boxes; boxes are propagated to the frames between them,
    and refined by a weighted median filter that the frame guides.

    Args:
        events: YAML, or COCO-style JSON.
        root: the data set's folder.
        pictures: folder of the pictures.
        radius: radius of the filter, in sides of the box.
        sigma: deviation of the filter, in grey levels of red.
    """
    for name, value in (("radius", radius), ("sigma", sigma)):
        if not value > 0:
            raise ValueError(f"--{name} is {value:g}; it must be above 0")
    if replace and compare:
        raise ValueError("--replace overwrites labels and --compare leaves them; give one of them")
    refining: dict[str, float] = {"radius": radius, "sigma": sigma}
    recordings = events_to_masks.recordings_to_annotate(root)
    of_recording = read_events(events, recordings)
    chosen = [recording for recording in recordings if recording.name in of_recording]
    for recording in chosen:  # all of them before the first is written
        events_to_masks.check_labels(recording, replace=replace, compare=compare)
    coarse, refined, compared = Agreement(), Agreement(), 0
    for recording in chosen:
        mine = of_recording[recording.name]
        _draw(recording, mine, pictures, refining)  # labels there are the old ones
        found = events_to_masks.annotate(
            recording, mine, replace=replace, compare=compare, **refining
        )
        path = events_to_masks.destination(recording)
        done = "compared with" if compare else "written to"
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


def _draw(
    recording: Recording, events: list[Event], folder: Path, refining: dict[str, float]
) -> None:
    for number, event in enumerate(events, 1):
        marks: dict[int, str] = {}
        for mark in MARKS:
            frame = getattr(event, mark)
            marks[frame] = f"{marks[frame]}, {mark}" if frame in marks else mark
        path = event_picture(
            folder / f"{recording.name}-event-{number}.png",
            events_to_masks.show(recording, events, event, **refining),
            marks=marks,
            title=f"{recording.name}, event {number} of {len(events)}",
            synthetic=recording.synthetic,
        )
        print(path)


def _agreement(coarse: Agreement, refined: Agreement) -> str:
    """IoU of abnormal pixels with the existing labels, in words."""
    return (
        f"IoU with the labels that it had: boxes {coarse.pooled:.3f} (mean of frames "
        f"{coarse.mean:.3f}), refined masks {refined.pooled:.3f} ({refined.mean:.3f})"
    )
