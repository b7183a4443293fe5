"""`fmbench report`: the page of a run and of a table."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from browser import Browse, asked_by_a_page, browse
from fmbench.alarms.file import Alarms, write_alarms
from fmbench.alarms.rule import AlarmRule
from fmbench.cli import main
from fmbench.files.checksum import sha256
from fmbench.report.alarms import alarm_section
from fmbench.report.charts import _round_limits, curves, whisker
from fmbench.report.mistakes import WORST, worst
from fmbench.tables.intervals import Interval
from recordings import write_root
from test_cli import Command, fmbench
from test_tables import command

__all__ = ["browse", "fmbench"]  # fixtures

ROWS = [
    {"label": "both", "model": "fmformer", "modality": "cross"},
    {"label": "never trained", "model": "vit", "modality": "visual"},
]
LARGEST = 3_000_000


class Text(HTMLParser):
    """The text of a page, and the addresses that it refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]


def read(path: Path) -> Text:
    text = Text()
    text.feed(path.read_text())
    return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with a table of one trained row, its run, and the data's root."""
    folder, root = tmp_path_factory.mktemp("table"), tmp_path_factory.mktemp("data")
    write_root(root, recordings=2, seconds=60, size=(32, 32))
    assert main(command(folder, root, rows=ROWS[:1])) == 0
    command(folder, root, rows=ROWS)  # now with a row that is not trained
    return folder, root


def run_of(folder: Path) -> Path:
    (best,) = folder.glob("runs/*/checkpoints/best.ckpt")
    return best.parents[1]


@pytest.mark.slow
def test_a_page_of_a_run_has_its_results_and_is_complete_in_itself(
    place: tuple[Path, Path], tmp_path: Path, fmbench: Command
) -> None:
    run, out = run_of(place[0]), tmp_path / "report.html"
    done = fmbench("report", run, "--out", out)
    assert done.status == 0, done.err
    assert out.stat().st_size < LARGEST
    page = read(out)
    words = " ".join(page.words)
    facts = json.loads((run / "test.json").read_text())
    for name, shown in (("acc", "Acc"), ("fdr", "FDR"), ("mdr", "MDR"), ("miou", "mIoU")):
        assert f"{facts['metrics'][name]:.4f}" in words, shown
    assert facts["data_fingerprint"] in words
    windows = pd.read_csv(run / "test-predictions.csv")
    wrong = windows[(windows["label"] > 0) != (windows["decision"] > 0)]
    missed = wrong[wrong["label"] > 0].sort_values("score")
    if len(missed):
        assert f"score {missed['score'].iloc[0]:.3f}" in words
    assert all(each.startswith(("data:", "#")) for each in page.addresses)
    assert not re.search(r"https?://(?!www\.w3\.org)", out.read_text())
    assert "Simulated" not in words  # these recordings are written by a test, not simulated


@pytest.mark.slow
def test_a_page_of_a_table_names_rows_without_a_result(
    place: tuple[Path, Path], tmp_path: Path, fmbench: Command
) -> None:
    folder, root = place
    words = ("--profile", folder / "tiny.yaml", "--results", folder / "results")
    out = tmp_path / "table.html"
    done = fmbench("report", folder / "mine.yaml", *words, "--data.root", root, "--out", out)
    assert done.status == 0, done.err
    text = " ".join(read(out).words)
    assert "Without a result: never trained (visual)." in text
    table = pd.read_csv(folder / "results" / "mine.csv").set_index("method")
    assert f"{table.loc['both', 'acc']:.4f}" in text


@pytest.mark.slow
def test_a_browser_shows_a_report_and_asks_for_nothing(
    place: tuple[Path, Path], tmp_path: Path, fmbench: Command, browse: Browse
) -> None:
    out, log = tmp_path / "report.html", tmp_path / "net.json"
    assert fmbench("report", run_of(place[0]), "--out", out).status == 0
    dom = browse(out, "--dump-dom", f"--log-net-log={log}").stdout
    assert "How it was made" in dom
    assert asked_by_a_page(log) == set()


@pytest.mark.slow
def test_a_run_that_cannot_be_reported_is_named(
    place: tuple[Path, Path], tmp_path: Path, fmbench: Command
) -> None:
    run, other = run_of(place[0]), tmp_path / "other"
    write_root(other, recordings=1, seconds=60, size=(32, 32), seed=9)
    done = fmbench("report", run, "--data.root", other, "--out", tmp_path / "x.html")
    assert done.status == 2
    assert "was tested on other recordings" in done.err
    untested = tmp_path / "untested"
    (untested / "checkpoints").mkdir(parents=True)
    best = run / "checkpoints" / "best.ckpt"
    (untested / "checkpoints" / "best.ckpt").write_bytes(best.read_bytes())
    done = fmbench("report", untested, "--out", tmp_path / "x.html")
    assert done.status == 2
    assert "is not tested yet; run `fmbench test --checkpoint" in done.err
    assert not (tmp_path / "x.html").exists()


def test_the_section_on_alarms_counts_events_and_false_alarms(tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    alarms = Alarms(
        rule=AlarmRule(on=0.7, off=0.4, needed=4, of=5, hold_off=10), temperature=1.0,
        checkpoint_sha256=sha256(checkpoint), budget="1/day", budget_met=False, normal_hours=2.0,
        false_alarms=3, supports_at_best=36.0, data="x", data_fingerprint="0", simulated=False,
    )  # fmt: skip
    write_alarms(tmp_path / "alarms.yaml", alarms)
    with pytest.raises(ValueError, match=r"events.csv: no such file"):
        alarm_section(tmp_path, checkpoint)
    head = "recording,kind,onset,end,found,alarm,delay\n"
    rows = "a,event,1,9,True,3,2\na,event,20,29,False,,\na,event,40,49,True,46,6\n"
    rows += "a,false alarm,,,,70,\n"
    (tmp_path / "events.csv").write_text(head + rows)
    (tmp_path / "delays.png").write_bytes(b"picture")
    found = alarm_section(tmp_path, checkpoint)
    text = " ".join(found["sentences"])
    assert "when 4 of 5 scores, 1 s apart, are at least 0.7" in text
    assert "below 0.4 for 10 s" in text
    assert "No rule met it" in text
    assert "finds 2 of 3 events, with a median delay of 4 s. False alarms: 1." in text
    assert [name for name, _, _ in found["pictures"]] == ["delays.png"]
    checkpoint.write_bytes(b"other")
    with pytest.raises(ValueError, match="belongs to another checkpoint"):
        alarm_section(tmp_path, checkpoint)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("table2", "--alarms", "x"), "--alarms has no effect on a table"),
        (("no/run",), "no/run: no such folder"),
        (("tabel2",), "did you mean 'table2'?"),
        (("table1",), "table1 has no page"),
        (("table2", "--seeds", "0"), "--seeds is 0"),
        ((".",), "holds no run of `fmbench fit`"),
    ],
)
def test_what_has_no_report_is_said(
    tmp_path: Path, fmbench: Command, words: tuple[str, ...], said: str
) -> None:
    done = fmbench("report", *words, "--out", tmp_path / "x.html")
    assert done.status == 2
    assert said in done.err


def test_the_worst_mistakes_are_the_surest_ones_one_an_event() -> None:
    draw = np.random.default_rng(3)
    count = 400
    frame = np.arange(count) * 25
    label = (np.arange(count) // 10) % 2
    since = np.where(label > 0, np.arange(count) % 10, np.nan).astype(float)
    odds = draw.normal(size=count)
    windows = pd.DataFrame(
        {
            "recording": np.repeat(["a", "b"], count // 2),
            "frame": frame,
            "time": pd.to_datetime("2030-01-01") + pd.to_timedelta(np.arange(count), unit="s"),
            "label": label,
            "decision": (odds > 0).astype(int),
            "log_odds": odds,
            "since_onset": since,
        }
    )
    windows["time"] = windows["time"].dt.strftime("%Y-%m-%d %H:%M:%S")
    found = worst(windows)
    least = {}
    for k in range(count):
        if label[k] and odds[k] <= 0:
            least[k // 10] = min(least.get(k // 10, 0.0), odds[k])
    assert found["missed"]["log_odds"].tolist() == sorted(least.values())[:WORST]
    normal = [odds[:200][label[:200] == 0].max(), odds[200:][label[200:] == 0].max()]
    assert found["false"]["log_odds"].tolist() == sorted(normal, reverse=True)


def test_a_whisker_lies_to_scale() -> None:
    drawn = whisker(Interval(0.5, 0.4, 0.8), (0.0, 1.0), "x")
    assert 'd="M40.4 5H78.8"' in drawn
    assert 'cx="50.0"' in drawn
    nan = float("nan")
    assert "<path" not in whisker(Interval(0.5, nan, nan), (0.0, 1.0), "x")


def test_curves_lie_to_scale_and_text_is_escaped() -> None:
    drawn = curves({"a": [0.8, 0.9, 1.0], "b": [0.8, float("nan"), 0.8]}, "a<b")
    points = re.findall(r"([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)", drawn)
    heights = [float(each[1]) for each in points] + [float(points[1][3])]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - float(points[1][3]))
    assert "a&lt;b" in drawn


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.123, 0.5, 0.9371])
@pytest.mark.parametrize("size", [0.0, 0.003, 0.07, 0.5, 11.0])
def test_limits_hold_all_values(low: float, size: float) -> None:
    bottom, top = _round_limits(low, low + size)
    assert bottom <= low + 1e-9
    assert top >= low + size - 1e-9
    assert top - bottom <= 5 * max(size, 0.02) + 1e-9
