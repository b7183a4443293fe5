"""From sparse boxes to masks: the way in which the benchmark was annotated (paper IV-A, Fig. 3).

Onset, apex and offset of each anomaly and boxes on a few key frames are drawn by a person. Boxes
are propagated to the frames between, and refined to masks by a filter that the frames guide.
"""

from __future__ import annotations

from fmbench.prepare.annotate.events import Event, read_events
from fmbench.prepare.annotate.labels import (
    Agreement,
    Annotated,
    annotate,
    check_labels,
    destination,
    recordings_to_annotate,
)
from fmbench.prepare.annotate.masks import Shown, show
from fmbench.prepare.annotate.refine import RADIUS, SIGMA

__all__ = [
    "RADIUS",
    "SIGMA",
    "Agreement",
    "Annotated",
    "Event",
    "Shown",
    "annotate",
    "check_labels",
    "destination",
    "read_events",
    "recordings_to_annotate",
    "show",
]
