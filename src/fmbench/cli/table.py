"""`fmbench table`, `fmbench compare`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from fmbench import tables
from fmbench.cli.data import ensure
from fmbench.config.dotted import nest
from fmbench.config.parser import Parser
from fmbench.config.resolve import DEFAULT_PROFILE, add_data, add_trainer
from fmbench.files.atomic import write_text
from fmbench.tables.render import NAMES, DrawTable
from fmbench.tabular import SIMULATED

FAILED = 1


def table(argv: list[str]) -> int:
    """Train and test what an experiment has no result of yet, and write its table."""
    parser = Parser(
        "table", "Make a table of the paper; what is there already is not trained again.", "NAME "
    )
    known = ", ".join(tables.known_experiments())
    parser.add_argument("name", help=f"{known}; or the path of a YAML file")
    parser.option("profile", str, DEFAULT_PROFILE, "how long to train: a profile or a YAML file")
    parser.option("seeds", int, 1, "trainings of each row, seeds 0, 1, …")
    parser.option("jobs", int, 1, "rows that train at the same time")
    parser.option(
        "results",
        str | None,
        None,
        "where results and tables go (default: experiments/results/PROFILE)",
        metavar="DIR",
    )
    parser.option("runs", str, "runs/experiments", "where checkpoints and logs go", metavar="DIR")
    parser.flag("stored", "train nothing: tabulate the results that are there")
    add_data(parser, "data, over the profile's and the rows'")
    add_trainer(parser)
    values, given = parser.values(argv)
    for option in ("seeds", "jobs"):
        if values[option] < 1:
            raise ValueError(f"--{option} is {values[option]}; it must be at least 1")
    experiment = tables.read_experiment(values["name"])
    profile = values["profile"]
    folder = Path(values["results"] or f"experiments/results/{Path(profile).stem}")
    grouped = [name for name in given if name.startswith(("data.", "trainer."))]
    ensure(Path(values["data.root"]), own_root="data.root" in given)
    if experiment.counts:
        written = tables.write_counts(experiment, Path(values["data.root"]), folder)
        print(written[0].read_text())
        print("\n".join(str(path) for path in written))
        return 0
    where: dict[str, Any] = {
        "results": folder / "runs",
        "runs": Path(values["runs"]),
        "at_once": values["jobs"],
        "train": not values["stored"],
        "say": lambda line: print(line, flush=True),
    }
    try:
        made = tables.make(
            experiment,
            profile=profile,
            seeds=values["seeds"],
            changes=nest({name: values[name] for name in grouped}),
            **where,
        )
        draw: DrawTable = {"lengths": tables.draw_lengths}.get(experiment.draw, tables.draw_rows)
        if experiment.draw == "cases":
            draw = tables.cases_drawn(made, **where)
    except KeyboardInterrupt as stopped:
        stopped.add_note("go on with the same command")
        raise
    written = tables.write_table(made, folder, draw)
    if made.measured:
        beside = {"interference": tables.interference_markdown, "events": tables.events_markdown}
        if experiment.against:
            beside["orders"] = tables.orders_markdown
        for kind, text in beside.items():
            written.append(folder / f"{experiment.name}-{kind}.md")
            write_text(written[-1], text(made))
    print()
    print(written[0].read_text())
    print("\n".join(str(path) for path in written))
    failed = any(line.failed for line in made.lines)
    return FAILED if failed and not values["stored"] else 0


def compare(argv: list[str]) -> int:
    """How much better A is than B, on the same test windows."""
    parser = Parser(
        "compare",
        "Paired comparison of two results (files that `fmbench table` wrote), A minus B."
        " Several seeds: separate files by commas.",
        "A B ",
    )
    parser.add_argument("a", help="A: result file, or several separated by commas")
    parser.add_argument("b", help="B: likewise")
    values, _ = parser.values(argv)
    a, b = ([tables.read_result(_file(name)) for name in values[x].split(",")] for x in "ab")
    found = tables.compare([each.windows for each in a], [each.windows for each in b])
    print(f"{a[0].facts['data']}, test part; A - B, 95 % interval, p of an exchange of blocks")
    if a[0].facts["synthetic"]:
        print(SIMULATED)
    for metric, each in found.items():
        value, low, high = each.difference
        p = "" if math.isnan(each.p) else f"   p {each.p:.4f}"
        print(f"{NAMES[metric]:<8}{value:>+9.4f}   [{low:+.4f}, {high:+.4f}]{p}")
    return 0


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"{name}: no such file; give result files, such as experiments/results/…")
    return path
