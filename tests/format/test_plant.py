"""root.yaml: read as written, wrong content refused in one line that names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmbench.format.plant import read_plant
from fmbench.types import BENCHMARK, Channel, Plant

ANOTHER = """
frame_rate: 10
current_rate: 20
channels: [{name: force, unit: kN}, {name: 3}]
classes: [normal, crack, burn]
frame_size: [100, 140]
"""


def test_every_key_is_read_from_the_root_or_the_part(tmp_path: Path) -> None:
    (tmp_path / "class-level").mkdir()
    (tmp_path / "root.yaml").write_text(ANOTHER)
    expected = Plant(
        frame_rate=10,
        current_rate=20,
        channels=(Channel("force", "kN"), Channel("3", "A")),
        classes=("normal", "crack", "burn"),
        frame_size=(100, 140),
    )
    assert read_plant(tmp_path) == read_plant(tmp_path / "class-level") == expected


@pytest.mark.parametrize("text", [None, "", "frame_rate: 25"])
def test_what_is_left_out_is_the_benchmarks(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "root.yaml").write_text(text)
    assert read_plant(tmp_path) == BENCHMARK


@pytest.mark.parametrize(
    ("rate", "period", "samples"), [(2, 1, 2), (50, 1, 50), (1, 1, 1), (0.2, 5, 1), (1 / 3, 3, 1)]
)
def test_samples_come_in_whole_seconds(rate: float, period: int, samples: int) -> None:
    plant = Plant(current_rate=rate)
    assert (plant.period, plant.samples) == (period, samples)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("frame_rat: 10", "did you mean 'frame_rate'?"),
        ("frame_rate: 0", "frame_rate is 0; it must be above 0"),
        ("frame_rate: .nan", "frame_rate"),
        ("frame_rate: yes", "frame_rate"),
        ("current_rate: 2.5", "current_rate is 2.5; it must be a whole number"),
        ("current_rate: 0.4", "current_rate is 0.4; it must be a whole number"),
        ("channels: []", "channels"),
        ("channels: [{unit: A}]", "name"),
        ("channels: [{name: a}, {name: a}]", "two of the channels have one name: a, a"),
        ("classes: [normal]", "normal and another one are needed"),
        ("classes: [a, b, a]", "two of the classes have one name"),
        ("frame_size: [64]", "frame_size"),
        ("frame_size: [0, 64]", "at least 1"),
        ("[1, 2]", "its keys are frame_rate, current_rate"),
        ("a: {", "root.yaml"),
    ],
)
def test_wrong_content_is_refused_and_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "root.yaml").write_text(text)
    with pytest.raises(ValueError) as error:
        read_plant(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path / "root.yaml") in str(error.value)
