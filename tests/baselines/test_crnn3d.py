"""3DCRNN against separate convolutions, torch's LSTM cell and closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fmbench.objective import Loss
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.crnn3d import ConvLstm, ConvLstmNet


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.VISUAL, **{"dense": True, **changes})


def batch(size: int, frames: int = 10, height: int = 64, width: int = 64) -> Batch:
    draw = torch.Generator().manual_seed(1)
    video = torch.randint(
        0, 256, (size, 3, frames, height, width), dtype=torch.uint8, generator=draw
    )
    mask = (video[:, 0, -1] > 128).long()
    return Batch(video, None, torch.arange(size) % 2, mask)


def random_layer(kernel: int, size: tuple[int, int] | None) -> ConvLstm:
    layer = ConvLstm(4, 6, kernel, size).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer


def step_by_hand(
    layer: ConvLstm, x: Tensor, hidden: Tensor, cell: Tensor, old_cell: bool = False
) -> tuple[Tensor, Tensor]:
    """Eq. (3) of Shi et al. with eight convolutions; `old_cell` makes its last gate wrong."""
    weight, bias = layer.gates.weight, layer.gates.bias
    assert bias is not None
    peep = layer.peephole if layer.peephole is not None else torch.zeros(3, 6, 1, 1).double()
    pad = layer.gates.kernel_size[0] // 2

    def gate(number: int) -> Tensor:
        rows = slice(6 * number, 6 * number + 6)
        from_input = F.conv2d(x, weight[rows, :4], padding=pad)
        from_state = F.conv2d(hidden, weight[rows, 4:], padding=pad)
        return from_input + from_state + bias[rows].view(-1, 1, 1)

    i = torch.sigmoid(gate(0) + peep[0] * cell)
    f = torch.sigmoid(gate(1) + peep[1] * cell)
    new = f * cell + i * torch.tanh(gate(2))
    o = torch.sigmoid(gate(3) + peep[2] * (cell if old_cell else new))
    return o * torch.tanh(new), new


@pytest.mark.parametrize("size", [None, (5, 7)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_step_is_eight_convolutions_and_the_output_gate_sees_the_new_cell(
    kernel: int, size: tuple[int, int] | None
) -> None:
    layer = random_layer(kernel, size)
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64)
    hidden, cell = torch.randn(2, 2, 6, 5, 7, dtype=torch.float64)
    new_hidden, new_cell = layer.step(x, hidden, cell)
    expected_hidden, expected_cell = step_by_hand(layer, x, hidden, cell)
    torch.testing.assert_close(new_hidden, expected_hidden)
    torch.testing.assert_close(new_cell, expected_cell)
    if size is not None:
        wrong, _ = step_by_hand(layer, x, hidden, cell, old_cell=True)
        assert not torch.allclose(new_hidden, wrong, atol=1e-2)


def test_a_layer_is_its_steps_from_zero_states() -> None:
    layer = random_layer(3, (5, 7))
    frames = torch.randn(4, 2, 4, 5, 7, dtype=torch.float64)
    hidden = cell = torch.zeros(2, 6, 5, 7, dtype=torch.float64)
    states = layer(frames)
    assert states.shape == (4, 2, 6, 5, 7)
    for frame, state in zip(frames, states, strict=True):
        hidden, cell = step_by_hand(layer, frame, hidden, cell)
        torch.testing.assert_close(state, hidden)


def test_with_1x1_kernels_on_one_place_it_is_torchs_lstm_cell() -> None:
    ours = random_layer(1, None)
    theirs = nn.LSTMCell(4, 6).double()  # gates in torch's order: i, f, g, o, as here
    weight = ours.gates.weight[:, :, 0, 0]
    theirs.weight_ih.data.copy_(weight[:, :4])
    theirs.weight_hh.data.copy_(weight[:, 4:])
    assert ours.gates.bias is not None
    theirs.bias_ih.data.copy_(ours.gates.bias.data)
    theirs.bias_hh.data.zero_()
    frames = torch.randn(5, 2, 4, dtype=torch.float64)
    states = ours(frames[..., None, None])[..., 0, 0]
    hidden = cell = torch.zeros(2, 6, dtype=torch.float64)
    for frame, state in zip(frames, states, strict=True):
        hidden, cell = theirs(frame, (hidden, cell))
        torch.testing.assert_close(state, hidden)


def test_without_input_and_state_the_biases_alone_speak() -> None:
    layer = random_layer(3, (5, 7))
    zero = torch.zeros(1, 6, 5, 7, dtype=torch.float64)
    hidden, cell = layer.step(torch.zeros(1, 4, 5, 7).double(), zero, zero)
    assert layer.gates.bias is not None
    assert layer.peephole is not None
    i, _, c, o = layer.gates.bias.view(4, 6, 1, 1)
    expected = i.sigmoid() * c.tanh()
    torch.testing.assert_close(cell[0], expected.expand(-1, 5, 7))
    gate = torch.sigmoid(o + layer.peephole[2] * expected)
    torch.testing.assert_close(hidden[0], gate * expected.tanh())


def test_a_new_layer_forgets_little_and_has_closed_peepholes() -> None:
    layer = ConvLstm(4, 6, 3, (5, 7))
    assert layer.gates.bias is not None
    assert layer.peephole is not None
    assert layer.gates.bias.view(4, 6).mean(1).tolist() == [0, 1, 0, 0]
    assert not layer.peephole.any()


@pytest.mark.parametrize(("peephole", "count"), [(False, 1_411_364), (True, 1_577_252)])
def test_parameters_of_the_default_and_of_its_cells(peephole: bool, count: int) -> None:
    model = ConvLstmNet(problem(), peephole=peephole)
    assert sum(p.numel() for p in model.parameters()) == count
    gates = [sum(p.numel() for p in cell.gates.parameters()) for cell in model.cells]  # type: ignore[union-attr]
    assert gates == [73_856, 295_168, 663_936]


def test_three_levels_halve_the_image_and_recur_over_all_frames() -> None:
    model = ConvLstmNet(problem()).eval()
    shapes: list[tuple[int, ...]] = []
    for cell in model.cells:
        cell.register_forward_hook(lambda _, __, out: shapes.append(tuple(out.shape)))
    video = batch(2).video
    assert video is not None
    state = model.encode(video)
    assert shapes == [(10, 2, 32, 32, 32), (10, 2, 64, 16, 16), (10, 2, 96, 8, 8)]
    assert state.shape == (2, 96, 8, 8)


def test_the_network_is_its_levels_one_frame_at_a_time() -> None:
    """All levels advance together here; the model runs them one after the other."""
    torch.manual_seed(0)
    model = ConvLstmNet(problem(frames=3, image_size=(16, 24)), widths=(4, 6)).double().eval()
    for cell in model.cells:
        nn.init.normal_(cell.peephole)  # type: ignore[arg-type]
    video = batch(2, 3, 16, 24).video
    assert video is not None
    states = [
        [torch.zeros(2, dim, 16 // s, 24 // s, dtype=torch.float64)] * 2
        for dim, s in ((4, 2), (6, 4))
    ]
    for frame in (video.double() / 255).unbind(2):
        x = frame
        for level in range(2):
            maps = model.convolutions[level](x)
            states[level] = list(model.cells[level].step(maps, *states[level]))  # type: ignore[operator]
            x = states[level][0]
    torch.testing.assert_close(model.encode(video), x)
    prediction = model(batch(2, 3, 16, 24))
    torch.testing.assert_close(prediction.logits, model.head(x.mean((2, 3))))
    assert model.dense_head is not None
    torch.testing.assert_close(prediction.mask_logits, model.dense_head(x[:, None].movedim(2, -1)))


def test_the_order_of_frames_matters_and_every_frame_is_seen() -> None:
    torch.manual_seed(0)
    model = ConvLstmNet(problem()).eval()
    plain = batch(1)
    assert plain.video is not None
    turned = plain._replace(video=plain.video.flip(2))
    assert (model(plain).logits - model(turned).logits).abs().max() > 1e-6
    video = plain.video.float().requires_grad_()
    prediction = model(plain._replace(video=video))
    outputs = prediction.logits.sum() + prediction.mask_logits.square().sum()
    (gradient,) = torch.autograd.grad(outputs, video)
    assert (gradient.abs().amax((0, 1, 3, 4)) > 0).all()


@pytest.mark.parametrize("peephole", [False, True])
def test_every_parameter_learns(peephole: bool) -> None:
    model = ConvLstmNet(problem(image_size=(32, 32)), widths=(8, 12, 16), peephole=peephole)
    rows = batch(4, 4, 32, 32)
    torch.stack(list(Loss().terms(model(rows), rows).values())).sum().backward()
    still = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still == set()


@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 8, 8), (3, 24, 40)])
def test_other_problems_work_in_training_and_evaluation(
    frames: int, height: int, width: int, peephole: bool
) -> None:
    sizes = problem(frames=frames, image_size=(height, width), num_classes=5)
    model = ConvLstmNet(sizes, widths=(4, 6, 8), peephole=peephole)
    for mode in (True, False):
        prediction = model.train(mode)(batch(1, frames, height, width))
        assert prediction.logits.shape == (1, 5)
        assert prediction.mask_logits.shape == (1, 5, height, width)


def test_a_trained_model_reads_other_lengths_and_without_peepholes_other_sizes() -> None:
    model = ConvLstmNet(problem(), widths=(4, 6, 8), peephole=False).eval()
    assert model(batch(1, 4, 32, 96)).mask_logits.shape == (1, 2, 32, 96)
    with pytest.raises(ValueError, match="width, 60, is not a multiple of the patch's 8"):
        model(batch(1, 4, 32, 60))
    peeping = ConvLstmNet(problem(), widths=(4, 6, 8)).eval()
    assert peeping(batch(1, 4)).logits.shape == (1, 2)
    with pytest.raises(ValueError, match="images of 32x96; this model was built for 64x64"):
        peeping(batch(1, 4, 32, 96))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"widths": (4,) * 7}, "height, 64, is not a multiple of the patch's 128"),
        ({"kernel": 1}, "kernel is 1; it must be odd and at least 3"),
        ({"kernel": 4}, "kernel is 4; it must be odd"),
    ],
)
def test_what_cannot_be_is_refused(net: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvLstmNet(problem(), **net)


def test_a_batch_without_video_is_refused() -> None:
    with pytest.raises(ValueError, match="the batch has none"):
        ConvLstmNet(problem())(Batch(None, torch.zeros(1, 240, 3), torch.zeros(1).long()))
