"""The benchmark for a GPU, rehearsed on the CPU in small sizes: measured, trained and tested."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.mark.slow
@pytest.mark.full
def test_rows_are_measured_trained_and_tested_within_the_time(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--minutes", "4", "--training-minutes", "3", "--out", str(tmp_path)]
    command = [sys.executable, str(SCRIPT), *words, "--models", "itransformer", "expert_system"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {"itransformer current", "expert_system current"}
    measured = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert rows | {"device"} == set(measured)
    assert measured["itransformer current"]["apart from the CPU"]["logits"] == 0
    trained = json.loads((tmp_path / "training.json").read_text())
    assert rows == set(trained)
    for name, row in trained.items():
        assert "failed" not in row, row
        assert row["config"]["data"]["resident"] is True
        assert "preset tiny" in row["data"]
        with zipfile.ZipFile(tmp_path / "predictions.zip") as archive:
            table = pd.read_csv(archive.open(f"{name}.csv"))
        assert len(table) == 64
        assert row["test"]["acc"] == pytest.approx((table["label"] == table["decision"]).mean())
    shown = subprocess.run([*command, "--show"], capture_output=True, text=True, check=True).stdout
    assert all(shown.count(f"| {name} ") == 2 for name in rows)
