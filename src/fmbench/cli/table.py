"""`fmbench table`, `fmbench compare`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from fmbench import tables
from fmbench.cli.data import ensure_given, write
from fmbench.config.hints import Folder
from fmbench.config.profiles import find_config
from fmbench.config.resolve import DEFAULT_PROFILE, DataOptions, TrainerOptions
from fmbench.files.atomic import write_text
from fmbench.tables.render import DrawTable, Tex, shown
from fmbench.tabular import SIMULATED

FAILED = 1


def table(
    name: str,
    *,
    profile: str = DEFAULT_PROFILE,
    seeds: int = 1,
    jobs: int = 1,
    results: Folder | None = None,
    runs: Folder = Path("runs/experiments"),
    stored: bool = False,
    metrics: str | None = None,
    tex: Tex = "intervals",
    stale: Literal["keep", "retrain"] = "keep",
    data: DataOptions,
    trainer: TrainerOptions,
) -> int:
    """Make a table of the paper: train, test and tabulate.

    Rows that already have results are not trained again.

    Args:
        name: an experiment of experiments/, such as table2, or the path of a YAML file.
        profile: how long to train: a profile or a YAML file.
        seeds: trainings of each row, seeds 0, 1, …
        jobs: rows that train at the same time.
        results: folder of results and tables (default: experiments/results/PROFILE).
        runs: folder of checkpoints and logs.
        stored: train nothing: tabulate the existing results.
        metrics: columns, separated by commas, of acc, f1, fdr, mdr, miou, auroc and aupr (default:
            the experiment's).
        tex: cells of the LaTeX table: value and interval, with the paper's value below; or compact,
            value ± standard deviation over seeds.
        stale: rows whose method's module has changed since their training: keep their results, or
            retrain.
        data: data, over the profile's and the rows'.
        trainer: Lightning's Trainer.
    """
    for option, value in (("seeds", seeds), ("jobs", jobs)):
        if value < 1:
            raise ValueError(f"--{option} is {value}; it must be at least 1")
    if stored and stale == "retrain":
        raise ValueError("--stored trains nothing, --stale retrain trains rows again; choose one")
    experiment = tables.read_experiment(name, metrics.split(",") if metrics else None)
    folder = results or Path(f"experiments/results/{Path(profile).stem}")
    find_config(profile)  # a misspelt profile is found before data are simulated
    if experiment.grid is None:
        root = ensure_given(data)
    elif "root" in data:
        raise ValueError(f"{name} simulates its own data sets; leave --data.root out")
    else:
        tables.simulate_cells(experiment, write)
    if experiment.counts:
        written = tables.write_counts(experiment, root, folder)
        print(written[0].read_text())
        print("\n".join(str(path) for path in written))
        return 0
    groups = {"data": data, "trainer": trainer}
    where: dict[str, Any] = {
        "results": folder / "runs",
        "runs": runs,
        "at_once": jobs,
        "train": not stored,
        "say": lambda line: print(line, flush=True),
    }
    try:
        made = tables.make(
            experiment,
            profile=profile,
            seeds=seeds,
            retrain=stale == "retrain",
            rates=tables.read_rates(folder),
            changes={key: each for key, each in groups.items() if each},
            **where,
        )
        kinds = {"lengths": tables.draw_lengths, "windows": tables.draw_windows}
        draw: DrawTable = kinds.get(experiment.draw, tables.draw_rows)
        if experiment.draw == "grid":
            draw = tables.grid_drawn(made, tables.ceilings(experiment, folder, where["say"]))
        if experiment.draw == "cases":
            draw = tables.cases_drawn(made, **where)
    except KeyboardInterrupt as stopped:
        stopped.add_note("go on with the same command")
        raise
    written = tables.write_table(made, folder, draw, tex)
    if made.measured:
        beside = {"interference": tables.interference_markdown, "events": tables.events_markdown}
        if experiment.against:
            beside["orders"] = tables.orders_markdown
        if any("pixel_tp" in line.windows[0] for line in made.measured):
            beside["area"] = tables.area_markdown
            written.append(tables.draw_area(made, folder / f"{experiment.name}-area.png"))
        for kind, text in beside.items():
            written.append(folder / f"{experiment.name}-{kind}.md")
            write_text(written[-1], text(made))
    print()
    print(written[0].read_text())
    print("\n".join(str(path) for path in written))
    failed = any(line.failed for line in made.lines)
    return FAILED if failed and not stored else 0


def tune(
    name: str,
    *,
    profile: str = DEFAULT_PROFILE,
    windows: int = 4000,
    jobs: int = 1,
    results: Folder | None = None,
    runs: Folder = Path("runs/tuning"),
    data: DataOptions,
    trainer: TrainerOptions,
) -> int:
    """Choose each row's learning rate: three short trainings, judged on validation recordings.

    `fmbench table` trains the rows at the chosen rates, which rates.yaml holds beside the results.

    Args:
        name: an experiment of experiments/, such as table2, or the path of a YAML file.
        profile: whose rate is tried, a third of it and three times it: a profile or a YAML file.
        windows: training windows of each training.
        jobs: trainings at the same time.
        results: folder of rates.yaml (default: experiments/results/PROFILE).
        runs: folder of checkpoints and logs.
        data: data, over the profile's and the rows'.
        trainer: Lightning's Trainer.
    """
    for option, value in (("windows", windows), ("jobs", jobs)):
        if value < 1:
            raise ValueError(f"--{option} is {value}; it must be at least 1")
    experiment = tables.read_experiment(name)
    if experiment.counts or experiment.grid:
        raise ValueError(f"{name} has no rates of its own; tune table2, whose rows it shares")
    find_config(profile)
    ensure_given(data)
    groups = {"data": data, "trainer": trainer}
    try:
        written = tables.tune(
            experiment,
            profile=profile,
            windows=windows,
            folder=results or Path(f"experiments/results/{Path(profile).stem}"),
            runs=runs,
            at_once=jobs,
            say=lambda line: print(line, flush=True),
            changes={key: each for key, each in groups.items() if each},
        )
    except KeyboardInterrupt as stopped:
        stopped.add_note("go on with the same command")
        raise
    print(written)
    return 0


def compare(a: str, b: str) -> int:
    """Compare two results in pairs, A minus B, on the same test windows.

    Args:
        a: result file that `fmbench table` wrote, or one a seed, separated by commas.
        b: likewise.
    """
    first, second = (
        [tables.read_result(_file(name)) for name in names.split(",")] for names in (a, b)
    )
    found = tables.compare([each.windows for each in first], [each.windows for each in second])
    print(f"{first[0].facts['data']}, test part; A - B, 95 % interval, p of an exchange of blocks")
    if all(math.isnan(each.difference.low) for each in found.values()):
        print("No intervals: the test windows are one block (a recording, or too few events).")
    if first[0].facts["synthetic"]:
        print(SIMULATED)
    for metric, each in found.items():
        value, low, high = each.difference
        p = "" if math.isnan(each.p) else f"   p {each.p:.4f}"
        interval = "" if math.isnan(low) else f"   [{low:+.4f}, {high:+.4f}]"
        print(f"{shown(metric):<8}{value:>+9.4f}{interval}{p}")
    return 0


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"{name}: no such file; give result files, such as experiments/results/…")
    return path
