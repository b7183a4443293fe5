"""Find the checkpoint that a training resumes from, and check that it is of the same training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fmbench.config.schema import changes
from fmbench.stages import Stage
from fmbench.training.checkpoint import load_weights, read_checkpoint, stage_folders
from fmbench.training.console import say
from fmbench.training.lit import Detector


class Start(NamedTuple):
    """Where a training resumes."""

    checkpoint: Path
    stage: int
    """Index of the stage in which the checkpoint was written."""


def resume_from(
    resume: str | Path | None, run: Path, detector: Detector, *, force: bool
) -> Start | None:
    """Load the weights and the process states of a checkpoint into `detector`.

    Args are those of `fmbench.training.run.fit`. Returns None for a training from the beginning.

    Raises:
        ValueError: a checkpoint that is damaged, or of another model, training or stage.
    """
    if resume is None:
        return None
    if str(resume) == "auto":
        found = _newest(run, detector.stages)
        if found is None:
            say(f"nothing to resume in {run}; the training starts from the beginning")
            return None
        path, content = found
    else:
        path = Path(resume)
        content = read_checkpoint(path)
    facts = content["fmbench"]
    for key in ("model", "problem"):
        was, now = facts[key], detector.stamp[key]
        if was != now:
            raise ValueError(f"{path}: its {key} is {was}, this run's is {now}; nothing resumed")
    changed = _changed(facts, detector.stamp)
    if changed and not force:
        listed = [*changed[:3], *([f"and {len(changed) - 3} more"] if len(changed) > 3 else [])]
        raise ValueError(
            f"{path}: of another training; nothing resumed. --force resumes all the same\n"
            + "\n".join(listed)
        )
    names = [stage.name for stage in detector.stages]
    stage = facts.get("stage", names[-1])
    if stage not in names:
        raise ValueError(
            f"{path} is of stage {stage}; this training's are {', '.join(names)}; nothing resumed"
        )
    was, now = facts.get("precision"), detector.stamp["precision"]
    if was not in (None, now):
        say(f"{path} was trained in precision {was}; the training goes on in {now}")
    load_weights(detector, content["state_dict"], path)
    detector.stamp["seconds"] = facts.get("seconds", 0)
    detector.process_states = content.get("processes", [])
    return Start(path, names.index(stage))


def _newest(run: Path, stages: Sequence[Stage]) -> tuple[Path, dict[str, Any]] | None:
    """The newest intact checkpoint of a run and its content; None if the run has no checkpoint.

    Raises:
        ValueError: every checkpoint is damaged.
    """
    paths = [
        folder / f"{name}.ckpt"
        for folder in reversed(stage_folders(run, stages))
        for name in ("last", "previous", "best")
    ]
    damaged = None
    for path in paths:
        if path.is_file():
            try:
                return path, read_checkpoint(path)
            except ValueError as error:
                say(str(error).partition("\n")[0] + "; trying the checkpoint before it")
                damaged = error
    if damaged is not None:
        raise damaged
    return None


def _changed(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences between two trainings, one line each; none for checkpoints before 0.2."""
    if "config" not in was:
        return []
    lines = changes(was["config"], now["config"])
    if was["data_fingerprint"] != now["data_fingerprint"]:
        lines.append(f"the recordings are {now['trained_on']}, were {was['trained_on']}")
    return lines
