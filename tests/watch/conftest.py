"""Detectors and a video that several files of tests use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from furnace import SIZE, trained, write_video
from recordings import write_root


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_root(folder, recordings=2, seconds=40, size=SIZE)
    return folder


@pytest.fixture(scope="session")
def cross(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, "cross", tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="session")
def visual(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, "visual", tmp_path_factory.mktemp("visual"))


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 10 s."""
    path = tmp_path_factory.mktemp("video") / "run.mp4"
    write_video(path, 25 * 10)
    return path


@pytest.fixture(scope="session")
def always(visual: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that calls every window abnormal."""
    content = torch.load(visual, weights_only=True)
    bias = [key for key, each in content["state_dict"].items() if each.shape == (2,)][-1]
    content["state_dict"][bias] = torch.tensor([-50.0, 50.0])
    path = tmp_path_factory.mktemp("always") / "best.ckpt"
    torch.save(content, path)
    return path
