"""Export every row of Table II after seconds of training on a simulated set (`make export-all`).

    python benchmarks/export.py [--out FOLDER] [--rows NAME ...]

Writes FOLDER/export.md: per row the largest difference of a probability between onnxruntime and
PyTorch, decisions that differ, and latency; or the line that says why a row cannot be exported.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from fmbench.files.atomic import write_text
from fmbench.files.yaml_json import read_json
from fmbench.tables import read_experiment

HEADER = """| row | largest difference | decisions that differ | onnxruntime, ms | PyTorch, ms |
| --- | --- | --- | --- | --- |
"""
NOTE = (
    "Made by `make export-all`: simulated recordings, networks of full size, trained for seconds "
    "(profile smoke: 2 frames, 20 samples). Latency: one window, one thread.\n\n"
)


def fmbench(*words: str | Path) -> str:
    """Run a command; its last line of error output, empty if it succeeded."""
    command = [sys.executable, "-m", "fmbench", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "fmbench: error:" in line]
    return (lines or ["failed"])[0].partition("error: ")[2] if done.returncode else ""


def row_of(name: str, model: str, modality: str, folder: Path) -> str:
    """Fit, export: a row of the table."""
    run = folder / "runs" / f"{model}-{modality}"
    best, out = run / "checkpoints/best.ckpt", folder / f"{model}-{modality}"
    root = ("--data.root", folder / "data")
    fit = ("fit", "--model", model, "--modality", modality, "--config", "smoke", "--run", run)
    why = "" if best.is_file() else fmbench(*fit, *root)
    why = why or fmbench("export", "--checkpoint", best, "--out", out, "--data.test_windows", "64")
    if why:
        return f"| {name} | {why} | | | |\n"
    found = read_json(out / "certificate.json")
    speed = found["latency"]
    largest = max(found["largest_difference"].values())
    differ = f"{found['decisions_that_differ']} of {found['windows']}"
    return (
        f"| {name} | {largest:.1e} | {differ} | {speed['export_ms']:.1f} |"
        f" {speed['pytorch_ms']:.1f} |\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/export"))
    parser.add_argument("--rows", nargs="*", help="models; all by default")
    given = parser.parse_args()
    if not (given.out / "data").is_dir():
        fmbench("data", "simulate", "--preset", "tiny", "--lazy", "--out", given.out / "data")
    lines = []
    for row in read_experiment("table2").trained():
        if row.reference or (given.rows and row.model not in given.rows):
            continue
        lines.append(row_of(row.name, str(row.model), row.modality, given.out))
        print(lines[-1], end="", flush=True)
        write_text(given.out / "export.md", NOTE + HEADER + "".join(lines))


if __name__ == "__main__":
    main()
