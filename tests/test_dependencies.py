"""Every import is of the standard library, of this project, or of a declared dependency."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"fmbench", "fmbench_baselines"}


def imported(source: str) -> Iterator[str]:
    """Top-level names of the absolute imports of a module, wherever they are in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def undeclared(names: set[str], distributions: set[str]) -> set[str]:
    """Those of `names` that are neither in the standard library nor in one of `distributions`."""
    provided = packages_distributions()
    return {
        name
        for name in names - set(sys.stdlib_module_names)
        if not {normal(each) for each in provided.get(name, ())} & distributions
    }


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*, dev: bool) -> set[str]:
    """Normal names of the dependencies in pyproject.toml, those of `fmbench export` included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["export"] + (extras["dev"] if dev else [])
    return {normal(re.match(r"[\w.-]+", line)[0]) for line in lines}  # type: ignore[index]


def names_of(folder: str) -> set[str]:
    """What the modules in a folder import, without this project and scripts that stand beside; a
    benchmark may use the helpers of the tests."""
    files = [*(ROOT / folder).rglob("*.py")]
    assert files
    scripts = {"tests": files, "benchmarks": [*files, *(ROOT / "tests").rglob("*.py")]}
    beside = {file.stem for file in scripts.get(folder, [])}
    return {name for file in files for name in imported(file.read_text())} - OURS - beside


@pytest.mark.parametrize(
    ("folder", "dev"), [("src", False), ("baselines", False), ("tests", True), ("benchmarks", True)]
)
def test_every_import_is_declared(folder: str, dev: bool) -> None:
    assert undeclared(names_of(folder), declared(dev=dev)) == set()


def test_an_import_that_nothing_declares_is_found() -> None:
    source = "import os, yaml\n\ndef f():\n    from cv2.ximgproc import x\n    from . import y\n"
    found = set(imported(source))
    assert found == {"os", "yaml", "cv2"}
    assert undeclared(found, {"pyyaml"}) == {"cv2"}
    assert undeclared(found, {"pyyaml", "opencv-contrib-python-headless"}) == set()
    assert undeclared({"nowhere"}, declared(dev=True)) == {"nowhere"}
