"""`fmbench report`."""

from __future__ import annotations

from pathlib import Path

from fmbench.cli.data import ensure_given
from fmbench.config.hints import File, Folder
from fmbench.config.resolve import DEFAULT_PROFILE, DataOptions
from fmbench.files.atomic import write_text


def report(
    source: str,
    *,
    out: File = Path("report.html"),
    profile: str = DEFAULT_PROFILE,
    seeds: int = 1,
    results: Folder | None = None,
    alarms: Folder | None = None,
    data: DataOptions,
) -> int:
    """Show a run or a table as one HTML page, for readers who do not program.

    The page has results with intervals, learning curves, events, the worst mistakes with their
    frames and currents, and how it was made. Nothing is trained.

    Args:
        source: the folder of a tested run, such as runs/demo; or an experiment with stored results,
            such as table2.
        out: the page to write.
        profile: of a table: how its rows were trained.
        seeds: of a table: trainings of each row.
        results: of a table: folder of results (default: experiments/results/PROFILE).
        alarms: of a run: folder that fmbench alarms wrote.
        data: of a run: data (default: as in its test); of a table: as fmbench table was given.
    """
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file, such as {out / 'report.html'}")
    if seeds < 1:
        raise ValueError(f"--seeds is {seeds}; it must be at least 1")
    from fmbench.report.page import page
    from fmbench.report.sources import of_run, of_table
    from fmbench.tables import read_experiment

    if Path(source).is_dir():
        made = of_run(Path(source), data, alarms)
    else:
        if alarms is not None:
            raise ValueError("--alarms has no effect on a table; give it with the folder of a run")
        if "/" in source and not source.endswith((".yaml", ".yml")):
            raise ValueError(f"{source}: no such folder; give that of a run, or an experiment")
        experiment = read_experiment(source)
        if experiment.counts or experiment.grid:
            raise ValueError(f"{source} has no page; its picture is made by fmbench table {source}")
        ensure_given(data)
        folder = results or Path(f"experiments/results/{Path(profile).stem}")
        made = of_table(experiment, profile=profile, seeds=seeds, results=folder, data=data)
    write_text(out, page(made))
    print(out)
    return 0
