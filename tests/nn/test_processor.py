from pathlib import Path

import pytest
import torch

from fmbench.nn.processor import native_bfloat16


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n", True),
        ("processor : 0\nflags\t\t: fpu amx_bf16 amx_tile\n", True),
        ("processor : 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("processor : 0\nflags\t\t: fpu avx512f avx512_vnni\n", False),
        ("model name : a processor named bf16\n", False),
        ("", False),
    ],
)
def test_flags_of_a_processor(tmp_path: Path, text: str, native: bool) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert native_bfloat16(tmp_path / "cpuinfo") is native


def test_no_list_of_flags(tmp_path: Path) -> None:
    assert not native_bfloat16(tmp_path / "missing")


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no list of flags")
def test_agrees_with_pytorch_on_this_machine() -> None:
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this PyTorch does not state what the processor can")
    can = torch.cpu.get_capabilities()
    assert native_bfloat16() == any(
        can.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16")
    )
