"""Geometry of the shell: the scene points it covers, its paint, and where an event glows.

Scene coordinates: u in [-1, 1] across and v in [0, 1] down the region of interest "furnace".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from fmbench.simulator import textures
from fmbench.simulator.latent_state import Instability
from fmbench.simulator.textures import Image, PixelGrid

SHELL_RADIUS = 0.86  # of the shell, in u


@dataclass(frozen=True)
class View:
    """Positions of a camera's pixels in the scene.

    Attributes:
        grid: the pixels.
        shift, zoom: of the furnace within the region of interest.
    """

    grid: PixelGrid
    shift: tuple[float, float]
    zoom: float

    def points(self, fine: int = 1) -> tuple[Image, Image]:
        """u (1, fW) and v (fH, 1) of the centres of pixels split `fine` times."""
        (height, width), (down, right) = self.grid.size, self.grid.density
        y = (np.arange(height * fine) + 0.5) / (fine * down) + self.grid.origin[0]
        x = (np.arange(width * fine) + 0.5) / (fine * right) + self.grid.origin[1]
        u = 2 * (x - 0.5 - self.shift[1]) / self.zoom
        v = (y - 0.5 - self.shift[0]) / self.zoom + 0.5
        return u[None].astype(np.float32), v[:, None].astype(np.float32)


def distance(event: Instability, view: View) -> Image:
    """(H, W) squared elliptic distance from an event's centre in its own half-widths.

    Two smooth noise fields, fixed per event, make the outline irregular; infinite off the shell.
    """
    u, v = view.points()
    y, x = event.offsets[:, :1], event.offsets[:, 1:]
    warp = [textures.read_field(textures.OUTLINE, k, view.grid, y[k], x[k])[0] for k in (0, 1)]
    across, down = event.size * SHELL_RADIUS * np.cos(event.azimuth), event.size * SHELL_RADIUS / 2
    du = (u - SHELL_RADIUS * np.sin(event.azimuth)) / across + 0.22 * warp[0]
    dv = (v - event.height) / (down * event.aspect) + 0.22 * warp[1]
    squared: Image = (du * du + dv * dv).astype(np.float32)
    squared[~on_front(u, v)] = np.inf
    return squared


def on_front(u: Image, v: Image) -> NDArray[np.bool_]:
    """Whether scene points lie on the front of the shell."""
    shell: NDArray[np.bool_] = (np.abs(u) < SHELL_RADIUS) & (v > _rim(u)) & (v < 1.02 + _sag(u))
    return shell


def _sag(u: Image) -> Image:
    """How far the near side of a ring hangs below its ends, in v."""
    sag: Image = 0.05 * np.sqrt(np.maximum(1 - (u / SHELL_RADIUS) ** 2, 0))
    return sag


def _rim(u: Image) -> Image:
    return 0.16 + _sag(u)


def paint(u: Image, v: Image) -> tuple[Image, Image, Image, Image]:
    """Grey albedo, share of flame light, flame body and bloom at scene points."""
    rim, sag = _rim(u), _sag(u)
    shell = on_front(u, v)
    mouth = (np.abs(u) < SHELL_RADIUS) & (v <= rim) & (v > 0.16 - sag)
    facing = np.sqrt(np.maximum(1 - (u / SHELL_RADIUS) ** 2, 0))
    height = v - sag
    ribs = sum(np.exp(-(((height - at) / 0.012) ** 2)) for at in (0.42, 0.72))
    edges = sum(np.exp(-(((height - at) / 0.01) ** 2)) for at in (0.445, 0.745))
    metal = (0.25 + 0.75 * facing) * (1 + 0.35 * ribs - 0.4 * edges)
    metal = metal * (1 + 0.8 * np.exp(-(((v - rim) / 0.012) ** 2)))
    beams = 0.10 + 0.05 * (np.sin(9.0 * u + 1.3) > 0.93) + 0.03 * (np.sin(14.0 * v) > 0.9)
    floor = np.where(v > 1.02, 0.22, beams)
    albedo = np.where(shell, metal, np.where(mouth, 0.3, floor * np.ones_like(u)))
    below = np.maximum(v - rim, 0)
    lit = np.where(shell, np.exp(-below / 0.35) * (0.4 + 0.6 * facing), 0.25 * np.exp(-(u * u) / 2))
    lit = np.where(mouth, 2.0, lit)
    reach = np.maximum(rim - v, 0)
    width = 0.62 * np.exp(-reach / 0.6)
    body = np.exp(-((u / width) ** 2) - reach / 0.35) * expit((rim - v - 0.02) / 0.012)
    bloom = np.exp(-(u**2) / 1.2 - (v - 0.08) ** 2 / 0.16)
    return albedo, lit, body, bloom


def shrink(image: Image, fine: int) -> Image:
    """Average blocks of `fine` by `fine` points."""
    height, width = image.shape
    blocks = image.reshape(height // fine, fine, width // fine, fine)
    shrunk: Image = blocks.mean((1, 3), dtype=np.float32)
    return shrunk
