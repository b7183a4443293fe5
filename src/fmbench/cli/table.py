"""`fmbench table`, `fmbench compare`."""

from __future__ import annotations

from pathlib import Path

from fmbench.cli.data import ensure
from fmbench.config import Parser, nest
from fmbench.options import add_data, add_trainer
from fmbench.registry import catalogue
from fmbench.tables import (
    compare as compare_windows,
)
from fmbench.tables import (
    events_markdown,
    interference_markdown,
    known_experiments,
    make,
    markdown,
    read_experiment,
    read_result,
    write_table,
    write_text,
)
from fmbench.tables.render import NAMES

FAILED = 1


def table(argv: list[str]) -> int:
    """Train and test what an experiment has no result of yet, and write its table."""
    parser = Parser(
        "table", "Make a table of the paper; what is there already is not trained again.", "NAME "
    )
    known = ", ".join(known_experiments())
    parser.add_argument("name", help=f"{known}; or the path of a YAML file")
    parser.option("profile", str, "cpu", "how long to train: a profile or a YAML file")
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
    experiment = read_experiment(values["name"])
    profile = values["profile"]
    folder = Path(values["results"] or f"experiments/results/{Path(profile).stem}")
    grouped = [name for name in given if name.startswith(("data.", "trainer."))]
    ensure(Path(values["data.root"]), own_root="data.root" in given)
    catalogue()  # a plug-in that cannot be imported says so now
    try:
        made = make(
            experiment,
            profile=profile,
            seeds=values["seeds"],
            results=folder / "runs",
            runs=Path(values["runs"]),
            at_once=values["jobs"],
            train=not values["stored"],
            say=lambda line: print(line, flush=True),
            changes=nest({name: values[name] for name in grouped}),
        )
    except KeyboardInterrupt as stopped:
        stopped.add_note("go on with the same command")
        raise
    written = write_table(made, folder)
    if made.measured:
        for kind, text in (
            ("interference", interference_markdown(made)),
            ("events", events_markdown(made)),
        ):
            written.append(folder / f"{experiment.name}-{kind}.md")
            write_text(written[-1], text)
    print()
    print(markdown(made))
    print("\n".join(str(path) for path in written))
    failed = [line for line in made.lines if line.failed]
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
    sides = [[read_result(_file(name)) for name in values[side].split(",")] for side in "ab"]
    found = compare_windows(*[[result.windows for result in side] for side in sides])
    first = sides[0][0].facts
    print(f"{first['data']}, test part; A - B, 95 % interval, p of an exchange of blocks")
    if first["synthetic"]:
        print("Simulated recordings: not results on the fused magnesium benchmark.")
    for metric, each in found.items():
        value, low, high = each.difference
        p = "" if each.p != each.p else f"   p {each.p:.4f}"
        print(f"{NAMES[metric]:<8}{value:>+9.4f}   [{low:+.4f}, {high:+.4f}]{p}")
    return 0


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"{name}: no such file; give result files, such as experiments/results/…")
    return path
