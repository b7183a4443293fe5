"""Training, testing and prediction run without the packages that only other commands need.

A machine with a GPU often has torch, Lightning, timm, transformers, pandas, h5py and OpenCV, but no
decoder of videos, no W&B, no Optuna.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from recordings import write_root

ABSENT = ("av", "decord", "wandb", "optuna", "pydantic")
BLOCKED = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(each) for each in sys.meta_path]
from fmbench.cli import main
"""


def blocked(*words: object) -> subprocess.CompletedProcess[str]:
    code = f"{BLOCKED}\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    write_root(folder, recordings=2, seconds=60, size=(32, 32))
    return folder


def test_the_packages_are_out_of_reach() -> None:
    for name in ABSENT:
        code = f"{BLOCKED}\nimport {name}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert f"No module named '{name}'" in done.stderr


@pytest.mark.slow
def test_fit_test_and_predict_need_none_of_them(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    sizes = ["--config=smoke", "--net.dim=12", "--net.depth=1", "--data.guard_seconds=5"]
    done = blocked("fit", "--run", run, "--data.root", root, "--data.val_fraction=0.2", *sizes)
    assert done.returncode == 0, done.stderr
    best = run / "checkpoints" / "best.ckpt"
    done = blocked("test", "--checkpoint", best)
    assert done.returncode == 0, done.stderr
    assert (run / "test.json").is_file()
    name = next((root / "pixel-level" / "videos").glob("*.mat"))
    done = blocked("predict", name, "--checkpoint", best, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_logger_that_is_not_there_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    words = (
        "--config=smoke",
        "--logger=wandb",
        "--data.guard_seconds=5",
        "--data.val_fraction=0.2",
    )
    done = blocked("fit", "--run", tmp_path / "run", "--data.root", root, *words)
    assert done.returncode in (1, 2)
    assert "wandb" in done.stderr
    assert "Traceback" not in done.stderr
