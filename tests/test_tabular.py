"""One renderer of tables: Markdown, LaTeX and CSV."""

from __future__ import annotations

import io
import subprocess
import sys

import pandas as pd

from fmbench.tabular import csv, latex, latex_text, markdown

ROWS = [["row", "value"], ["a|b", "1.5"], ["two\nlines", "–"]]


def test_markdown_keeps_every_row_on_a_line_and_every_cell_in_its_column() -> None:
    assert markdown(ROWS).splitlines() == [
        "| row | value |",
        "| --- | --- |",
        r"| a\|b | 1.5 |",
        "| two lines | – |",
    ]


def test_aligned_markdown_has_columns_of_equal_width_with_numbers_to_the_right() -> None:
    lines = markdown(ROWS, aligned=True).splitlines()
    assert lines == [
        "| row       | value |",
        "| --------- | ----: |",
        r"| a\|b      |   1.5 |",
        "| two lines |     – |",
    ]


def test_latex_has_rules_of_booktabs_and_its_notes_above_and_below() -> None:
    rows = [["Method", "Acc", "F1"], ["A", "0.9", "0.8"], ["B", r"\multicolumn{2}{l}{failed}"]]
    made = latex(rows, labels=1, caption="A & B", label="tab:x", notes=["50 % of it.", "Two."])
    assert made.splitlines() == [
        "% 50 % of it.",
        "% Two.",
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{A \& B}",
        r"\label{tab:x}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"Method & Acc & F1 \\",
        r"\midrule",
        r"A & 0.9 & 0.8 \\",
        r"B & \multicolumn{2}{l}{failed} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip\footnotesize 50 \% of it. Two.",
        r"\end{table}",
    ]


def test_signs_with_a_meaning_in_latex_are_escaped() -> None:
    assert latex_text("a_b & 5 % † –") == r"a\_b \& 5 \% $\dagger$ --"


def test_csv_is_read_back_with_six_digits() -> None:
    text = csv(pd.DataFrame({"name": ["a,b", None], "value": [0.123456789, float("nan")]}))
    assert text == 'name,value\n"a,b",0.123457\n,\n'
    assert pd.read_csv(io.StringIO(text))["name"][0] == "a,b"


def test_rendering_imports_no_pandas_and_no_torch() -> None:
    code = "import sys, fmbench.tabular; print(*{'pandas', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
