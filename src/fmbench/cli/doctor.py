"""`fmbench data doctor`: what to look at before training, as text and as one page."""

from __future__ import annotations

from pathlib import Path

from fmbench.cli.bar import progress
from fmbench.config.parser import Parser


def doctor(argv: list[str]) -> int:
    """Findings of a data set; the status is 1 if one is a fault or serious."""
    parser = Parser(
        "data doctor",
        "What to look at before training: faults, clocks, exposure, frames in two splits, balance."
        " Prints the findings and writes a page with pictures. The status is 1 if one is a fault"
        " or serious.",
        "ROOT ",
    )
    parser.add_argument("root", help="the data set's folder")
    parser.option("out", str, "doctor.html", "the page to write", metavar="FILE")
    text = "of footage that the clocks' offset is estimated from at most; 0 for all"
    parser.option("hours", float, 24.0, text)
    values, _ = parser.values(argv)
    out = Path(values["out"])
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file, such as {out / 'doctor.html'}")
    from fmbench.files.atomic import write_text
    from fmbench.prepare.doctor import examine, page
    from fmbench.prepare.doctor.findings import SEVERITIES, stops

    with progress("examining") as show:
        report = examine(Path(values["root"]), hours=values["hours"], progress=show)
    write_text(out, page(report))
    for finding in report.findings:
        print(finding)
    counts = [
        f"{sum(each.severity == severity for each in report.findings)} {severity}"
        for severity in SEVERITIES
    ]
    print(f"{report.root}: {', '.join(counts)}")
    print(out)
    return int(stops(report.findings))
