"""What the processor computes in hardware."""

from __future__ import annotations

from functools import cache
from pathlib import Path

BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of Linux for products of bfloat16 matrices: AVX-512, AMX, and ARM's BF16."""


@cache
def native_bfloat16(cpuinfo: str | Path = "/proc/cpuinfo") -> bool:
    """Whether the CPU multiplies bfloat16 matrices in hardware.

    Emulated, such products are slower than in float32. False where the system does not list the
    processor's flags (macOS, Windows).
    """
    try:
        lines = Path(cpuinfo).read_text().splitlines()
    except OSError:
        return False
    names = ("flags", "features")  # x86, ARM
    listed = [line.partition(":") for line in lines]
    flags = [words.split() for name, _, words in listed if name.strip().lower() in names]
    return any(not BFLOAT16.isdisjoint(of_one_core) for of_one_core in flags)
