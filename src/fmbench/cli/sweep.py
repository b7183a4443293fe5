"""`fmbench sweep`."""

from __future__ import annotations

import json
from pathlib import Path

from fmbench import sweep as sweeps
from fmbench.cli.data import ensure
from fmbench.config.parser import Parser
from fmbench.config.resolve import add_data, add_trainer
from fmbench.tabular import SIMULATED

FAILED = 1


def sweep(argv: list[str]) -> int:
    """Train the trials of a W&B sweep file here, without a server."""
    parser = Parser(
        "sweep",
        "Run a W&B sweep file without a server (grid, random, bayes); what is trained already is"
        " not trained again. Over many machines: wandb sweep FILE, wandb agent ID.",
        "FILE ",
    )
    known = ", ".join(sweeps.known_sweeps())
    parser.add_argument("file", help=f"{known}; or the path of a W&B sweep file")
    parser.option("jobs", int, 1, "trials that train at the same time")
    parser.option("count", int | None, None, "trials in all (default: the file's run_cap)")
    parser.option("out", str | None, None, "its folder (default: runs/sweeps/NAME)", metavar="DIR")
    parser.repeated("config", "a profile or a YAML file, over the sweep's", metavar="FILE")
    add_data(parser, "data, over the sweep's")
    add_trainer(parser)
    values, given = parser.values(argv)
    for option in ("jobs", "count"):
        if values[option] is not None and values[option] < 1:
            raise ValueError(f"--{option} is {values[option]}; it must be at least 1")
    asked = sweeps.read_sweep(values["file"])
    out = Path(values["out"] or f"runs/sweeps/{asked.name}")
    ensure(Path(values["data.root"]), own_root="data.root" in given)
    more = [f"--config={name}" for name in values["config"] or ()]
    more += [
        f"--{name}={values[name]}"
        for name in sorted(given)
        if name.startswith(("data.", "trainer."))
    ]
    try:
        table = sweeps.run_sweep(
            asked,
            out=out,
            at_once=values["jobs"],
            say=lambda line: print(line, flush=True),
            more=more,
            count=values["count"],
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
    """What the trials say of their data."""
    for path in sorted(out.glob("*/val.json")):
        found = json.loads(path.read_text())
        said = (
            f"Validation part of {found['data']}; the best epoch of each trial. Test data: unseen."
        )
        if found["synthetic"]:
            said += f" {SIMULATED}"
        return said
    return "No trial has ended."
