"""Logs as plants export them: their layout, numbers and values, against the currents written."""

from __future__ import annotations

import csv
import io
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbench.prepare.ingest import LogOptions, PlcLog, Remarks, read_plc, to_samples
from fmbench.prepare.ingest.numbers import find_decimal, to_numbers

BEGIN = datetime(2030, 5, 20, 6, 0, 0)
SECOND = BEGIN.replace(tzinfo=UTC).timestamp()


@dataclass
class Told:
    """A log that was read, and what was said."""

    log: PlcLog
    layout: list[str]
    remarks: list[str]


def read(path: Path, **options: Any) -> Told:
    remarks, layout = Remarks(), Remarks()
    log = read_plc(path, LogOptions(**options), remarks, layout)
    return Told(log, list(layout), list(remarks))


# Any layout

TIMES = {
    "iso": lambda t: f"{t:%Y-%m-%d %H:%M:%S}.{t.microsecond // 1000:03d}",
    "T": lambda t: t.isoformat(),
    "Z": lambda t: t.isoformat() + "Z",
    "offset": lambda t: t.replace(tzinfo=timezone(timedelta(hours=2))).isoformat(),
    "day first": lambda t: f"{t:%d.%m.%Y %H:%M:%S}.{t.microsecond // 100000}",
    "month first": lambda t: f"{t:%m/%d/%Y %I:%M:%S}.{t.microsecond // 1000:03d} {t:%p}",
    "slashes": lambda t: f"{t.day}/{t.month}/{t.year} {t:%H:%M:%S}.{t.microsecond // 1000:03d}",
    "by name": lambda t: f"{t:%d-%b-%Y %H:%M:%S}.{t.microsecond // 1000:03d}",
    "Chinese": lambda t: f"{t.year}年{t.month}月{t.day}日 {t:%H:%M:%S}.{t.microsecond // 1000:03d}",
    "two columns": lambda t: (f"{t:%d.%m.%Y}", f"{t:%H:%M:%S}.{t.microsecond // 1000:03d}"),
    "since 1970": lambda t: f"{t.replace(tzinfo=UTC).timestamp():.1f}",
    "ms": lambda t: f"{t.replace(tzinfo=UTC).timestamp() * 1000:.0f}",
    "Excel": lambda t: f"{(t - datetime(1899, 12, 30)) / timedelta(days=1):.9f}",
    "elapsed": lambda t: f"{(t - BEGIN).total_seconds():.3f}",
}
CLOCKS = {"Z": "utc", "offset": "utc", "since 1970": "utc", "ms": "utc", "elapsed": "elapsed"}
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "blanks": " "}


@dataclass
class Layout:
    """How a log is written."""

    separator: str
    decimal: str
    thousands: str
    encoding: str
    above: int
    units: str
    trailing: bool
    quoted: bool
    times: str
    digits: int
    newline: str

    def number(self, ampere: float) -> str:
        text = f"{ampere / (1000 if 'kA' in self.units else 1):,.{self.digits}f}"
        return text.translate(str.maketrans({",": self.thousands, ".": self.decimal}))

    def time(self, when: datetime) -> list[str]:
        cell = TIMES[self.times](when)
        cells = list(cell) if isinstance(cell, tuple) else [cell]
        numeric = self.times in ("since 1970", "Excel", "elapsed")
        return [cell.replace(".", self.decimal) for cell in cells] if numeric else cells

    def write(self, path: Path, times: list[datetime], amperes: NDArray[np.float64]) -> None:
        names = ["Ia", "Ib", "Ic"]
        unit = "kA" if "kA" in self.units else "A"
        if "brackets" in self.units:
            names = [f"{name} [{unit}]" for name in names]
        if self.encoding == "gbk":
            names = [f"电流{name}" for name in names]
        elif self.encoding == "cp1252":
            names = [f"{name}_größe" if "[" not in name else f"ö{name}" for name in names]
        head = ["Datum", "Zeit"] if self.times == "two columns" else ["time"]
        table = [[*head, *names]]
        if "row" in self.units:
            table.append([*[""] * len(head), *[unit] * 3])
        for when, row in zip(times, amperes, strict=True):
            table.append([*self.time(when), *(self.number(value) for value in row)])
        buffer = io.StringIO()
        separator = SEPARATORS[self.separator]
        writer = csv.writer(
            buffer,
            delimiter=separator,
            lineterminator=separator * self.trailing + "\n",
            quoting=csv.QUOTE_ALL if self.quoted else csv.QUOTE_MINIMAL,
        )
        writer.writerows(table)
        above = [f"Export of furnace 7{separator}", "", f"Interval{separator}0.5", "Author: me"]
        text = "".join(line + "\n" for line in above[: self.above]) + buffer.getvalue()
        path.write_bytes(text.replace("\n", self.newline).encode(self.encoding))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    separator = draw(st.sampled_from(sorted(SEPARATORS)))
    decimal = draw(st.sampled_from(".,"))
    thousands = draw(st.sampled_from(["", "." if decimal == "," else ",", " ", "\u00a0", "'"]))
    encoding = draw(
        st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "gbk"])
    )
    times = draw(st.sampled_from(sorted(TIMES)))
    units = draw(st.sampled_from(["", "brackets A", "brackets kA", "row A", "row kA"]))
    if encoding in ("cp1252", "utf-8") and times == "Chinese":
        times = "iso"
    if encoding == "gbk" and thousands == "\u00a0":
        thousands = ""
    quoted = draw(st.booleans())
    trailing = draw(st.booleans()) and separator != "blanks"
    if "row" in units and separator == "blanks":
        quoted = True
    digits = draw(st.integers(1, 3)) if "kA" not in units else draw(st.integers(3, 5))
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    above = draw(st.integers(0, 4))
    return Layout(
        separator, decimal, thousands, encoding, above, units, trailing, quoted, times, digits,
        newline,
    )  # fmt: skip


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
@given(layouts(), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 1.0, 2.0]))
def test_any_layout_gives_the_same_currents(layout: Layout, seed: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(4, 40))
    amperes = rng.uniform(300, 38_000, (count, 3)).round(2 if "kA" in layout.units else 1)
    amperes[0] = [12345.6, 9876.5, 1234.5]
    times = [BEGIN + timedelta(seconds=round(step * k, 1)) for k in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.txt"
        layout.write(path, times, amperes)
        result = read(path)
    digits = layout.digits - (3 if "kA" in layout.units else 0)
    assert np.abs(result.log.values - amperes).max() <= 0.51 * 10.0**-digits, result.layout
    clock = CLOCKS.get(layout.times, "local")
    assert result.log.clock == clock
    begin = {"elapsed": 0.0, "offset": SECOND - 7200}.get(layout.times, SECOND)
    wanted = begin + np.array([(when - BEGIN).total_seconds() for when in times])
    assert np.abs(result.log.seconds - wanted).max() < 2e-3
    assert not result.remarks
    said = result.layout[0]
    assert said.startswith(f"{layout.separator}, decimal ")
    name = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with BOM", "cp1252": "Windows-1252", "gbk": "GBK"}
    assert name.get(layout.encoding, "UTF-16") in said
    assert f"header on line {layout.above + 1}," in said


def test_options_say_what_looking_would_find(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    text = "Rate;1,0\nwhen^I^P\n05.20.2030 06:00^9.100^1\n05.20.2030 06:01^9.200^2\n"
    path.write_text(text, encoding="utf-16-le")
    result = read(
        path, separator="^", decimal=",", encoding="utf-16-le", header_line=2, time="when",
        phases="I", time_format="%m.%d.%Y %H:%M", unit="A",
    )  # fmt: skip
    assert result.log.values.tolist() == [[9100], [9200]]
    assert result.log.seconds.tolist() == [SECOND, SECOND + 60]
    assert result.layout[0] == (
        "^, decimal comma, utf-16-le, header on line 2, time column when, currents I [A]"
    )
    path.write_text("2030-05-20 06:00:00,1000\n2030-05-20 06:00:01,2000\n")
    assert read(path, header_line=0).log.values.tolist() == [[1000], [2000]]


def log(folder: Path, *rows: str, head: str = "time,A,B,C") -> Path:
    (folder / "plc.csv").write_text("\n".join([*([head] if head else []), *rows]) + "\n")
    return folder / "plc.csv"


def stamp(k: float, begin: datetime = BEGIN) -> str:
    return (begin + timedelta(seconds=k)).isoformat(" ")


def three(k: float, ampere: float, begin: datetime = BEGIN) -> str:
    return f"{stamp(k, begin)},{ampere},{ampere},{ampere}"


@pytest.mark.parametrize(
    ("head", "row", "names"),
    [
        ("time,Ia [kA],Ib [kA],P [MW]", "9,9.5,3", "Ia [kA], Ib [kA]"),
        ("time,I_a (A),I_b (A),cos", "9000,9500,1", "I_a [A], I_b [A]"),
        ("time,I (A),I (B),I (C)", "9000,9100,9200", "I (A), I (B), I (C)"),
        ("time,Phase A,Phase B,", "9000,9100,", "Phase A, Phase B"),
        ("No,time,Ia/kA,Ib_kA", "", "Ia [kA], Ib [kA]"),
        ("No,time,Ia (KA),Ib KA", "", "Ia [kA], Ib [kA]"),
        ("No,time,Ia {kA},Ib <ka>", "", "Ia [kA], Ib [kA]"),
        ("time,Ia [Ampere],Ib (Amps)", "9000,9100", "Ia [A], Ib [A]"),
        ("time,I,I,I", "9000,9100,9200", "I, I (3), I (4)"),
        ("time,U [V],T [°C],Ia,Ib,Ic", "90,300,9000,9000,9000", "Ia, Ib, Ic"),
    ],
)
def test_the_header_says_which_columns_are_currents(
    tmp_path: Path, head: str, row: str, names: str
) -> None:
    rows = [f"{stamp(k)},{row}" if row else f"{k + 1},{stamp(k)},9.1,9.2" for k in range(4)]
    result = read(log(tmp_path, *rows, head=head))
    assert result.layout[0].endswith(f"currents {names}")
    assert 8000 < np.median(result.log.values) < 10_000


def test_a_row_per_tag_and_value_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    amperes = rng.uniform(5000, 15_000, (20, 3)).round(1)
    rows = [
        f"I{phase} (A);{BEGIN + timedelta(seconds=k // 2):%d.%m.%Y %H:%M:%S};{value:.1f};1"
        for k, row in enumerate(amperes)
        for phase, value in zip("abc", row, strict=True)
    ]
    path = log(tmp_path, *rows, head="VarName;TimeString;VarValue;Validity")
    result = read(path)
    assert result.log.values.tolist() == amperes.tolist()
    assert np.allclose(result.log.seconds, SECOND + np.arange(20) / 2)
    assert result.layout[0].endswith("currents Ia [A], Ib [A], Ic [A], a row per tag")
    assert read(path, phases="Ic,Ia").log.values.tolist() == amperes[:, [2, 0]].tolist()


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"", {}, "plc.csv: no CSV with a header line: it is empty"),
        (b"PK\x03\x04abc", {}, "an Excel workbook; save it as CSV and give that file"),
        (b"only\n1\n2\n", {}, "no separator divides its lines into cells"),
        (b"time,A\n\x81\x8d,1\n", {"encoding": "utf-8"}, "line 2: byte 0x81 is no text in utf-8"),
        (b"time,A\n1,1\n", {"encoding": "utf8x"}, "--encoding is 'utf8x'; it takes"),
        (b"time,A\n1,1\n", {"separator": "semi"}, "did you mean 'semicolon'?"),
        (b"time,A\n1,1\n", {"separator": ";"}, "--separator divides none of its lines"),
        (b"time,A\n1,1\n", {"header_line": 9}, "--header_line is 9"),
        (b"2030-05-20 06:00:00,1\n", {}, "--header_line 0 numbers the columns from 1"),
        (
            b"time,A,B\n2030-05-20 06:00:00,1,2\n2030-05-20 06:00:01,9,1,2\n",
            {},
            "plc.csv, line 3: 4 cells, but the header has 3 (time, A, B)",
        ),
        (
            b"time,A,B\n2030-05-20 06:00:00,9000,5,9100,4\n2030-05-20 06:00:01,9001,5,9100,5\n",
            {},
            "plc.csv, line 2: 5 cells, but the header has 3",  # decimal commas between commas
        ),
        (
            b"time,A\n2030-05-20 06:00:00,1\n2030-05-20 06:00:01,9,1,2,3,4,5,6,7\n" ,
            {},
            "line 3",
        ),
        (b"a,b\nx,1\n", {}, "no column of times among a, b; name it: --time"),
        (b"No,A\n1,9000\n2,9000\n", {}, "no column of times among No, A; name it: --time"),
        (b"time,A\n06:00:00,1\n", {}, "has no date; name both columns: --time DATE,TIME"),
        (b"date,A\n2030-05-20,1\n", {}, "has no time of day; name both columns: --time DATE,TIME"),
        (
            b"time,A\n05/06/2030 06:00:00,1\n",
            {},
            '--time_format "%d/%m/%Y %H:%M:%S" or --time_format "%m/%d/%Y %H:%M:%S"',
        ),
        (b"time,A\n31.02.2030 06:00:00,1\n", {}, "line 2: '31.02.2030 06:00:00' is no time"),
        (b"time,A\n2030-05-20 06:00:00,on\n", {}, "phase 'A' has no value at all (line 2: 'on')"),
        (b"time,A\n2030-05-20 06:00:00,1\n", {"zone": "Europe/Berln"}, "mean 'Europe/Berlin'?"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_refused_with_the_remedy(
    tmp_path: Path, content: bytes, options: dict[str, Any], said: str
) -> None:
    (tmp_path / "plc.csv").write_bytes(content)
    with pytest.raises(ValueError) as refusal:
        read(tmp_path / "plc.csv", **options)
    assert said in str(refusal.value)


# Numbers


@pytest.mark.parametrize(
    ("cells", "plain", "decimal"),
    [
        (["12.600,5"], False, ","),
        (["12 600,5"], False, ","),
        (["12,600.5"], False, "."),
        (["1.234.567"], False, ","),
        (["9000", "9,5"], False, ","),
        (["0,123"], False, ","),
        (["1,26E+04"], False, ","),
        (["12,600"], True, None),
        (["12.600"], False, None),
        (["12.600"], True, "."),
        (["9000", "Bad", ""], False, "."),
    ],
)
def test_the_decimal_separator_is_found_or_not_guessed(
    cells: list[str], plain: bool, decimal: str | None
) -> None:
    assert find_decimal(cells, plain=plain) == decimal


def test_cells_that_are_no_number_in_the_files_way_are_told() -> None:
    cells = ["9.000,5", "9.00,5", "9,5", "1e3", "1,5E3", "Bad", "", "NaN", "9'000,5", "−5", "inf"]
    values, wrong = to_numbers(pd.Series(cells), ",")
    assert wrong.tolist() == [1, 5, 10]
    assert values[[0, 2, 3, 4, 8, 9]].tolist() == [9000.5, 9.5, 1000, 1500, 9000.5, -5]
    assert np.isnan(values[[1, 5, 6, 7, 10]]).all()
    values, wrong = to_numbers(pd.Series(["9,000.5", "9,5", "9.5", "inf", "1e999"]), ".")
    assert wrong.tolist() == [1, 3, 4]
    assert values[[0, 2]].tolist() == [9000.5, 9.5]


def test_numbers_that_can_be_read_in_two_ways_are_refused_unless_the_unit_decides(
    tmp_path: Path,
) -> None:
    rows = [f"{stamp(k)};9,{100 + k}" for k in range(5)]
    with pytest.raises(ValueError, match=r"'9,100' is 9.100 or 9100: give --decimal . or"):
        read(log(tmp_path, *rows, head="time;I"))
    assert read(log(tmp_path, *rows, head="time;I"), decimal=".").log.values[0, 0] == 9100
    assert read(log(tmp_path, *rows, head="time;I"), decimal=",").log.values[0, 0] == 9.1
    assert read(log(tmp_path, *rows, head="time;I [kA]")).log.values[0, 0] == pytest.approx(9100)
    rows.append(f"{stamp(9)};9,5")
    assert read(log(tmp_path, *rows, head="time;I")).log.values[0, 0] == 9.1
    with pytest.raises(ValueError, match="has a decimal point and '9,5' a decimal comma"):
        read(log(tmp_path, *rows, f"{stamp(10)};9.5", head="time;I"))


# Values


def test_cells_without_a_number_are_told_with_their_lines(tmp_path: Path) -> None:
    rows = [three(k / 2, 9000 + k) for k in range(40)]
    rows[6] = f"{stamp(3)},,9006,9006"
    rows[8] = f"{stamp(4)},9008,Bad,9008"
    result = read(log(tmp_path, *rows))
    assert result.remarks == [
        "phase A: 1 cells are empty, line 8; they count as missing",
        "phase B: 1 cells are no number ('Bad'), line 10; they count as missing",
    ]
    samples = to_samples(result.log.seconds, result.log.values).values.reshape(40, 3)
    assert np.argwhere(np.isnan(samples)).tolist() == [[6, 0], [8, 1]]


@pytest.mark.parametrize("mark", [-9999, 65535, 1e38, -999.25, 123456])
def test_a_mark_of_missing_values_is_refused_or_left_out(tmp_path: Path, mark: float) -> None:
    rows = [three(k / 2, mark if k in (4, 5, 9) else 9000 + 100 * k) for k in range(20)]
    path = log(tmp_path, *rows)
    with pytest.raises(ValueError) as refusal:
        read(path)
    assert "in lines 6, 7, 11 (3 rows), far outside the rest (9000 to 10900 A)" in str(
        refusal.value
    )
    advised = str(refusal.value).split("--missing=")[1].split(";")[0]
    result = read(path, missing=advised)
    assert np.flatnonzero(np.isnan(result.log.values[:, 0])).tolist() == [4, 5, 9]
    assert "phase A: 3 values are marked as missing" in result.remarks
    kept = read(path, missing="none")
    assert kept.log.values[4, 0] == mark
    assert any("negative values" in each or "values above" in each for each in kept.remarks)


def test_words_may_mark_missing_values(tmp_path: Path) -> None:
    rows = [three(0, 9000), f"{stamp(1)},Bad,-1,9000", three(2, 9000)]
    result = read(log(tmp_path, *rows), missing="Bad, -1")
    assert np.isnan(result.log.values[1]).tolist() == [True, True, False]
    assert result.remarks == [f"phase {p}: 1 values are marked as missing" for p in "AB"]


@pytest.mark.parametrize("values", [[0] * 10 + [12_000] * 10, [9000] * 10 + [20_000] * 10])
def test_a_furnace_that_is_switched_is_no_mark(tmp_path: Path, values: list[float]) -> None:
    assert not read(log(tmp_path, *(three(k / 2, v) for k, v in enumerate(values)))).remarks


@pytest.mark.parametrize(
    ("head", "value", "options", "said"),
    [
        ("time,I", 9.1, {}, "It looks like kA; give --unit kA"),
        ("time,I [A]", 9.1, {}, "(the log is in A); a furnace like this draws 100 to 60000 A. It"),
        ("time,I [kA]", 9100, {}, "It looks like A; give --unit A"),
        ("time,I", 9.1e6, {}, "It looks like mA; give --unit mA"),
        ("time,I", 0.001, {}, "Is it off?"),
        ("time,I", 9100, {"unit": "mA"}, "It looks like A; give --unit A"),
    ],
)
def test_currents_that_no_furnace_draws_are_told(
    tmp_path: Path, head: str, value: float, options: dict[str, Any], said: str
) -> None:
    rows = [f"{stamp(k)},{value}" for k in range(5)]
    (remark,) = read(log(tmp_path, *rows, head=head), **options).remarks
    assert said in remark


@pytest.mark.parametrize(("unit", "scale"), [("A", 1), ("kA", 1000), ("mA", 0.001)])
def test_a_unit_that_is_given_counts(tmp_path: Path, unit: str, scale: float) -> None:
    rows = [f"{stamp(k)},{9000 / scale:.1f}" for k in range(5)]
    result = read(log(tmp_path, *rows, head="time,I [A]"), unit=unit)
    assert np.allclose(result.log.values, 9000)
    assert not result.remarks


def test_a_tag_may_be_called_like_a_column(tmp_path: Path) -> None:
    rows = [f"{tag},{stamp(k)},{9000 + k}" for k in range(4) for tag in ("Ia", "time", "nth")]
    result = read(log(tmp_path, *rows, head="tag,time,value"))
    assert result.log.values.tolist() == [[9000 + k] * 3 for k in range(4)]
