"""Each injected fault and its outcome make a line of docs/reliability.md.

A test uses the fixture `fault`, names the fault and the promise, and records its trials; tests
with the same fault name share a line. A trial that breaks the promise fails the test.
`pytest tests/faults --full --report docs/reliability.md` (`make faults`) writes the table.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fmbench.files.atomic import write_text
from fmbench.training.provenance import git_commit, versions
from recordings import write_root


@dataclass
class Fault:
    """An injected fault, the promised outcome, and its trials.

    Attributes:
        name: the fault; names a line of the table.
        promise: the required outcome.
        kept: for each trial, whether the outcome was as promised.
        broken: what happened in the trials that broke the promise.
        figures: measured values, or truth values, by name.
    """

    name: str
    promise: str
    kept: list[bool] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)

    def trial(self, ok: bool, note: str = "") -> None:
        """Record a trial; `note` describes what happened if it broke the promise."""
        self.kept.append(bool(ok))
        if not ok:
            self.broken.append(note)

    def measured(self, name: str, value: float) -> None:
        """Record a value; the table shows the range of all values of this name, or the count of
        true ones."""
        self.figures.setdefault(name, []).append(value)


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Callable[..., Fault]]:
    """`fault(name, promise=...)` creates a Fault; its trials make a line of the table."""
    told: list[Fault] = []

    def tell(name: str, *, promise: str) -> Fault:
        told.append(Fault(name, promise))
        return told[-1]

    yield tell
    request.node.user_properties += [("fault", asdict(each)) for each in told]
    for each in told:
        assert each.kept, f"{each.name}: no trial was recorded"
        if each.broken:
            pytest.fail(f"{each.name}: {len(each.broken)} of {len(each.kept)}: {each.broken}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small recordings per module, which may damage them."""
    folder = tmp_path_factory.mktemp("recordings")
    write_root(folder, recordings=2, seconds=60, size=(32, 32))
    return folder


@pytest.fixture(scope="session")
def trials(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """`trials(short, full)`: the number of trials, `full` with --full."""
    return lambda short, full: full if pytestconfig.getoption("full") else short


TOLD = pytest.StashKey[list[tuple[tuple[str, int], dict[str, Any]]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TOLD] = []
    config.pluginmanager.register(Collector(config))


class Collector:
    """Collects the reports of all tests, including those of xdist's processes."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":
            if report.failed:
                self.failed.add(report.nodeid)
            return
        file, line, _ = report.location
        for key, told in report.user_properties:
            if key == "fault":
                if report.nodeid in self.failed:  # by an assertion, not by a trial
                    told = {**told, "kept": [*told["kept"], False]}
                self.config.stash[TOLD].append(((file, line or 0), told))  # type: ignore[arg-type]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        path = self.config.getoption("report")
        if path and not hasattr(self.config, "workerinput"):
            told = [one for _, one in sorted(self.config.stash[TOLD], key=lambda each: each[0])]
            write_text(Path(path), page(told, full=self.config.getoption("full")))


HEAD = """# Fault tests

`make faults` writes this page: it injects every fault below into real trainings or data and counts
the trials that keep the promise. Bit-equal means: equal to an uninterrupted run. {form}.
The recordings are small and made for the tests: **synthetic data**. {where}.

| fault | promise | kept | measured |
| --- | --- | --- | --- |
"""


def page(told: Sequence[Mapping[str, Any]], *, full: bool) -> str:
    """The table: one line per fault, with the trials of all tests that name it."""
    lines: dict[str, Fault] = {}
    for one in told:
        line = lines.setdefault(one["name"], Fault(one["name"], one["promise"]))
        line.kept += one["kept"]
        line.broken += one["broken"]
        for name, values in one["figures"].items():
            line.figures.setdefault(name, []).extend(values)
    packages = versions()
    named = [f"{name} {packages[name]}" for name in ("python", "torch", "lightning")]
    where = f"{', '.join(named)}, {platform.system()} {platform.machine()}, commit {git_commit()}"
    form = "Full form" if full else "**Short form, few trials**"
    rows = [
        f"| {line.name} | {line.promise} | {sum(line.kept)} of {len(line.kept)} "
        f"| {'; '.join(map(span, line.figures, line.figures.values()))} |\n"
        for line in lines.values()
    ]
    return HEAD.format(form=form, where=where) + "".join(rows)


def span(name: str, values: Sequence[float]) -> str:
    """`"seconds to stop 0.12 to 0.31"`, `"refused 8 of 9"`."""
    if all(isinstance(value, bool) for value in values):
        return f"{name} {sum(values):.0f} of {len(values)}"
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return f"{name} {low}" if low == high else f"{name} {low} to {high}"
