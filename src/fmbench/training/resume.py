"""The checkpoint that a training goes on from: found, whole, and of the same training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmbench.config.schema import changes
from fmbench.training import checkpoint as checkpoints
from fmbench.training.lit import Detector
from fmbench.training.loop import places
from fmbench.training.progress import say


def resume_from(
    resume: str | Path | None, run: Path, detector: Detector, *, force: bool
) -> Path | None:
    """The checkpoint to go on from, seen to be of the same training."""
    if resume is None:
        return None
    if str(resume) == "auto":
        found = _newest(run, detector)
        if found is None:
            say(f"nothing to resume in {run}; starting anew")
            return None
        path, content = found
    else:
        path = Path(resume)
        content = checkpoints.read(path)
    about = content["fmbench"]
    for key in ("model", "problem"):
        was, now = about[key], detector.stamp[key]
        if was != now:
            raise ValueError(f"{path}: its {key} is {was}, this run's is {now}; nothing resumed")
    changed = _changed(about, detector.stamp)
    if changed and not force:
        listed = [*changed[:3], *([f"and {len(changed) - 3} more"] if len(changed) > 3 else [])]
        raise ValueError(
            f"{path}: of another training; nothing resumed. --force goes on all the same\n"
            + "\n".join(listed)
        )
    checkpoints.load_weights(detector, content["state_dict"], path)
    detector.stamp["seconds"] = about.get("seconds", 0)
    detector.resumed = content.get("processes", [])
    return path


def _newest(run: Path, detector: Detector) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a run that is whole, and its content.

    Raises:
        ValueError: there are some, and none is whole.
    """
    made = [
        folder / f"{name}.ckpt"
        for folder in reversed(places(run, detector.stages))
        for name in ("last", "previous", "best")
    ]
    broken = None
    for path in made:
        if path.is_file():
            try:
                return path, checkpoints.read(path)
            except ValueError as error:
                say(str(error).partition("\n")[0] + "; the one before it is tried")
                broken = error
    if broken is not None:
        raise broken
    return None


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two trainings, one line each; nothing for checkpoints before 0.2."""
    if "config" not in was:
        return []
    lines = changes(was["config"], now["config"])
    if was["data_fingerprint"] != now["data_fingerprint"]:
        lines.append(f"the recordings are {now['trained_on']}, were {was['trained_on']}")
    return lines
