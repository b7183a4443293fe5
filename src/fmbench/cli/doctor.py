"""`fmbench data doctor`."""

from __future__ import annotations

from pathlib import Path

from fmbench.config.hints import File
from fmbench.progress import progress_bar


def doctor(root: Path, *, out: File = Path("doctor.html"), hours: float = 24.0) -> int:
    """Show what to look at before training, as text and as one page.

    Examines faults, clocks, exposure, frames in two splits, and balance. Prints the findings and
    writes a page with pictures. The exit status is 1 if a finding is a fault or serious.

    Args:
        out: the page to write.
    """
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file, such as {out / 'doctor.html'}")
    from fmbench.files.atomic import write_text
    from fmbench.prepare.doctor import examine, page
    from fmbench.prepare.doctor.findings import SEVERITIES, stops

    with progress_bar("examining") as show:
        report = examine(root, hours=hours, progress=show)
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
