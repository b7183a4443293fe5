"""A detector under a Trainer of the user's own: what `fmbench.fit` does before it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning as L

from fmbench.data import FurnaceData
from fmbench.data.statistics import standardize_inputs
from fmbench.stages import Learn
from fmbench.training.stamp import stamp, stamp_of_data

if TYPE_CHECKING:
    from fmbench.training.lit import Detector


def enter_alone(detector: Detector, trainer: L.Trainer) -> None:
    """Enter the only stage of a detector, with the statistics and the description of its data.

    Both are set if the Trainer was given a `FurnaceData`; with other loaders, the inputs are
    standardised as the model stands.

    Raises:
        ValueError: the model trains in several stages or turns, or does not fit the data.
    """
    (first, *more) = detector.stages
    if more or not isinstance(first, Learn) or len(first.turns) != 1:
        names = ", ".join(stage.name for stage in detector.stages)
        raise ValueError(
            f"{type(detector.model).__name__} trains in stages or turns of its own ({names}), which"
            " a Trainer alone does not go through; use fmbench.fit"
        )
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, FurnaceData):
        found = data.problem(detector.problem.dense)
        if found != detector.problem:
            raise ValueError(
                f"the model was built for {detector.problem}, the data are {found}; build it with"
                " problem=data.problem(dense=...)"
            )
        standardize_inputs(detector.model, data.statistics())
        built = getattr(detector.model, "built_as", {"model": "", "net": {}})
        described = stamp(
            built["model"],
            built["net"],
            detector.problem,
            data.options,
            data.description,
            data.classes,
        )
        detector.stamp = described | stamp_of_data(data) | detector.stamp
        detector.classes = data.classes
    detector.enter(first)
