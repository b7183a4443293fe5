"""`fmbench sweep`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from fmbench import sweep as sweeps
from fmbench.cli.data import ensure_given
from fmbench.config.hints import Folder
from fmbench.config.resolve import DataOptions, TrainerOptions
from fmbench.tabular import SIMULATED

FAILED = 1


def sweep(
    file: str,
    *,
    jobs: int = 1,
    count: int | None = None,
    out: Folder | None = None,
    config: Annotated[Sequence[str], "FILE"] = (),
    data: DataOptions,
    trainer: TrainerOptions,
) -> int:
    """Run a W&B sweep file without a server.

    Methods grid, random and bayes; trials that have been trained are not trained again. Over many
    machines: wandb sweep FILE, wandb agent ID.

    Args:
        file: a sweep of configs/sweep/, such as table5, or the path of a W&B sweep file.
        jobs: trials that train at the same time.
        out: folder of the sweep (default: runs/sweeps/NAME).
        config: a profile or a YAML file, over the sweep's; may be repeated.
        data: data, over the sweep's.
        trainer: Lightning's Trainer.
    """
    for option, value in (("jobs", jobs), ("count", count)):
        if value is not None and value < 1:
            raise ValueError(f"--{option} is {value}; it must be at least 1")
    asked = sweeps.read_sweep(file)
    out = out or Path(f"runs/sweeps/{asked.name}")
    ensure_given(data)
    more = [f"--config={name}" for name in config]
    for group, options in (("data", data), ("trainer", trainer)):
        more += [f"--{group}.{name}={value}" for name, value in options.items()]
    try:
        table = sweeps.run_sweep(
            asked,
            out=out,
            at_once=jobs,
            say=lambda line: print(line, flush=True),
            more=more,
            count=count,
        )
    except KeyboardInterrupt as stopped:
        stopped.add_note("go on with the same command")
        raise
    written = sweeps.write_summary(asked, table, _measured_on(out), out)
    print()
    print(written[0].read_text())
    print("\n".join(str(path) for path in written))
    return FAILED if (table["failed"] != "").any() else 0


def _measured_on(out: Path) -> str:
    """The sentences about the trials' data, from the first trial that has ended."""
    for path in sorted(out.glob("*/val.json")):
        found = json.loads(path.read_text())
        said = (
            f"Validation part of {found['data']}; the best epoch of each trial. Test data: unseen."
        )
        if found["synthetic"]:
            said += f" {SIMULATED}"
        return said
    return "No trial has ended."
