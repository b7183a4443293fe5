"""The code and the package versions that a result was computed with."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fmbench.registry import catalogue, entry_of

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
PACKAGES = ("fmformer-bench", "torch", "lightning", "torchmetrics", "timm", "transformers", "numpy")


def versions() -> dict[str, str]:
    """Versions by name of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the repository whose `src` holds this code, `-dirty` if files were changed.

    None if the code is installed elsewhere, even in a folder within another repository.
    """
    here = Path(__file__).resolve()
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10, env=environment
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here.parents[3]:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None


def code_of(model: str) -> dict[str, str | None]:
    """The code of a registered model: its distribution and version, and module and `syntax` of its
    class. `syntax` covers that module alone, not what it imports; null without its source."""
    model_class = catalogue()[model]
    module = str(getattr(model_class, "__module__", ""))
    digest = None
    with suppress(OSError, TypeError, KeyError, SyntaxError):
        digest = syntax(Path(str(inspect.getsourcefile(sys.modules[module]))).read_text("utf-8"))
    entry = entry_of(model)
    found = (entry.dist.name, entry.dist.version) if entry and entry.dist else (None, None)
    return {"distribution": found[0], "version": found[1], "module": module, "syntax": digest}


def syntax(source: str) -> str:
    """SHA-256 of the syntax tree of a module without docstrings; comments and formatting are not
    in the tree. Python versions that can all parse the source give the same hash."""

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(each) for each in node]
        if not isinstance(node, ast.AST):
            return repr(node)
        fields = dict(ast.iter_fields(node))
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            fields["body"] = node.body[1:]
        # Newer versions of Python have further fields, which are empty in code without them.
        present = {name: plain(value) for name, value in fields.items() if value not in (None, [])}
        return [type(node).__name__, present]

    return hashlib.sha256(json.dumps(plain(ast.parse(source))).encode()).hexdigest()
