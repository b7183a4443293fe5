"""A camera over a run: frames, masks and labels of any frames, in any order, without files.

Scene coordinates: u in [-1, 1] across and v in [0, 1] down the region of interest "furnace";
nothing is defined in pixels. Light is linear until the last step.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fmbench.simulator import furnace_shell, scene, textures
from fmbench.simulator.latent_state import Instability
from fmbench.simulator.process import Run
from fmbench.simulator.settings import Stream
from fmbench.simulator.textures import Image, PixelGrid
from fmbench.types import FRAME_RATE

CLASS_SIZE = (64, 64)  # the class is decided at this size, whatever the picture's
FURNACE_BOX = (81 / 360, 207 / 640, 225 / 360, 225 / 640)
"""Top, left, height, width of the region "furnace" in the full view, as fractions of its sides."""

LEVELS = 8192  # entries of the gamma table
HOTTEST, COLDEST, TEMPERATURES = 1500.0, 650.0, 1024  # of the emission table, kelvin
_CHUNK = (
    8 * 3 * 64 * 64
)  # values rendered at a time: the working set stays in the second-level cache
Crop = tuple[slice, slice]


class Spot(NamedTuple):
    """An instability in the camera's view.

    `distance` (h, w) is the squared elliptic distance inside `box`, infinite off the shell;
    `nearest` is its least value at CLASS_SIZE.
    """

    event: Instability
    peak: float
    box: Crop
    distance: Image
    nearest: np.float32


class Camera:
    """Renders a run. Cheap to build, small to keep; frames are pure functions of the run and index.

    Args:
        run: the recording.
        size: (H, W) pixels.
        roi: "furnace", the square region that the benchmark crops, or "full", the 16:9 view.

    Raises:
        ValueError: a side under 16 pixels, or no such region.
    """

    def __init__(self, run: Run, *, size: tuple[int, int] = CLASS_SIZE, roi: str = "furnace"):
        if roi not in ("furnace", "full"):
            raise ValueError(f"roi is {roi!r}; it must be 'furnace' or 'full'")
        if min(size) < 16:
            raise ValueError(f"size is {size}; a side must have at least 16 pixels")
        self.run, self.size, self.roi = run, (int(size[0]), int(size[1])), roi
        height, width = self.size
        top, left, tall, wide = FURNACE_BOX if roi == "full" else (0.0, 0.0, 1.0, 1.0)
        self._look = scene.look(run)
        origin = (-top / tall, -left / wide)
        self._grid = PixelGrid(self.size, (tall * height, wide * width), origin)
        self._view = self._view_of(self._grid)
        self._index = scene.grid_index(run)
        self._drives = np.stack(scene.drives(run))
        self._drops = scene.drops(run)
        self._drop_times = np.array([(d.start, d.end) for d in self._drops]).reshape(-1, 2).T
        self._paint()
        self.spots = self._find_spots()
        generator = run.stream(Stream.CAMERA_NOISE)
        self._noise_key = generator.integers(1 << 63, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self._index)

    def frames(
        self, index: NDArray[np.integer], hot: bool = True, noise: bool = True
    ) -> NDArray[np.uint8]:
        """(n, 3, H, W) pictures; without `hot` the same pictures of a shell that never glows.

        Raises:
            ValueError: an index out of range.
        """
        index = self._check(index)
        out = np.empty((len(index), 3, *self.size), np.uint8)
        step = max(1, _CHUNK // (3 * self.size[0] * self.size[1]))
        for at in range(0, len(index), step):
            self._render(index[at : at + step], out[at : at + step], hot, noise)
        return out

    def masks(self, index: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(n, H, W): shell pixels hotter than the threshold, hidden or not."""
        index = self._check(index)
        t = self._at(self._index[index])
        masks = np.zeros((len(index), *self.size), np.bool_)
        for spot in self.spots:
            limit = self.limit(spot, t)
            rows = np.flatnonzero(limit > 0)
            if len(rows):
                masks[rows, *spot.box] |= spot.distance < limit[rows, None, None]
        return masks

    def optical_depth(self, index: NDArray[np.integer]) -> Image:
        """(n, H, W): tau of the mist, which transmits exp(-tau) of the light."""
        depth, _, _, _, down, right = self._drives[:, self._index[self._check(index)]]
        return self._mist(depth, down, right)

    def labels(self, index: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(n,) abnormal: some pixel of the mask at 64x64 (eq. 13, more than 0.5 of one)."""
        t = self._at(self._index[self._check(index)])
        labels = np.zeros(len(t), np.bool_)
        for spot in self.spots:
            labels |= spot.nearest < self.limit(spot, t)
        return labels

    def _check(self, index: NDArray[np.integer]) -> NDArray[np.intp]:
        index = np.asarray(index, np.intp).reshape(-1)
        if len(index) and not 0 <= index.min() <= index.max() < len(self):
            raise ValueError(
                f"frames {index.min()} to {index.max()} are out of range: "
                f"the recording has frames 0 to {len(self) - 1}"
            )
        return index

    @property
    def frame_times(self) -> NDArray[np.float64]:
        """(N,) seconds of process at each frame, on the 25 Hz grid."""
        return self._at(self._index)

    def _at(self, grid: NDArray[np.int32]) -> NDArray[np.float64]:
        times: NDArray[np.float64] = self.run.start + grid / FRAME_RATE
        return times

    def limit(self, spot: Spot, t: NDArray[np.float64]) -> Image:
        """(n,) squared distance within which the shell is over the threshold, or 0."""
        base, threshold = self.run.batch.base, self.run.config.process.threshold
        excess = spot.event.temperature(t) - base
        reach = np.log(np.maximum(excess / (threshold - base), 1))
        limit: Image = (reach * _spread(excess / spot.peak)).astype(np.float32)
        return limit

    def _view_of(self, grid: PixelGrid) -> furnace_shell.View:
        return furnace_shell.View(grid, self._look.shift, self._look.zoom)

    def _paint(self) -> None:
        """Static maps, area-averaged: albedo, albedo under flame light, flame body, bloom."""
        fine = 4 if max(self._grid.density) < 256 else 2
        albedo, lit, body, bloom = furnace_shell.paint(*self._view.points(fine))
        rust = textures.read_field(
            textures.RUST, self._look.variants[3], self._grid, *self._look.offsets[3][:, None]
        )[0]
        albedo = furnace_shell.shrink(albedo, fine) * (1 + 0.2 * rust) * self._look.albedo
        lit = albedo * furnace_shell.shrink(lit, fine)
        tint = np.array([0.30, 0.25, 0.22], np.float32)[:, None, None]
        self._albedo = (albedo * tint).astype(np.float32)
        self._lit = (lit * tint * (0.9 * scene.FLAME_COLOUR[:, None, None])).astype(np.float32)
        colour = scene.FLAME_COLOUR[:, None, None].astype(np.float32)
        glare = self.run.config.scene.glare
        self._bloom = glare * furnace_shell.shrink(bloom, fine) * colour
        flame = furnace_shell.shrink(body, fine)
        self._flame_rows = int(np.flatnonzero(flame.max(1) > 1e-3).max(initial=-1)) + 1
        self._flame_grid = replace(self._grid, size=(self._flame_rows, self.size[1]))
        self._flame = flame[: self._flame_rows] * colour

    def _find_spots(self) -> tuple[Spot, ...]:
        first, last = self.run.start, self.run.end
        small = self._view_of(PixelGrid(CLASS_SIZE, (64.0, 64.0)))
        spots = []
        for event in self.run.events:
            peak = float(event.temperatures.max()) - self.run.batch.base
            seen = event.times[-1] > first and event.start < last
            if seen and np.cos(event.azimuth) > 0.1:
                distance = furnace_shell.distance(event, self._view)
                nearest = distance if small == self._view else furnace_shell.distance(event, small)
                reach = 2 * np.log(max(peak / (740 - self.run.batch.base), 1))
                rows, columns = np.nonzero(distance < reach)
                if len(rows):
                    box = (
                        slice(rows.min(), rows.max() + 1),
                        slice(columns.min(), columns.max() + 1),
                    )
                    spots.append(Spot(event, peak, box, distance[box].copy(), nearest.min()))
        return tuple(spots)

    def _render(
        self, index: NDArray[np.intp], out: NDArray[np.uint8], hot: bool, noise: bool
    ) -> None:
        """Fill `out` (n, 3, H, W). All light is scaled by gain and gamma table."""
        grid = self._index[index]
        mist, flame, ambient, gain, down, right = self._drives[:, grid]
        gain = gain * np.float32(LEVELS - 1)
        light, fire = (ambient * gain)[:, None, None, None], (flame * gain)[:, None, None, None]
        clear = self._mist(mist, down, right)
        np.negative(clear, out=clear)
        clear = np.exp(clear, out=clear)[:, None]

        glow = light * _column(0.6 * scene.MIST_COLOUR) + fire * _column(0.35 * scene.FLAME_COLOUR)
        picture = self._albedo * light
        term = self._lit * fire
        picture += term
        if hot:
            self._add_spots(picture, self._at(grid), gain)
        self._add_drops(picture, self._at(grid), gain)
        picture -= glow
        picture *= clear
        np.multiply(self._bloom, fire, out=term)
        term += glow
        picture += term
        if self._flame_rows:
            picture[:, :, : self._flame_rows] += self._flames(grid, fire)

        np.clip(picture, 0, LEVELS - 1, out=picture)
        levels = np.take(_gamma(), picture.astype(np.intp), mode="clip")
        if noise:
            sd = self.run.config.scene.noise
            levels += textures.noise(self._noise_key, index, (3, *self.size), sd)
            np.clip(levels, 0, 255, out=levels)
        out[:] = levels

    def _mist(self, depth: Image, down: Image, right: Image) -> Image:
        """(n, H, W): two clouds at different speeds, so that they evolve and do not just slide."""
        view = self._look
        (near, far), (y, x) = view.variants[:2], view.offsets[:2].T
        mist = textures.read_field(textures.MIST_NEAR, near, self._grid, y[0] + down, x[0] - right)
        mist *= textures.read_field(
            textures.MIST_FAR, far, self._grid, y[1] + 1.65 * down, x[1] - 1.4 * right
        )
        mist *= depth[:, None, None]
        return mist

    def _flames(self, grid: NDArray[np.int32], fire: Image) -> Image:
        """(n, 3, rows, W): the flame's body, rising 1.1 frame heights a second."""
        rise = self._look.offsets[2, 0] + np.multiply(grid, 1.1 / FRAME_RATE)
        sway = np.full(len(grid), self._look.offsets[2, 1])
        tongues = textures.read_field(
            textures.FLAME, self._look.variants[2], self._flame_grid, rise, sway
        )
        flames: Image = tongues[:, None] * (self._flame * fire)
        return flames

    def _add_spots(self, picture: Image, t: NDArray[np.float64], gain: Image) -> None:
        """Add the light of hot spots; overlapping ones add up."""
        scale = (TEMPERATURES - 1) / (HOTTEST - COLDEST)
        base = self.run.batch.base
        for spot in self.spots:
            excess = spot.event.temperature(t) - base
            rows = np.flatnonzero(excess > 700 - base)
            if not len(rows):
                continue
            excess = excess[rows]
            slope = (-1 / _spread(excess / spot.peak)).astype(np.float32)[:, None, None]
            profile = np.exp(spot.distance * slope)
            profile *= (excess * scale).astype(np.float32)[:, None, None]
            profile += np.float32((base - COLDEST) * scale)
            emitted = np.take(_emission(), profile.astype(np.intp), axis=1, mode="clip")
            emitted *= gain[rows, None, None]
            every = len(rows) == len(picture)
            picture[slice(None) if every else rows, :, *spot.box] += emitted.swapaxes(0, 1)

    def _add_drops(self, picture: Image, t: NDArray[np.float64], gain: Image) -> None:
        starts, ends = self._drop_times
        for each in np.flatnonzero((starts <= t.max()) & (ends > t.min())):
            drop = self._drops[each]
            u, v = self._view.points()
            for row in np.flatnonzero((drop.start <= t) & (t < drop.end)):
                age = t[row] - drop.start
                where = ((u - drop.u) / 2) ** 2 + (v - drop.v - drop.speed * age) ** 2
                left = 1 - age / (drop.end - drop.start)
                kelvin = 850 + (drop.kelvin - 850) * left
                level = int((kelvin - COLDEST) * (TEMPERATURES - 1) / (HOTTEST - COLDEST))
                shape = np.exp(-where / (2 * drop.radius**2)) * furnace_shell.on_front(u, v)
                picture[row] += shape * (_emission()[:, level, None, None] * gain[row])


def visibility(camera: Camera, index: NDArray[np.integer]) -> NDArray[np.float32]:
    """(n,) grey levels by which the hot spot changes the picture, 0 where it cannot be seen.

    The largest difference, over channels, between the noise-free picture and the same one without
    the spot, after pooling 2x2.
    """
    found = []
    for part in np.array_split(index, max(1, len(index) // 32)):
        pair = [
            camera.frames(part, hot=hot, noise=False).astype(np.float32) for hot in (True, False)
        ]
        change = np.abs(pair[0] - pair[1])
        change = change[..., : change.shape[2] // 2 * 2, : change.shape[3] // 2 * 2]
        n, channels, height, width = change.shape
        pooled = change.reshape(n, channels, height // 2, 2, width // 2, 2).mean((3, 5))
        found.append(pooled.max((1, 2, 3)))
    return np.concatenate(found).astype(np.float32)


def _spread(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 sigma^2 of the temperature profile: brightness and area grow together."""
    return 2 * (0.45 + 0.55 * q) ** 2


def _column(values: NDArray[np.float64]) -> Image:
    column: Image = values.astype(np.float32)[:, None, None]
    return column


@cache
def _gamma() -> NDArray[np.int16]:
    """sRGB transfer of linear light in [0, 1], as grey levels."""
    light = np.arange(LEVELS) / (LEVELS - 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    levels: NDArray[np.int16] = np.rint(255 * curve).astype(np.int16)
    return levels


@cache
def _emission() -> Image:
    """(3, TEMPERATURES) Wien: 0.55 b exp(-(C2 / lambda)(1/T - 1/1060 K)), C2 = 1.4388e-2 m K."""
    kelvin = np.linspace(COLDEST, HOTTEST, TEMPERATURES)
    bands = ((1.0, 610e-9), (0.33, 545e-9), (0.12, 465e-9))
    rows = [0.55 * b * np.exp(-1.4388e-2 / wave * (1 / kelvin - 1 / 1060)) for b, wave in bands]
    return np.array(rows, np.float32)
