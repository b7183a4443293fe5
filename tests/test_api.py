"""The public Python interface: names, signatures, and an external plug-in."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fmbench
from fmbench import types
from fmbench.models import official
from fmbench.registry import catalogue
from fmbench.training.provenance import code_of


def test_public_names_are_frozen() -> None:
    assert sorted(fmbench.__all__) == [
        "Detector",
        "FurnaceData",
        "configure",
        "create_model",
        "fit",
        "list_models",
        "load",
        "standardize_inputs",
    ]
    assert list(inspect.signature(fmbench.fit).parameters)[:2] == ["config", "run"]
    assert list(inspect.signature(fmbench.configure).parameters) == ["profile", "options"]
    assert list(inspect.signature(fmbench.Detector.predict).parameters)[1:] == ["video", "current"]
    assert list(inspect.signature(fmbench.list_models).parameters) == ["modality"]
    assert list(inspect.signature(fmbench.create_model).parameters) == ["name", "problem", "net"]
    assert list(inspect.signature(fmbench.load).parameters) == ["path"]
    assert list(inspect.signature(official.from_state_dict).parameters) == ["state", "problem"]


def test_the_fields_of_the_shared_types_are_frozen() -> None:
    assert [str(m) for m in types.Modality] == ["current", "visual", "cross"]
    assert types.Batch._fields == ("video", "current", "label", "mask", "recording", "second")
    assert types.Prediction._fields == ("logits", "mask_logits", "aux")
    assert list(inspect.signature(types.Problem).parameters) == [
        "modality",
        "num_classes",
        "dense",
        "frames",
        "image_size",
        "current_samples",
        "current_channels",
        "frame_rate",
        "current_rate",
    ]


def test_importing_fmbench_does_not_import_torch() -> None:
    code = "import sys, fmbench, fmbench.types; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_models_are_listed_by_modality() -> None:
    assert "fmformer" in fmbench.list_models()
    for modality in types.Modality:
        assert "fmformer" in fmbench.list_models(modality)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"frames": 0}, "frames is 0; it must be at least 1"),
        ({"image_size": (0, 64)}, "image height is 0"),
        ({"num_classes": 1}, "num_classes is 1; it must be at least 2"),
        ({"modality": "current", "dense": True}, "current alone shows no picture"),
    ],
)
def test_impossible_problems_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        types.Problem(**{"modality": types.Modality.CROSS, **sizes})


def test_wrong_names_get_the_nearest_match() -> None:
    problem = types.Problem(modality=types.Modality.CROSS)
    with pytest.raises(ValueError, match="no model is called 'fmfromer'; did you mean 'fmformer'"):
        fmbench.create_model("fmfromer", problem)
    with pytest.raises(ValueError, match="no option 'dept'; did you mean 'depth'"):
        fmbench.create_model("fmformer", problem, dept=3)
    with pytest.raises(ValueError, match="no modality is called 'visaul'; did you mean 'visual'"):
        fmbench.list_models("visaul")


PLUG_IN = '''
import torch
from torch import nn
from fmbench.nn import Standardize
from fmbench.types import Batch, Modality, Prediction, Problem


class Mean(nn.Module):
    """Linear on the mean current."""

    modalities = frozenset({Modality.CURRENT})
    dense = frozenset()

    def __init__(self, problem: Problem, *, width: int = 4):
        super().__init__()
        self.standardize = Standardize.current(problem.current_channels)
        self.layers = nn.Sequential(
            nn.Linear(problem.current_channels, width), nn.ReLU(), nn.Linear(width, 2)
        )

    def forward(self, batch: Batch) -> Prediction:
        return Prediction(self.layers(self.standardize(batch.current).mean(1)))


MODELS = {"acme-mean": Mean}
'''


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An installed distribution `acme` with one model that reads current only."""
    (tmp_path / "acme_models.py").write_text(PLUG_IN)
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fmbench.models]\nacme = acme_models:MODELS\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    catalogue.cache_clear()
    yield tmp_path
    catalogue.cache_clear()
    sys.modules.pop("acme_models", None)


def test_a_plug_in_is_found_by_name_and_its_modality_is_respected(plug_in: Path) -> None:
    assert "acme-mean" in fmbench.list_models("current")
    assert "acme-mean" not in fmbench.list_models("cross")
    problem = types.Problem(modality=types.Modality.CROSS)
    with pytest.raises(ValueError, match=r"acme-mean reads current, not cross.*fmformer"):
        fmbench.create_model("acme-mean", problem)
    built = fmbench.create_model("acme-mean", types.Problem(modality=types.Modality.CURRENT))
    assert type(built).__module__ == "acme_models"


def test_one_name_twice_is_an_error_that_names_both(plug_in: Path) -> None:
    again = plug_in / "acme_models.py"
    again.write_text(again.read_text().replace("acme-mean", "fmformer"))
    catalogue.cache_clear()
    with pytest.raises(
        ValueError, match=r"two models are called .fmformer.: (?=.*FmFormer)(?=.*acme_models\.Mean)"
    ):
        fmbench.list_models()


def test_the_code_of_a_plug_in_is_its_module_without_comments_and_docstrings(plug_in: Path) -> None:
    file = plug_in / "acme_models.py"
    first = code_of("acme-mean")
    assert (first["distribution"], first["version"], first["module"]) == (
        "acme",
        "1.0",
        "acme_models",
    )
    text = file.read_text()
    file.write_text(
        "# mine\n" + text.replace("Linear on the mean", "On the mean").replace(", 2)", ",2)")
    )
    assert code_of("acme-mean") == first
    file.write_text(text.replace("width, 2)", "width, 3)"))
    assert code_of("acme-mean")["syntax"] != first["syntax"]


def test_the_code_of_a_baseline_is_that_of_its_module() -> None:
    code = code_of("vivit")
    assert (code["distribution"], code["module"]) == ("fmformer-bench", "fmbench_baselines.vivit")
    assert len(code["syntax"] or "") == 64
