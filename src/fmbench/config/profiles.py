"""Profiles: the YAML files that are shipped with fmbench."""

from __future__ import annotations

from pathlib import Path

from fmbench.errors import nearest


def find_config(name: str) -> Path:
    """The YAML file `name`, or else the profile of that name (`smoke`, `configs/smoke.yaml`).

    Raises:
        ValueError: neither exists.
    """
    path = Path(name)
    if path.is_file():
        return path
    folder = profiles()
    if str(path.parent) in (".", "configs"):
        profile = folder / f"{path.name.removesuffix('.yaml')}.yaml"
        if profile.is_file():
            return profile
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    raise ValueError(
        f"{name}: no such file, and no profile of that name"
        f"{nearest(path.stem, known)}\nProfiles: {', '.join(known)}"
    )


def profiles() -> Path:
    """The folder of the profiles."""
    return shipped("configs")


def shipped(folder: str) -> Path:
    """A folder shipped with the code: inside the package if installed, else beside `src`."""
    inside = Path(__file__).parents[1] / folder
    return inside if inside.is_dir() else Path(__file__).parents[3] / folder
