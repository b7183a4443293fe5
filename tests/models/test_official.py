"""The released network, by the golden numbers of its definitions (float64 unless said)."""

from __future__ import annotations

import pytest
import torch

from fmbench.models import FmFormer
from fmbench.models.official import OfficialFmFormer, from_state_dict, infer_problem, to_state_dict
from fmbench.types import Batch, Modality, Problem

SIZES: dict[str, tuple[Problem, bool, int]] = {
    "cross": (Problem(modality=Modality.CROSS), True, 223),
    "cross undilated": (Problem(modality=Modality.CROSS), False, 216),
    "cross mask": (Problem(modality=Modality.CROSS, dense=True), True, 257),
    "visual": (Problem(modality=Modality.VISUAL, frames=8), True, 89),
    "visual mask": (Problem(modality=Modality.VISUAL, dense=True), True, 123),
    "current": (Problem(modality=Modality.CURRENT), True, 78),
}
UNUSED = {
    "head.mlp_head2.0.weight": (96,),
    "head.mlp_head2.0.bias": (96,),
    "head.mlp_head2.1.weight": (2, 96),
    "head.mlp_head2.1.bias": (2,),
}


def golden_state(name: str) -> dict[str, torch.Tensor]:
    """The released names and shapes, filled by a rule that anyone can repeat on integers."""
    problem, dilated, _ = SIZES[name]
    empty = to_state_dict(OfficialFmFormer(problem, dilated=dilated))
    if name == "visual":
        empty |= {key: torch.zeros(shape) for key, shape in UNUSED.items()}
    state = {}
    for k, key in enumerate(sorted(empty)):
        old = empty[key]
        if not old.is_floating_point():
            state[key] = old
            continue
        j = torch.arange(old.numel())
        u = ((31 * j * j + 17 * j + 101 * k) % 1009).double() / 1009 - 0.5
        if key.startswith(("pos_", "cls_")) or "pos_embedding" in key:
            value = 2 * u
        elif (old.ndim == 1 and key.endswith(".weight")) or key.endswith("running_var"):
            value = 1 + 0.25 * u
        else:
            value = 0.25 * u
        state[key] = value.reshape(old.shape)
    return state


def golden_batch(problem: Problem) -> Batch:
    i = torch.arange(3 * problem.frames * 64 * 64)
    video = ((31 * i * i + 17 * i) % 251).double().reshape(1, 3, problem.frames, 64, 64)
    j = torch.arange(240 * 3)
    current = (3000 + (13 * j * j + 7 * j) % 9973).double().reshape(1, 240, 3)
    return Batch(
        video if problem.modality.has_video else None,
        current if problem.modality.has_current else None,
        torch.zeros(1, dtype=torch.long),
    )


def golden_network(name: str) -> OfficialFmFormer:
    return from_state_dict(golden_state(name), SIZES[name][0]).double()


@pytest.mark.parametrize(
    ("name", "logits"),
    [
        ("cross", (-0.850120292709, -0.063156937502)),
        ("cross undilated", (-3.306746907406, -0.400520890852)),
        ("visual", (-0.360409465019, -2.333501582218)),
        ("current", (0.997718087080, -0.597572629838)),
    ],
)
def test_released_class_logits(name: str, logits: tuple[float, float]) -> None:
    network = golden_network(name)
    network.load_state_dict(  # float64 values, not their float32 copies
        from_golden(network, name)
    )
    out = network(golden_batch(network.problem)).logits[0]
    torch.testing.assert_close(out, torch.tensor(logits).double(), atol=1e-6, rtol=0)
    single = network.float()(as_float(golden_batch(network.problem))).logits[0]
    torch.testing.assert_close(single, torch.tensor(logits), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "mean", "std", "pixels"),
    [
        (
            "cross mask",
            -3.140834976307,
            3.273104555078,
            (0.353707012395, 1.665693308168, -5.727007653834, 0.407912322474),
        ),
        (
            "visual mask",
            0.032790031956,
            2.671371675320,
            (-1.211402592962, 0.138019306770, -0.155568771762, 0.738145043098),
        ),
    ],
)
def test_released_mask_logits(
    name: str, mean: float, std: float, pixels: tuple[float, ...]
) -> None:
    network = golden_network(name)
    network.load_state_dict(from_golden(network, name))
    prediction = network(golden_batch(network.problem))
    mask = prediction.mask_logits
    assert mask is not None
    found = [mask[0, 0, 0, 0], mask[0, 1, 0, 0], mask[0, 0, 10, 50], mask[0, 1, 63, 63]]
    assert [v.item() for v in found] == pytest.approx(pixels, abs=1e-6)
    assert mask.mean().item() == pytest.approx(mean, abs=1e-6)
    assert mask.std().item() == pytest.approx(std, abs=1e-6)
    some_pixel = bool((mask[0, 1] > mask[0, 0]).any())
    assert prediction.logits.argmax(1).item() == some_pixel  # eq. (13)


def from_golden(network: OfficialFmFormer, name: str) -> dict[str, torch.Tensor]:
    """The golden values in float64 under our own names."""
    ours = from_names(network)
    return {ours[key]: value for key, value in golden_state(name).items() if key in ours}


def from_names(network: OfficialFmFormer) -> dict[str, str]:
    ours = list(network.state_dict())
    return dict(zip(to_state_dict(network), ours, strict=True))


def as_float(batch: Batch) -> Batch:
    return Batch(*(x.float() if x is not None and x.is_floating_point() else x for x in batch))


@pytest.mark.parametrize(
    ("change", "logits"),
    [
        ("axes", (-1.163249163875, -0.124522046346)),
        ("time", (-0.862427305399, -0.064709070319)),
    ],
)
def test_swapped_axes_or_reversed_current_give_other_known_logits(
    change: str, logits: tuple[float, float]
) -> None:
    network = golden_network("cross")
    network.load_state_dict(from_golden(network, "cross"))
    batch = golden_batch(network.problem)
    assert batch.video is not None
    assert batch.current is not None
    changed = (
        batch._replace(video=batch.video.transpose(3, 4))
        if change == "axes"
        else batch._replace(current=batch.current.flip(1))
    )
    assert network(changed).logits[0].tolist() == pytest.approx(logits, abs=1e-6)


def test_tokens_before_the_encoder() -> None:
    network = golden_network("cross")
    network.load_state_dict(from_golden(network, "cross"))
    batch = golden_batch(network.problem)
    video, _ = network._video(batch.video)
    positions = network.positions["video"]
    for token, values in (
        (video[0, 1] - positions[0, 1], (-0.228870, 0.037710, 0.436558)),
        (video[0, 320] - positions[0, 320], (-1.054792, 0.437426, -0.955117)),
        (video[0, 321], (-0.515371, -0.973100, -1.913805)),
        (video[0, 400], (0.610990, 0.593655, -0.877218)),
        (network.embed["current"](batch.current)[0, 0], (0.586880, 1.255046, 1.906303)),
    ):
        assert token[:3].tolist() == pytest.approx(values, abs=1e-6)


@pytest.mark.parametrize("name", SIZES)
def test_released_layout_has_as_many_tensors_and_comes_back_unchanged(name: str) -> None:
    state = golden_state(name)
    assert len(state) == SIZES[name][2]
    back = to_state_dict(from_state_dict(state, SIZES[name][0]))
    assert set(state) - set(back) == (set(UNUSED) if name == "visual" else set())
    assert all(torch.equal(back[key], state[key].to(back[key].dtype)) for key in back)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cross", 1_923_466),
        ("cross undilated", 1_877_866),
        ("cross mask", 2_419_848),
        ("visual", 776_836 - 386),  # without the released file's unused head
        ("visual mask", 1_280_898),
        ("current", 693_512),
    ],
)
def test_released_parameter_counts(name: str, parameters: int) -> None:
    problem, dilated, _ = SIZES[name]
    network = OfficialFmFormer(problem, dilated=dilated)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", SIZES)
def test_the_problem_is_inferred_from_the_file(name: str) -> None:
    assert infer_problem(golden_state(name)) == SIZES[name][0]


def test_current_embedding_is_blind_to_a_common_gain() -> None:
    network = golden_network("cross")
    batch = golden_batch(network.problem)
    assert batch.current is not None
    tripled = batch._replace(current=3 * batch.current)
    one_phase = batch._replace(current=batch.current * torch.tensor([1.2, 1, 1]))
    torch.testing.assert_close(network(tripled).logits, network(batch).logits, atol=1e-6, rtol=0)
    assert (network(one_phase).logits - network(batch).logits).abs().max() > 0.05


def test_weights_of_the_papers_variant_are_refused_with_what_differs() -> None:
    state = FmFormer(Problem(modality=Modality.CROSS)).state_dict()
    with pytest.raises(ValueError, match=r"two MLPs a layer.*token order"):
        from_state_dict(state)


def test_a_foreign_state_dict_is_refused_with_its_first_names() -> None:
    with pytest.raises(ValueError, match=r"neither a released FmFormer nor one of ours.*fc\.bias"):
        from_state_dict(torch.nn.ModuleDict({"fc": torch.nn.Linear(2, 2)}).state_dict())


def test_a_state_dict_of_another_task_or_size_is_refused() -> None:
    state = golden_state("cross")
    with pytest.raises(ValueError, match="the file holds a network for cross input and a class"):
        from_state_dict(state, Problem(modality=Modality.CROSS, dense=True))
    with pytest.raises(ValueError, match="other sizes 2"):
        from_state_dict(state, Problem(modality=Modality.CROSS, frames=8))
    del state["head.mlp_head1.1.bias"]
    with pytest.raises(ValueError, match=r"missing 1 \(first: heads.video.1.bias\)"):
        from_state_dict(state)


def test_another_length_is_refused_with_the_size_it_takes() -> None:
    network = golden_network("current").float()
    batch = Batch(None, torch.zeros(1, 200, 3), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="takes current of one size"):
        network(batch)
