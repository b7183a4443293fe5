"""The released network beside the plain transcription of its arithmetic in benchmarks/."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.models.official import OfficialFmFormer
from fmbench.types import Batch, Modality, Problem

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Pair = tuple[OfficialFmFormer, nn.Module, Tensor, Tensor]


@pytest.fixture
def transcription(monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    found: type[nn.Module] = import_module("released").Released
    sys.modules.pop("released")
    return found


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pair(transcription: type[nn.Module], dense: bool, windows: int) -> Pair:
    torch.manual_seed(0)
    network = OfficialFmFormer(Problem(modality=Modality.CROSS, dense=dense)).eval()
    video = torch.randint(0, 256, (windows, 3, 10, 64, 64)).float()
    current = 9000 + 1000 * torch.rand(windows, 240, 3)
    return network, transcription(network), video, current


def output(network: OfficialFmFormer, video: Tensor, current: Tensor) -> Tensor:
    logits, mask, _ = network(Batch(video, current, torch.zeros(len(video), dtype=torch.long)))
    return logits if mask is None else mask


@pytest.mark.parametrize("dense", [False, True])
def test_outputs_and_gradients_are_the_transcriptions(
    transcription: type[nn.Module], dense: bool
) -> None:
    network, plain, video, current = pair(transcription, dense, 2)
    target = torch.ones((2, 64, 64) if dense else (2,), dtype=torch.long)
    learnt = [p for p in network.parameters() if p.requires_grad]
    found, expected = output(network, video, current), plain(video, current)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    ours, theirs = (
        torch.autograd.grad(F.cross_entropy(each, target), learnt) for each in (found, expected)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_inference_takes_less_processor_time_than_the_transcription(
    transcription: type[nn.Module], one_thread: None
) -> None:
    """benchmarks/official.md has what was measured; the floor is generous."""
    network, plain, video, current = pair(transcription, False, 2)

    def least(run: Callable[[], Tensor]) -> float:
        taken = []
        for _ in range(5):
            begin = time.thread_time()
            run()
            taken.append(time.thread_time() - begin)
        return min(taken)

    with torch.no_grad():
        assert least(lambda: plain(video, current)) > 1.15 * least(
            lambda: output(network, video, current)
        )
