"""Smooth random fields in scene units, shared by every camera of a process, and the noise bank.

A field is a fixed set of Fourier coefficients, so it is the same field at every resolution and
tiles without a seam. Its period is `PERIOD` frame widths. A recording draws its variants and the
positions at which it reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.fft import irfft2

KEY = 1  # of the fields and the noise bank, which all versions of the simulator share
PERIOD = 3  # frame widths
VARIANTS = 3
NOISE_LENGTH = 1 << 21
Image = NDArray[np.float32]


@dataclass(frozen=True)
class FieldKind:
    """A kind of field: power spectrum k^slope from `lowest` to `cutoff` cycles a period.

    `log_sd` > 0 makes it lognormal with mean 1; 0 leaves it Gaussian with unit variance.
    """

    number: int
    slope: float
    cutoff: int
    log_sd: float = 0.0
    lowest: int = 1


MIST_NEAR = FieldKind(0, -3.4, 60, 0.55)
MIST_FAR = FieldKind(1, -3.0, 60, 0.6)
FLAME = FieldKind(2, -2.6, 60, 0.5)
OUTLINE = FieldKind(3, -3.4, 60, lowest=4)  # the largest features are as large as a spot
RUST = FieldKind(4, -2.4, 90)


@dataclass(frozen=True)
class PixelGrid:
    """The pixels of a view.

    Attributes:
        size: (H, W) pixels.
        density: (y, x) pixels a frame width.
        origin: (y, x) of the view's corner, frame widths.
    """

    size: tuple[int, int]
    density: tuple[float, float]
    origin: tuple[float, float] = (0.0, 0.0)

    @property
    def phases(self) -> int:
        """Sub-pixel positions per axis: a step is at most 1/256 frame width."""
        return max(1, round(256 / min(self.density)))

    @property
    def period(self) -> tuple[int, int]:
        """Pixels after which a field repeats."""
        return round(PERIOD * self.density[0]), round(PERIOD * self.density[1])


def read_field(
    kind: FieldKind, variant: int, grid: PixelGrid, y: NDArray[np.floating], x: NDArray[np.floating]
) -> Image:
    """(n, H, W): the field seen through the grid's window at `y`, `x` (n,) frame widths."""
    views = _views(kind, variant, grid)
    phases, (rows, columns) = grid.phases, grid.period
    down = np.rint((y + grid.origin[0]) * (phases * grid.density[0])).astype(np.intp) % (
        phases * rows
    )
    right = np.rint((x + grid.origin[1]) * (phases * grid.density[1])).astype(np.intp) % (
        phases * columns
    )
    image: Image = views[down % phases, right % phases, down // phases, right // phases]
    return image


def noise(
    key: np.uint64, index: NDArray[np.intp], shape: tuple[int, int, int], sd: float
) -> NDArray[np.int16]:
    """(n, *shape) grey levels of camera noise, read where a hash of key and frame points."""
    count = int(np.prod(shape))
    places = _hash(key, index)
    if count > NOISE_LENGTH // 2:
        bank = _noise_bank(sd)
        return np.stack([np.resize(np.roll(bank, -at), shape) for at in places])
    rows: NDArray[np.int16] = _noise_views(sd, count)[places % (NOISE_LENGTH - count)]
    return rows.reshape(len(index), *shape)


@lru_cache(maxsize=48)
def _views(kind: FieldKind, variant: int, grid: PixelGrid) -> Image:
    """(phase y, phase x, y, x, H, W) windows over one wrapped copy of the field per phase."""
    phases, (height, width) = grid.phases, grid.size
    field = _synthesise(kind, variant, (grid.period[0] * phases, grid.period[1] * phases))
    tiles = np.stack(
        [
            [
                np.pad(field[i::phases, j::phases], ((0, height), (0, width)), mode="wrap")
                for j in range(phases)
            ]
            for i in range(phases)
        ]
    )
    views: Image = sliding_window_view(tiles, (height, width), axis=(2, 3))
    return views


def _synthesise(kind: FieldKind, variant: int, shape: tuple[int, int]) -> Image:
    """The field on one period of `shape` samples."""
    k = kind.cutoff
    key = np.random.SeedSequence((KEY, 0x7E87, kind.number, variant))
    rng = np.random.Generator(np.random.Philox(key))
    down, right = np.arange(-k, k + 1)[:, None], np.arange(k + 1)
    radius = np.hypot(down, right)
    band = (radius >= kind.lowest) & (radius <= k)
    amplitude = np.where(band, np.maximum(radius, 1) ** (kind.slope / 2), 0)
    waves = amplitude * (rng.standard_normal(radius.shape) + 1j * rng.standard_normal(radius.shape))
    # Parseval: columns other than the first stand for two waves; of the first only the even part.
    first = (waves[:, 0] + waves[::-1, 0].conj()) / 2
    variance = 2 * (np.abs(waves[:, 1:]) ** 2).sum() + (np.abs(first) ** 2).sum()
    spectrum = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    spectrum[down[:, 0], : k + 1] = waves * (shape[0] * shape[1] / np.sqrt(variance))
    field = irfft2(spectrum, s=shape)
    if kind.log_sd:
        field = np.exp(kind.log_sd * field - kind.log_sd**2 / 2)
    image: Image = field.astype(np.float32)
    return image


def _hash(key: np.uint64, index: NDArray[np.intp]) -> NDArray[np.intp]:
    """splitmix64."""
    x = key + index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    places: NDArray[np.intp] = (x >> np.uint64(33)).astype(np.intp)
    return places


@lru_cache(maxsize=8)
def _noise_views(sd: float, count: int) -> NDArray[np.int16]:
    return sliding_window_view(_noise_bank(sd), count)


@lru_cache(maxsize=4)
def _noise_bank(sd: float) -> NDArray[np.int16]:
    key = np.random.SeedSequence((KEY, 0x9015E))
    rng = np.random.Generator(np.random.Philox(key))
    bank: NDArray[np.int16] = np.rint(sd * rng.standard_normal(NOISE_LENGTH, np.float32)).astype(
        np.int16
    )
    return bank
