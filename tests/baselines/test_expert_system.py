"""The expert system: hand-made currents fire the rules they should, and calibration is a search."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from fmbench.stages import Solve, stages_of
from fmbench.types import Batch, Modality, Problem
from fmbench_baselines.expert_system import (
    CLAUSES,
    NAMES,
    RULES,
    ExpertSystem,
    calibrated,
    candidates,
    trailing,
    verdict,
)

SETPOINT = 12_000.0
FAULTS = [rule.name for rule in RULES if not rule.excuses]


def problem(**changes: Any) -> Problem:
    return Problem(modality=Modality.CURRENT, **changes)


def fed(current: Tensor, label: Tensor | None = None) -> Batch:
    return Batch(None, current, torch.zeros(len(current)).long() if label is None else label)


def flat(samples: int = 240) -> Tensor:
    return torch.full((1, samples, 3), SETPOINT)


def restless(size: int, seed: int = 0) -> Batch:
    """Noise around set-points; the abnormal half is more restless, some of it far off."""
    draw = torch.Generator().manual_seed(seed)
    label = torch.arange(size) % 2
    noise = torch.randn(size, 240, 3, generator=draw) * (800 + 1200 * label[:, None, None])
    shift = 3000 * torch.randn(size, 1, 3, generator=draw) * label[:, None, None]
    level = SETPOINT + 500 * torch.randn(size, 1, 1, generator=draw)
    current = level + noise
    current[:, -40:] += shift
    return fed(current.clamp(min=0), label)


def names(model: ExpertSystem, current: Tensor) -> list[str]:
    [fired] = model.explain(fed(current))
    return list(fired)


def is_abnormal(model: ExpertSystem, current: Tensor) -> bool:
    return bool(model(fed(current)).logits.argmax(1) == 1)


def test_a_flat_current_at_the_set_point_fires_nothing() -> None:
    model = ExpertSystem(problem(), setpoint=SETPOINT)
    assert names(model, flat()) == []
    assert not is_abnormal(model, flat())


def test_a_step_of_minus_30_percent_held_for_a_minute_is_exactly_a_persistent_error() -> None:
    model = ExpertSystem(problem(), setpoint=SETPOINT)
    current = flat()
    current[:, -120:] *= 0.7
    assert names(model, current) == ["semi_molten"]
    assert is_abnormal(model, current)
    current[:, -60:] = SETPOINT  # the set-point is regained
    assert names(model, current) == []


def test_too_much_current_for_longer_than_a_minute_is_overheating() -> None:
    model = ExpertSystem(problem(), setpoint=SETPOINT)
    current = flat()
    current[:, -150:] *= 1.3
    assert names(model, current) == ["overheating"]
    current[:, :-100] = SETPOINT  # 50 s
    assert names(model, current) == []


@pytest.mark.parametrize("ago", [0, 5, 14])
def test_a_spike_of_one_second_is_excused(ago: int) -> None:
    model = ExpertSystem(problem(), setpoint=SETPOINT)
    current = flat()
    current[:, 238 - ago : 240 - ago] += 8000
    assert names(model, current) == ["abnormal_feeding", "short_transient"]
    assert not is_abnormal(model, current)


def test_jumps_again_and_again_at_one_electrode_are_abnormal_exhausting() -> None:
    model = ExpertSystem(problem(), setpoint=SETPOINT)
    current = flat()
    current[:, ::4, 0] += 12_000
    current[:, 1::4, 0] += 12_000
    assert "abnormal_exhausting" in names(model, current)
    assert is_abnormal(model, current)


def test_features_are_those_of_a_plain_loop_over_phases_and_instants() -> None:
    [current] = restless(2).current[1:]  # type: ignore[index]
    model = ExpertSystem(problem(), setpoint=11_900, lag=1.5, voltage=95, lead=0.2)
    found = {name: value.item() for name, value in model.features(current[None]).items()}
    rows = current.double().tolist()
    setpoint = 11_900

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def ohms(amperes: float) -> float:
        return float(((95_000 / amperes) ** 2 - 3.5**2) ** 0.5 - 0.2)

    expected: dict[str, list[float]] = {}
    active: list[list[bool]] = []
    for phase in range(3):
        x = [row[phase] for row in rows]
        errors = {t: 1 - mean(x[t - 19 : t + 1]) / setpoint for t in range(19, 240)}
        rates = {t: abs(x[t] - x[t - 3]) / 1.5 for t in range(3, 240)}
        active.append([abs(errors[t]) > 0.1 or rates[t] > 6000 for t in range(19, 240)])
        run = next((k for k, on in enumerate(reversed(active[-1])) if not on), 221) / 2
        recent = x[-20:]
        at = 0.9 * (len(rates) - 1)
        ordered = sorted(rates.values())
        low = ordered[int(at)]
        values = {
            "error": errors[239],
            "deviation": abs(errors[239]),
            "rate": max(rates[t] for t in range(223, 240)),
            "often": low + (at - int(at)) * (ordered[int(at) + 1] - low),
            "fluctuation": mean([(v - mean(recent)) ** 2 for v in recent]) ** 0.5 / setpoint,
            "swing": mean([(v - mean(x)) ** 2 for v in x]) ** 0.5 / setpoint,
            "duration": run,
            "resistance_change": ohms(mean(recent)) - ohms(setpoint),
        }
        for name, value in values.items():
            expected.setdefault(name, []).append(value)
    levels = [mean([row[phase] for row in rows[-20:]]) for phase in range(3)]
    reduced = {f"{name}_mean": mean(of) for name, of in expected.items()}
    reduced |= {f"{name}_max": max(of) for name, of in expected.items()}
    reduced["imbalance"] = (max(levels) - min(levels)) / mean(levels)
    reduced["unrest"] = mean([float(any(now)) for now in zip(*active, strict=True)])
    assert 0 < reduced["unrest"] < 1
    assert found == pytest.approx(reduced, rel=1e-4, abs=1e-5)


def test_twice_the_current_and_set_point_change_only_what_has_a_unit() -> None:
    current = restless(16).current
    assert current is not None
    once = ExpertSystem(problem(), setpoint=SETPOINT, reactance=0, onset_rate=1e9)
    twice = ExpertSystem(problem(), setpoint=2 * SETPOINT, reactance=0, onset_rate=1e9)
    before, after = once.features(current), twice.features(2 * current)
    halved = {"resistance_change_mean", "resistance_change_max"}
    doubled = {"rate_mean", "rate_max", "often_mean", "often_max"}
    for name, value in before.items():
        factor = 0.5 if name in halved else 2 if name in doubled else 1
        torch.testing.assert_close(after[name], factor * value, rtol=1e-4, atol=1e-5)


def test_beyond_the_short_circuits_current_and_without_any_the_resistance_is_finite() -> None:
    model = ExpertSystem(problem())
    assert model.resistance(torch.tensor([1e5])).item() == 0
    assert torch.isfinite(model.resistance(torch.tensor([0.0]))).all()
    assert torch.isfinite(model(fed(torch.zeros(1, 240, 3))).logits).all()


def test_trailing_counts_what_is_true_without_a_gap_up_to_now() -> None:
    mask = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 0]]).bool()
    assert trailing(mask[None]).tolist() == [[2, 4, 0]]


@pytest.mark.parametrize("calibrate", [False, True])
def test_the_sign_of_the_score_is_the_crisp_decision_on_ten_thousand_inputs(
    calibrate: bool,
) -> None:
    model = ExpertSystem(problem(current_samples=60))
    if calibrate:
        train = restless(200)
        assert train.current is not None
        model.solve(model.gather(train._replace(current=train.current[:, -60:])))
    draw = torch.Generator().manual_seed(2)
    shape = (10_000, 60, 3)
    current = SETPOINT + 4000 * torch.rand(10_000, 1, 1, generator=draw) * torch.randn(
        shape, generator=draw
    )
    current[:, -40:] *= 0.6 + 0.8 * torch.rand(10_000, 1, 1, generator=draw)
    current = current.clamp(min=0)
    parts = current.split(1000)
    called = torch.cat([model(fed(part)).logits.diff(dim=1)[:, 0] > 0 for part in parts])
    values = torch.cat([model.clauses(fed(part)) for part in parts])
    held = [
        {name: float(v) > t if a.sign == ">" else float(v) < t for name, v, t, (_, a) in row}
        for row in (
            list(zip(NAMES, value, model.thresholds.tolist(), CLAUSES, strict=True))
            for value in values.tolist()
        )
    ]
    crisp = []
    for row in held:
        fired = {
            rule.name
            for rule in RULES
            if all(row[f"{rule.name}.{a.feature}"] for a in rule.antecedents)
        }
        crisp.append(bool(fired & set(FAULTS)) and "short_transient" not in fired)
    assert called.tolist() == crisp
    assert 500 < sum(crisp) < 9500


def test_the_explanation_gives_the_fired_rules_and_their_reasons_for_each_sample() -> None:
    model = ExpertSystem(problem(), setpoint=SETPOINT)
    low, high = flat(), flat()
    low[:, -120:] *= 0.7
    high[:, -150:] *= 1.3
    fired = model.explain(fed(torch.cat([low, flat(), high])))
    assert [list(rules) for rules in fired] == [["semi_molten"], [], ["overheating"]]
    assert fired[0]["semi_molten"].startswith("error_mean 0.3 > 0.1, swing_max 0.15 > 0.1, ")
    assert "duration_max 73.5 > 60" not in fired[0]["semi_molten"]
    assert fired[2]["overheating"].startswith("error_mean -0.3 < -0.1, resistance_change_mean -2.")


def test_on_the_edge_the_explanation_agrees_with_the_decision() -> None:
    model = ExpertSystem(problem(), setpoint=SETPOINT)
    current = flat()
    current[:, -2:] += 8000
    k = NAMES.index("short_transient.unrest")
    model.thresholds[k] = model.clauses(fed(current))[0, k]  # margin 0
    assert names(model, current) == ["abnormal_feeding", "short_transient"]
    assert not is_abnormal(model, current)


def calibrated_on(batch: Batch, **net: Any) -> ExpertSystem:
    model = ExpertSystem(problem(), **net)
    fit(model, batch)
    return model


def fit(model: ExpertSystem, batch: Batch) -> list[str]:
    """As a fit does it, in two batches; returns the lines that the stages report."""
    half = len(batch.label) // 2
    halves = [
        Batch(*(x if x is None else x[k] for x in batch)) for k in (slice(half), slice(half, None))
    ]
    lines: list[str] = []
    for stage in stages_of(model):
        assert isinstance(stage, Solve)
        parts = [stage.gather(part) for part in halves]
        gathered = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        lines += (stage.solve(gathered) or "").splitlines()
    return lines


def test_calibration_raises_the_balanced_accuracy_and_no_single_step_raises_it_further() -> None:
    batch = restless(300)
    nominal, model = ExpertSystem(problem()), calibrated_on(batch)

    def accuracy(levels: Tensor) -> float:
        called = verdict(values, levels).double()
        return float(called[batch.label == 1].mean() + 1 - called[batch.label == 0].mean()) / 2

    values = model.clauses(batch)
    reached = accuracy(model.thresholds)
    called = model(batch).logits.argmax(1)
    assert reached == pytest.approx(balanced_accuracy_score(batch.label, called))
    assert reached > accuracy(nominal.thresholds) + 0.05
    for k in range(len(NAMES)):
        for level in candidates(values[:, k]):
            moved = model.thresholds.clone()
            moved[k] = level
            assert accuracy(moved) <= reached + 1e-9


def test_the_search_finds_a_threshold_that_parts_the_classes() -> None:
    values = torch.zeros(40, len(NAMES))
    column = NAMES.index("overheating.resistance_change_mean")
    values[:, column] = torch.arange(40.0)
    start = torch.tensor([-1.0 if antecedent.sign == ">" else 1.0 for _, antecedent in CLAUSES])
    for k, (rule, antecedent) in enumerate(CLAUSES):
        if rule.name != "overheating":  # never holds
            start[k] = 1 if antecedent.sign == ">" else -1
    abnormal = torch.arange(40) < 17
    levels = calibrated(values, abnormal, start, [column])
    assert levels[column] == 16.5
    assert torch.equal(verdict(values, levels), abnormal)
    others = [k for k in range(len(NAMES)) if k != column]
    assert torch.equal(levels[others], start[others])


def test_the_order_of_what_was_gathered_does_not_matter() -> None:
    batch = restless(120)
    order = torch.randperm(120)
    turned = Batch(*(x if x is None else x[order] for x in batch))
    assert torch.equal(calibrated_on(batch).thresholds, calibrated_on(turned).thresholds)


def test_only_calibration_writes_and_the_solution_travels_with_the_weights() -> None:
    model = calibrated_on(restless(120))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert set(before) == {"setpoint", "thresholds", "scales"}
    assert not list(model.parameters())
    for mode in (True, False):
        model.train(mode)(restless(60, seed=5))
        model.explain(restless(60, seed=6))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    other = ExpertSystem(problem())
    other.load_state_dict(before)
    batch = restless(60, seed=7)
    assert torch.equal(other(batch).logits, model(batch).logits)


def test_uncalibrated_thresholds_stay_nominal_and_named_ones_stay_as_given() -> None:
    batch, nominal = restless(120), ExpertSystem(problem()).thresholds
    assert torch.equal(calibrated_on(batch, calibrate=False).thresholds, nominal)
    name = "semi_molten.error_mean"
    model = calibrated_on(batch, thresholds={name: 0.23})
    assert model.thresholds[NAMES.index(name)] == torch.tensor(0.23)
    assert not torch.equal(model.thresholds, nominal)
    with pytest.raises(ValueError, match=r"no threshold is called 'error'\nKnown: semi_molten"):
        ExpertSystem(problem(), thresholds={"error": 0.1})


def test_the_sharpness_scales_the_logits_alone() -> None:
    batch = restless(20)
    once, twice = (ExpertSystem(problem(), sharpness=k)(batch).logits for k in (1, 2))
    torch.testing.assert_close(twice, 2 * once)


def test_the_set_point_is_the_median_of_normal_windows_or_as_given() -> None:
    levels = torch.tensor([9000.0, 10_000, 14_000, 20_000, 21_000])
    current = levels[:, None, None].expand(-1, 240, 3)
    label = torch.tensor([0, 0, 0, 1, 1])
    model = ExpertSystem(problem())
    lines = fit(model, fed(current, label))
    assert model.setpoint.item() == 10_000
    assert "set-point: 10,000 A, the median of normal windows" in lines
    given = ExpertSystem(problem(), setpoint=11_000)
    lines = fit(given, fed(current, label))
    assert given.setpoint.item() == 11_000
    assert not any("set-point" in line for line in lines)
    with pytest.raises(ValueError, match=r"normal windows is -3000 A; .* reads amperes"):
        fit(ExpertSystem(problem()), fed(torch.full((2, 240, 3), -3000.0), torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="needs normal windows to measure the set-point on"):
        fit(ExpertSystem(problem()), fed(current, torch.ones(5).long()))


@pytest.mark.parametrize("level", [10_000.0, 13_500.0])
@pytest.mark.parametrize("held", [75, 100, 120])  # seconds of 120, or that share of 30
@pytest.mark.parametrize("samples", [60, 240])
def test_at_the_defaults_a_step_of_plus_25_percent_held_is_overheating(
    level: float, held: int, samples: int
) -> None:
    """However long it is held: the record's own level is not what it should be."""
    model = ExpertSystem(problem(current_samples=samples), calibrate=False)
    train = restless(100)
    assert train.current is not None
    fit(model, train._replace(current=train.current[:, -samples:] * level / SETPOINT))
    assert model.setpoint.item() == pytest.approx(level, rel=0.02)
    current = torch.full((1, samples, 3), level)
    assert names(model, current) == []
    current[:, -held * samples // 120 :] *= 1.25
    assert names(model, current) == ["overheating"]
    assert is_abnormal(model, current)


def test_at_the_defaults_low_and_unsteady_current_all_along_is_semi_molten() -> None:
    model = ExpertSystem(problem())
    draw = torch.Generator().manual_seed(0)
    current = flat() * 0.75 + 1500 * torch.randn(1, 240, 3, generator=draw)
    assert "semi_molten" in names(model, current)


def test_short_records_scale_the_durations_and_the_fit_reports_it() -> None:
    long, short = ExpertSystem(problem()), ExpertSystem(problem(current_samples=60))
    at = [k for k, (_, clause) in enumerate(CLAUSES) if clause.feature == "duration_max"]
    assert long.thresholds[at].tolist() == [30, 60, 30]
    torch.testing.assert_close(short.thresholds[at], long.thresholds[at] * 20.5 / 90)
    rest = [k for k in range(len(CLAUSES)) if k not in at]
    assert torch.equal(short.thresholds[rest], long.thresholds[rest])
    batch = restless(60)
    assert batch.current is not None
    lines = fit(short, batch._replace(current=batch.current[:, -60:]))
    assert (
        "durations in rules are scaled by 0.23: a record shows a disturbance for at most 20.5 s,"
        " the rules are made for 90 s" in lines
    )
    assert not any("durations" in line for line in fit(long, batch))
    with pytest.raises(
        ValueError, match=r"overheating.duration_max is 60 s, but a record of 30.0 s"
    ):
        ExpertSystem(problem(current_samples=60), thresholds={"overheating.duration_max": 60})


def test_the_fit_reports_antecedents_that_always_hold_and_rules_that_never_do() -> None:
    batch = restless(120)
    model = ExpertSystem(
        problem(),
        setpoint=SETPOINT,
        thresholds={
            "abnormal_exhausting.often_mean": -1,
            "abnormal_feeding.rate_max": 1e9,
        },
    )
    lines = fit(model, batch)
    assert "rule abnormal_exhausting: often_mean > -1 holds in every training window" in lines
    assert "rule abnormal_feeding holds in no training window" in lines
    values = model.clauses(batch)
    for line in lines:  # and nothing that is not so
        name = line.removeprefix("rule ").split(":")[0].split(" ")[0]
        columns = [k for k, (rule, _) in enumerate(CLAUSES) if rule.name == name]
        held = torch.stack(
            [
                (values[:, k] > t) if CLAUSES[k][1].sign == ">" else (values[:, k] < t)
                for k, t in zip(columns, model.thresholds[columns].tolist(), strict=True)
            ]
        )
        if line.endswith("holds in every training window"):
            assert held.all(1).any()
        else:
            assert not held.all(0).any()


def test_one_class_alone_cannot_be_calibrated_on() -> None:
    batch = restless(8)._replace(label=torch.zeros(8).long())
    with pytest.raises(ValueError, match="needs normal and abnormal windows"):
        calibrated_on(batch)


@pytest.mark.parametrize(("samples", "channels"), [(20, 1), (21, 3), (700, 5)])
def test_other_sizes_work(samples: int, channels: int) -> None:
    sizes = problem(current_samples=samples, current_channels=channels)
    draw = torch.Generator().manual_seed(0)
    current = SETPOINT + 900 * torch.randn(6, samples, channels, generator=draw)
    batch = fed(current, torch.arange(6) % 2)
    model = ExpertSystem(sizes)
    model.solve(model.gather(batch))
    assert torch.isfinite(model(batch).logits).all()


@pytest.mark.parametrize(
    ("sizes", "net", "message"),
    [
        ({"num_classes": 3}, {}, "3 classes; expert_system tells abnormal from normal only"),
        ({"current_samples": 19}, {}, "lag 1 s, window 10 s, record 9.5 s"),
        ({}, {"lag": 10}, "lag 10 s, window 10 s"),
        ({}, {"lag": 0.1}, "the lag must be at least 0.5 s"),
        ({}, {"setpoint": 0}, "setpoint is 0; it must be positive"),
        ({}, {"voltage": 0}, "voltage is 0; it must be positive"),
        ({}, {"sharpness": -1}, "sharpness is -1; it must be positive"),
    ],
)
def test_impossible_settings_are_refused(
    sizes: dict[str, Any], net: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ExpertSystem(problem(**sizes), **net)


def test_a_current_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="120 samples of current; this expert_system reads 240"):
        ExpertSystem(problem())(fed(flat(120)))


def test_features_are_in_seconds_at_any_rate() -> None:
    """A current that falls by 500 A/s for the last 20 s of two minutes, at 2 and at 20 a second."""
    found = {}
    for rate in (2, 20):
        time = torch.arange(120 * rate) / rate
        current = (SETPOINT - 500 * (time - 100).clamp(min=0))[None, :, None].expand(1, -1, 3)
        sizes = problem(current_samples=120 * rate, current_rate=rate)
        model = ExpertSystem(sizes, onset_rate=400, setpoint=SETPOINT)
        found[rate] = {name: value.item() for name, value in model.features(current).items()}
    assert found[20]["rate_max"] == pytest.approx(500, rel=1e-3)
    assert found[20]["duration_max"] == pytest.approx(20, abs=1.1)
    for name, value in found[2].items():
        assert found[20][name] == pytest.approx(value, rel=0.05, abs=0.6), name
