"""Scripts under experiments/ read what runs leave behind."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from fmbench.config.schema import Config
from fmbench.training.measure import measure
from fmbench.training.run import fit
from recordings import write_root

SCRIPT = Path(__file__).parents[2] / "experiments" / "learning.py"


def test_learning_curves_and_table_come_from_the_runs_own_files(tmp_path: Path) -> None:
    write_root(tmp_path / "data", recordings=1, seconds=60, size=(32, 32))
    data = {"root": str(tmp_path / "data"), "frames": 2, "current_samples": 12, "batch_size": 8}
    data |= {"epoch_windows": 16, "val_windows": 16, "test_windows": 16, "guard_seconds": 5}
    run = tmp_path / "run"
    config = Config(
        modality="visual", net={"dim": 12, "depth": 1}, data=data, trainer={"max_epochs": 2}
    )
    metrics = measure(fit(config, run=run))
    words = [sys.executable, str(SCRIPT), str(run), "--out", str(tmp_path / "docs")]
    subprocess.run(words, check=True, capture_output=True)
    row = (tmp_path / "docs" / "learning-table.md").read_text().splitlines()[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["visual", "0", f"{metrics['acc']:.4f}"]
    assert cells[9] == "32"  # windows: 2 epochs of 16
    assert (tmp_path / "docs" / "learning.png").stat().st_size > 10_000


def test_every_target_of_the_makefile_has_a_rule() -> None:
    text = (Path(__file__).parents[2] / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.M)
    rules = [name for line in re.findall(r"^([a-z0-9 -]+):", text, re.M) for name in line.split()]
    assert sorted(phony.split()) == sorted(rules)
    assert {"demo", "test", "table2", "fig6"} <= set(rules)
