"""The default simulated set, made by the first command that needs one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmbench.cli import data
from fmbench.simulator import write_dataset


def test_a_set_that_another_command_made_in_the_meantime_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(root: Path, **settings: Any) -> None:
        write_dataset(root, preset="tiny", lazy=True)  # by the other command
        write_dataset(root, **settings)

    monkeypatch.setattr(data, "write", late)
    data.ensure(tmp_path / "sim", own_root=False)
    assert (tmp_path / "sim" / "pixel-level" / "train.json").exists()


def test_a_set_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot make"):
        data.ensure(tmp_path / "file" / "sim", own_root=False)
