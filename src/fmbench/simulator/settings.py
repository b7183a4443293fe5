"""The simulator's knobs and its counter-based random streams.

docs/simulator.md lists what is published of the process; every number below is an assumption, set
once by the calibration described there and frozen with `SIM_VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np

from fmbench.errors import nearest

SIM_VERSION = 2

VERSION_1: dict[str, object] = {
    "process.gap": (10.0, 70.0),
    "process.hold": (70.0, 280.0),
    "process.weak": 0.15,
    "process.beta": 3.2,
    "process.peak": (1020.0, 1220.0),
    "scene.mist": 0.35,
    "scene.mist_pause": 270.0,
    "scene.mist_amplitude": (1.2, 4.0),
    "scene.flare_pause": 70.0,
    "scene.flare_amplitude": (0.6, 2.6),
    "scene.glare": 0.10,
}
"""Knobs whose values version 2 changed, as version 1 had them."""

VERSIONS: dict[int, dict[str, object]] = {1: VERSION_1, SIM_VERSION: {}}


class Stream(IntEnum):
    """One number per purpose, so that a new draw in one stream never changes another."""

    BATCH = 0
    EVENTS = 1
    FEEDING = 2
    EXHAUST = 3
    FLUCTUATION = 4
    COLLAPSE = 5
    PHASE_NOISE = 6
    COMMON_NOISE = 7
    VOLATILITY = 8
    GAUGE = 9
    EXHAUST_NOISE = 10
    LOOK = 11
    MIST = 12
    FLAME = 13
    AMBIENT = 14
    WIND = 15
    SPATTER = 16
    DEFECTS = 17
    CLOCK = 18
    START = 19
    KEYFRAMES = 20
    SHAKE = 21
    CAMERA_NOISE = 22
    MIST_EPISODES = 23
    AMBIENT_STEPS = 24
    FLARES = 25


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """The furnace and its currents.

    Attributes:
        gap: pause between two anomaly events, uniform, seconds.
        hold: how long an event's drive is full, uniform, seconds; sub-critical events 0.6 of it.
        sub: probability that an event is sub-critical: it moves the current but never glows.
        weak: probability that an event hardly couples to the current.
        peak: peak shell temperature of an event that glows, uniform, kelvin.
        threshold: shell temperature above which a pixel is abnormal, kelvin (dull red).
        alpha: shift of the log resistance at full drive.
        beta: relative growth of the current's fluctuation at full drive.
        osc: amplitude of the slow swing of the log resistance at full drive.
        fast: sd of a phase's own flicker (0.45 s), log resistance.
        common: sd of the flicker that all phases share (0.5 s).
        medium: sd of a phase's own wander (8 s).
        slow: sd of a phase's own wander (150 s).
        fluctuation_pause: mean pause between episodes of normal fluctuation, seconds.
        collapse_rate: collapses of ore onto the arcs per sample of current.
        spatial_coupling: an event acts most on the nearest electrode.
        rear_events: events occur all around the shell, also out of the camera's view.
    """

    gap: tuple[float, float] = (15.0, 120.0)
    hold: tuple[float, float] = (80.0, 300.0)
    sub: float = 0.15
    weak: float = 0.2
    peak: tuple[float, float] = (1100.0, 1300.0)
    threshold: float = 973.0
    alpha: float = 0.30
    beta: float = 2.8
    osc: float = 0.10
    fast: float = 0.10
    common: float = 0.10
    medium: float = 0.06
    slow: float = 0.10
    fluctuation_pause: float = 700.0
    collapse_rate: float = 0.01
    spatial_coupling: bool = True
    rear_events: bool = False


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """The scene between shell and camera. No knob here changes a label.

    Attributes:
        mist: median optical depth of the ordinary mist.
        mist_pause: mean pause between episodes of heavy mist, seconds.
        mist_amplitude: optical depth added by such an episode, uniform.
        flare_pause: mean pause between flares of the flame, seconds.
        flare_amplitude: added to the flame by a flare, uniform.
        glare: stray light of the flame over the shell, per unit of flame; it hides what it covers.
        ambient_pause: mean pause between steps of the hall's light, seconds.
        spatter_pause: mean pause between showers of hot drops, seconds.
        noise: sd of the camera noise, grey levels of 255.
        defects: seconds with 24 or 26 frames, and stalls that have currents but no frames.
    """

    mist: float = 0.2
    mist_pause: float = 680.0
    mist_amplitude: tuple[float, float] = (14.0, 28.0)
    flare_pause: float = 450.0
    flare_amplitude: tuple[float, float] = (8.0, 16.0)
    glare: float = 2.0
    ambient_pause: float = 160.0
    spatter_pause: float = 60.0
    noise: float = 2.2
    defects: bool = True


@dataclass(frozen=True, kw_only=True)
class SimConfig:
    """One furnace hall; recordings are numbered within it.

    The knobs' defaults are those of `SIM_VERSION`; `of_version` makes a hall of an earlier one.

    Raises:
        ValueError: `sim_version` is not one of `VERSIONS`, or `seed` is negative.
    """

    seed: int = 0
    sim_version: int = SIM_VERSION
    process: ProcessConfig = field(default_factory=ProcessConfig)
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        if self.sim_version not in VERSIONS:
            raise ValueError(
                f"simulator version {self.sim_version}: this fmbench has versions "
                f"{', '.join(map(str, VERSIONS))}. Simulate the data again, or install the fmbench "
                "that made them"
            )
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")

    @classmethod
    def of_version(cls, version: int, seed: int = 0) -> SimConfig:
        """A hall of `version`, with that version's random streams and knobs.

        Raises:
            ValueError: no such version, or a negative seed.
        """
        bare = cls(seed=seed, sim_version=version)
        return bare.with_overrides(VERSIONS[version])

    def stream(self, recording: int, purpose: Stream) -> np.random.Generator:
        """The generator of one purpose in one recording: counter-based, machine-independent."""
        key = np.random.SeedSequence((self.seed, self.sim_version, recording, int(purpose)))
        return np.random.Generator(np.random.Philox(key))

    def with_overrides(self, overrides: Mapping[str, object]) -> SimConfig:
        """A copy with dotted knobs set, for instance `{"process.beta": 0}`.

        Raises:
            ValueError: no such knob, or a value of the wrong kind.
        """
        changes: dict[str, dict[str, Any]] = {"process": {}, "scene": {}}
        known = self.knobs()
        for name, value in overrides.items():
            if name not in known:
                raise ValueError(
                    f"the simulator has no knob {name!r}{nearest(name, known)}. "
                    f"Known: {', '.join(known)}"
                )
            part, knob = name.split(".")
            changes[part][knob] = _like(name, value, known[name])
        return replace(
            self,
            process=replace(self.process, **changes["process"]),
            scene=replace(self.scene, **changes["scene"]),
        )

    def knobs(self) -> dict[str, object]:
        """Every dotted knob and its value."""
        parts: dict[str, ProcessConfig | SceneConfig] = {
            "process": self.process,
            "scene": self.scene,
        }
        return {
            f"{part}.{knob.name}": getattr(values, knob.name)
            for part, values in parts.items()
            for knob in fields(values)
        }

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SimConfig:
        """The inverse of `to_dict`, also of its JSON. A missing knob has its version's value.

        Raises:
            ValueError: an unknown simulator version or knob.
        """
        knobs = {
            f"{part}.{name}": value
            for part in ("process", "scene")
            for name, value in values[part].items()
        }
        bare = cls.of_version(int(values["sim_version"]), int(values["seed"]))
        return bare.with_overrides(knobs)


def _like(name: str, value: Any, default: object) -> object:
    """`value`, checked and converted to the type of `default`."""
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ValueError(f"{name} is {value!r}; it must be true or false")
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    wanted = 2 if isinstance(default, tuple) else 1
    if len(numbers) != wanted or any(
        isinstance(n, bool) or not isinstance(n, (int, float)) for n in numbers
    ):
        kind = "two numbers, low and high" if wanted == 2 else "a number"
        raise ValueError(f"{name} is {value!r}; it must be {kind}")
    if min(numbers) < 0 or numbers != sorted(numbers):
        raise ValueError(f"{name} is {value!r}; it must not be negative, and low before high")
    return tuple(map(float, numbers)) if wanted == 2 else float(numbers[0])
