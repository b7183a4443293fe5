"""alarms.yaml: read back as written, and refused for another checkpoint or content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from fmbench.alarms.file import Alarms, calibrated, read_alarms, write_alarms
from fmbench.alarms.rule import AlarmRule


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"weights")
    return path


def alarms_of(checkpoint: Path, **changes: Any) -> Alarms:
    content: dict[str, Any] = {
        "rule": AlarmRule(on=0.8, off=0.3, needed=4, of=5, hold_off=10.0),
        "temperature": 1.25,
        "checkpoint_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "budget": "1/day",
        "budget_met": True,
        "normal_hours": 1.2,
        "false_alarms": 0,
        "supports_at_best": 73.8,
        "data": "synthetic data",
        "data_fingerprint": "ab",
        "simulated": True,
    }
    return Alarms(**content | changes)


def test_a_file_is_read_back_as_written(tmp_path: Path, checkpoint: Path) -> None:
    written = alarms_of(checkpoint)
    write_alarms(tmp_path / "alarms.yaml", written)
    assert read_alarms(tmp_path / "alarms.yaml", checkpoint) == written
    plain = yaml.safe_load((tmp_path / "alarms.yaml").read_text())
    assert plain["rule"]["needed"] == 4
    assert plain["checkpoint_sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_the_file_of_another_checkpoint_is_refused_with_both_hashes(
    tmp_path: Path, checkpoint: Path
) -> None:
    write_alarms(tmp_path / "alarms.yaml", alarms_of(checkpoint))
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"other weights")
    with pytest.raises(ValueError, match="belongs to another checkpoint") as refused:
        read_alarms(tmp_path / "alarms.yaml", other)
    assert "\n" not in str(refused.value)
    for content in (b"weights", b"other weights"):
        assert hashlib.sha256(content).hexdigest()[:16] in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("temperature"), "temperature is missing"),
        (lambda c: c.update(temperature=0), "temperature is 0"),
        (lambda c: c.update(temperature="1"), "temperature is '1'; it must be a number"),
        (lambda c: c.update(treshold=1), "there is no key 'treshold'"),
        (lambda c: c["rule"].update(on=2), "on of an alarm rule is 2"),
        (lambda c: c["rule"].update(needed=1.5), "needed is 1.5; it must be a whole number"),
        (lambda c: c["rule"].pop("of"), "rule: of is missing"),
        (lambda c: c["rule"].update(hold=1), "there is no key 'hold'"),
        (lambda c: c.update(rule=3), "3 is no mapping"),
        (lambda c: c.update(version=2), "version is 2"),
    ],
)
def test_another_content_is_refused(
    tmp_path: Path, checkpoint: Path, change: Any, message: str
) -> None:
    path = tmp_path / "alarms.yaml"
    write_alarms(path, alarms_of(checkpoint))
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"alarms\.yaml") as refused:
        read_alarms(path, checkpoint)
    assert message in str(refused.value)


def test_on_and_off_need_no_quotes(tmp_path: Path, checkpoint: Path) -> None:
    """YAML 1.1 has them for true and false, and people who edit the file leave quotes out."""
    path = tmp_path / "alarms.yaml"
    write_alarms(path, alarms_of(checkpoint))
    text = path.read_text()
    assert "'on': 0.8" in text
    path.write_text(text.replace("'on'", "on").replace("'off'", "off"))
    assert read_alarms(path, checkpoint) == alarms_of(checkpoint)


def test_a_missing_file_names_the_command(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="fmbench alarms"):
        read_alarms(tmp_path / "none.yaml", checkpoint)


def test_calibrated_is_one_minus_the_probability_of_normal() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 4))
    powers = np.exp(logits / 1.7)
    expected = 1 - powers[:, 0] / powers.sum(1)
    np.testing.assert_allclose(calibrated(torch.from_numpy(logits), 1.7), expected, atol=1e-12)
    assert calibrated(torch.tensor([[-60.0, 60.0]]), 0.5) == 1
