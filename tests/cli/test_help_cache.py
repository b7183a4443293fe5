"""Help texts are stored, and made again as soon as anything that they describe changes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmbench.cli import main
from fmbench.cli.help_cache import UNUSED_SECONDS, is_stored


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FMBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "help"


def fresh(*words: str) -> tuple[str, set[str]]:
    """What a new process prints, and the heavy packages that it has imported."""
    code = (
        "import sys; from fmbench.cli import main; status = main(sys.argv[1:]); "
        "print(*{'torch', 'lightning'} & sys.modules.keys(), sep=',', end='', file=sys.stderr); "
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split(",")) - {""}


def test_a_stored_text_is_the_same_and_needs_no_torch(cache: Path) -> None:
    first, imported = fresh("fit", "--help", "--model", "informer", "--modality", "current")
    assert "--net.factor" in first
    assert imported == {"torch", "lightning"}
    second, imported = fresh("fit", "--help", "--model", "informer", "--modality", "current")
    assert second == first
    assert imported == set()


def test_another_model_has_a_text_of_its_own(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for model in ("fmformer", "vit", "fmformer"):
        assert main(["fit", "--model", model, "--modality", "visual", "--help"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[2] != texts[1]
    assert len([*cache.iterdir()]) == 2


@pytest.mark.parametrize("change", ["a model", "another version", "a wider terminal"])
def test_a_text_is_made_again_when_the_installation_changes(
    change: str,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, info = tmp_path / "acme_helped.py", tmp_path / "acme-1.0.dist-info"
    module.write_text("MODELS = {}\n")
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fmbench.models]\nacme = acme_helped:MODELS\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    for _ in range(2):
        assert main(["compare", "--help"]) == 0
    assert len([*cache.iterdir()]) == 1
    if change == "a model":
        module.write_text("MODELS = {}  # edited\n")
    elif change == "another version":
        info.rename(tmp_path / "acme-1.1.dist-info")
    else:
        monkeypatch.setenv("COLUMNS", "140")
    assert main(["compare", "--help"]) == 0
    assert len([*cache.iterdir()]) == 2
    assert "usage: fmbench compare" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), True),
        (("--help",), True),
        (("-h", "--model", "vit", "--modality=visual"), True),
        (("--help", "--config", "mine.yaml"), False),
        (("--help", "--net.depth", "3"), False),
        (("--help", "runs"), False),
        (("--model", "--help"), False),
    ],
)
def test_only_texts_of_the_installation_are_stored(words: tuple[str, ...], expected: bool) -> None:
    assert is_stored(words) is expected


def test_an_error_is_not_stored(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model", "fmfromer", "--help"]) == 2
    assert "did you mean 'fmformer'" in capsys.readouterr().err
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FMBENCH_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        assert main(["compare", "--help"]) == 0
        assert "usage: fmbench compare" in capsys.readouterr().out


def test_a_user_without_a_home_gets_the_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FMBENCH_CACHE", "~nobody-of-this-name/cache")
    assert main(["compare", "--help"]) == 0
    assert "usage: fmbench compare" in capsys.readouterr().out


def test_texts_that_nobody_reads_are_deleted(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--help"]) == 0
    (old,) = cache.iterdir()
    past = time.time() - UNUSED_SECONDS - 60
    os.utime(old, (past, past))
    assert main(["export-weights", "--help"]) == 0
    assert not old.exists()
    assert len([*cache.iterdir()]) == 1
