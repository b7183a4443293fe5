"""Expert system: rules on size, rate and duration of the currents' deviation from a set-point.

Wu, Wu, Chai, Sun: "Data-Driven Abnormal Condition Identification and Self-Healing Control System
for Fused Magnesium Furnace", IEEE Transactions on Industrial Electronics 62(3), 2015,
doi 10.1109/TIE.2014.2349479.
Reconstruction: only the abstract of that paper was available (rules on tracking error, rate and
duration of current fluctuation), and its description in arXiv 2406.09016, Sec. V-B1 (tracking
error, rate of change, arc resistance). Rule table, thresholds, set-points and voltages are not
public. The rules below, their levels, the nominal voltage and reactance are ours; set-point and
thresholds are calibrated on the training part.
Differs: the case-based correction of set-points is control, not detection, and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmbench.nn import current_reader
from fmbench.stages import Solve
from fmbench.types import Batch, Modality, Prediction, Problem


@dataclass(frozen=True)
class Antecedent:
    """A feature (see `ExpertSystem.features`) above or below a threshold; `level` is nominal."""

    feature: str
    sign: str
    level: float


@dataclass(frozen=True)
class Rule:
    """Abnormal if all antecedents hold; a rule that `excuses` then overrides all others."""

    name: str
    antecedents: tuple[Antecedent, ...]
    excuses: bool = False


RULES = (
    Rule(  # unmelted ore raises the arc's resistance: low, unsteady current for a long time
        "semi_molten",
        (
            Antecedent("error_mean", ">", 0.1),
            Antecedent("swing_max", ">", 0.1),
            Antecedent("resistance_change_mean", ">", 0.5),
            Antecedent("duration_max", ">", 30),
        ),
    ),
    Rule(  # the opposite: high current for an even longer time
        "overheating",
        (
            Antecedent("error_mean", "<", -0.1),
            Antecedent("resistance_change_mean", "<", -0.5),
            Antecedent("duration_max", ">", 60),
        ),
    ),
    Rule(  # ore drops into the arc: a large, sudden, short change
        "abnormal_feeding",
        (
            Antecedent("rate_max", ">", 6000),
            Antecedent("fluctuation_max", ">", 0.05),
            Antecedent("duration_max", "<", 30),
        ),
    ),
    Rule(  # gas breaks through: larger, repeated changes, unequal between electrodes
        "abnormal_exhausting",
        (
            Antecedent("rate_max", ">", 9000),
            Antecedent("often_mean", ">", 3000),
            Antecedent("imbalance", ">", 0.2),
        ),
    ),
    Rule(  # normal feeding and exhausting: a jump in a steady record near the set-point
        "short_transient",
        (
            Antecedent("rate_max", ">", 3000),
            Antecedent("unrest", "<", 0.05),
            Antecedent("deviation_mean", "<", 0.1),
        ),
        excuses=True,
    ),
)
CLAUSES = [(rule, antecedent) for rule in RULES for antecedent in rule.antecedents]
SETPOINT = 12_000.0
"""Amperes, until a fit measures it."""
PERSISTENT = [k for k, (_, a) in enumerate(CLAUSES) if a.feature.startswith("duration")]
"""Antecedents whose level is a number of seconds."""
LONGEST = max(CLAUSES[k][1].level for k in PERSISTENT)
NAMES = [f"{rule.name}.{antecedent.feature}" for rule, antecedent in CLAUSES]
SIGNS = [1.0 if antecedent.sign == ">" else -1.0 for _, antecedent in CLAUSES]
SIZES = [len(rule.antecedents) for rule in RULES]
EXCUSES = [rule.excuses for rule in RULES]
ACCUSES = [not rule.excuses for rule in RULES]


def of_rules(margins: Tensor) -> Tensor:
    """A rule's margin is its smallest antecedent's: (N, A) -> (N, R)."""
    return torch.stack([part.amin(1) for part in torch.split(margins, SIZES, 1)], dim=1)


def judge(rules: Tensor) -> Tensor:
    """(N, R) margins -> (N,): positive where a rule holds and none that excuses."""
    return torch.minimum(rules[:, ACCUSES].amax(1), -rules[:, EXCUSES].amax(1))


def trailing(mask: Tensor) -> Tensor:
    """Length of the run of true values at the end of dimension 1: (B, T, C) -> (B, C)."""
    return mask.flip(1).long().cumprod(1).sum(1)


class ExpertSystem(nn.Module):
    """Predict a class by five crisp rules over features of the last two minutes' current.

    Nothing is trained by gradient. A first pass over the training part measures the set-point, the
    median current of normal windows, unless it is given; a second one measures the standard
    deviation of the features. Each threshold in turn moves to the quantile that raises the balanced
    accuracy most, until none does. Antecedents that then hold always, and rules that never do, are
    reported. Logits are ±score/2 · sharpness; the score, the largest margin of a rule or the excuse
    against it, is positive if and only if the crisp rules result in abnormal.

    A record of L samples, R a second, shows a disturbance for at most (L + 1)/R - window seconds.
    If that is less than 90 s, 1.5 times the longest duration in a rule, the durations are scaled
    down in proportion, and the fit reports it.

    Args:
        problem: inputs and outputs; two classes, at least `window` seconds.
        setpoint: set-point in amperes; default: measured by the fit (12 kA until then).
        window: seconds covered by the features of the present.
        lag: seconds over which a rate of change is measured.
        voltage: U, phase voltage in volts.
        reactance: X, phase reactance in milliohms.
        lead: R₀, resistance of the leads in milliohms.
        onset_error: relative tracking error above which a phase counts as disturbed.
        onset_rate: rate of change, A/s, above which a phase counts as disturbed.
        sharpness: scale of the logits; it changes no decision.
        calibrate: whether thresholds are searched; if not, they keep their nominal levels.
        thresholds: fixed thresholds by name ("semi_molten.error_mean"), left out of the search.

    Raises:
        ValueError: a number is out of range, a threshold is unknown or cannot be exceeded, the
            record is too short, or there are more than two classes.
    """

    modalities = frozenset({Modality.CURRENT})
    dense: frozenset[Modality] = frozenset()
    setpoint: Tensor
    thresholds: Tensor
    scales: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        setpoint: float | None = None,
        window: float = 10,
        lag: float = 1,
        voltage: float = 89,
        reactance: float = 3.5,
        lead: float = 0,
        onset_error: float = 0.1,
        onset_rate: float = 6000,
        sharpness: float = 2,
        calibrate: bool = True,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if problem.num_classes != 2:
            raise ValueError(
                f"{problem.num_classes} classes; expert_system tells abnormal from normal only"
            )
        self.given = setpoint is not None
        amperes = SETPOINT if setpoint is None else setpoint
        for name, value in (
            ("setpoint", amperes),
            ("voltage", voltage),
            ("sharpness", sharpness),
        ):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        self.read = current_reader(problem, "expert_system")
        samples = problem.current_samples
        self.rate = rate = problem.current_rate
        self.window, self.lag = round(window * rate), round(lag * rate)
        if not 1 <= self.lag < self.window <= samples:
            raise ValueError(
                f"lag {lag} s, window {window} s, record {samples / rate} s: the lag must"
                f" be at least {1 / rate} s, the window longer than the lag, the record at"
                f" least as long as the window"
            )
        self.voltage, self.reactance, self.lead = voltage, reactance, lead
        self.onset_error, self.onset_rate = onset_error, onset_rate
        self.sharpness = sharpness
        fixed = dict(thresholds or {})
        if unknown := sorted(set(fixed) - set(NAMES)):
            raise ValueError(f"no threshold is called {unknown[0]!r}\nKnown: {', '.join(NAMES)}")
        self.free = [k for k, name in enumerate(NAMES) if calibrate and name not in fixed]
        nominal = [float(antecedent.level) for _, antecedent in CLAUSES]
        self.reach = (samples - self.window + 1) / rate
        self.shrink = min(1.0, self.reach / (1.5 * LONGEST))
        for k in PERSISTENT:
            nominal[k] *= self.shrink
            if SIGNS[k] > 0 and fixed.get(NAMES[k], 0) >= self.reach:
                raise ValueError(
                    f"{NAMES[k]} is {fixed[NAMES[k]]} s, but a record of {samples / rate} s"
                    f" shows a disturbance for at most {self.reach} s; give it less"
                )
        levels = [fixed.get(name, level) for name, level in zip(NAMES, nominal, strict=True)]
        self.register_buffer("setpoint", torch.tensor(float(amperes)))
        self.register_buffer("thresholds", torch.tensor(levels))
        self.register_buffer("scales", torch.tensor(nominal).abs())

    def features(self, current: Tensor) -> dict[str, Tensor]:
        """Features that the rules use: (B, L, C) amperes -> (B,) each, at the last instant.

        error: (set-point - mean of the window) / set-point; deviation: its absolute value.
        rate: the window's largest change over the lag, A/s; often: the 90 % quantile of the
            record's changes.
        fluctuation: standard deviation of the window / set-point; swing: that of the record.
        duration: seconds since error and rate were last both below their onsets.
        resistance_change: of the arc, mΩ, from the window's mean, minus that at the set-point.
        imbalance: (largest - smallest phase) / mean, in the window.
        unrest: share of the record in which any phase is above an onset.

        The first eight exist for each phase and are returned as mean and max over the phases.
        """
        setpoint = self.setpoint
        recent = current[:, -self.window :]
        level = recent.mean(1)
        means = current.unfold(1, self.window, 1).mean(-1)  # (B, L - window + 1, C), each trailing
        rates = (current[:, self.lag :] - current[:, : -self.lag]).abs() * (self.rate / self.lag)
        errors = (setpoint - means) / setpoint
        rates_now = rates[:, -errors.shape[1] :]
        disturbed = (errors.abs() > self.onset_error) | (rates_now > self.onset_rate)
        error = errors[:, -1]
        phases = {
            "error": error,
            "deviation": error.abs(),
            "rate": rates[:, -(self.window - self.lag) :].amax(1),
            "often": rates.quantile(0.9, dim=1),
            "fluctuation": recent.std(1, correction=0) / setpoint,
            "swing": current.std(1, correction=0) / setpoint,
            "duration": trailing(disturbed) / self.rate,
            "resistance_change": self.resistance(level) - self.resistance(setpoint),
        }
        return {
            **{f"{name}_mean": value.mean(1) for name, value in phases.items()},
            **{f"{name}_max": value.amax(1) for name, value in phases.items()},
            "imbalance": (level.amax(1) - level.amin(1)) / level.mean(1).clamp(min=1),
            "unrest": disturbed.any(2).float().mean(1),
        }

    def resistance(self, current: Tensor) -> Tensor:
        """√((U/I)² - X²) - R₀ in milliohms; above the short-circuit current the root is 0."""
        impedance = 1000 * self.voltage / current.clamp(min=1)
        return (impedance**2 - self.reactance**2).clamp(min=0).sqrt() - self.lead

    def clauses(self, batch: Batch) -> Tensor:
        """The feature of each antecedent: (B, A)."""
        features = self.features(self.read(batch))
        return torch.stack([features[antecedent.feature] for _, antecedent in CLAUSES], dim=1)

    def margins(self, values: Tensor) -> Tensor:
        """Signed distance to each threshold, in standard deviations of the feature: (N, A)."""
        return (values - self.thresholds) * values.new_tensor(SIGNS) / self.scales

    def forward(self, batch: Batch) -> Prediction:
        """See `fmbench.types` for the shapes of a Batch and a Prediction."""
        score = judge(of_rules(self.margins(self.clauses(batch)))) * self.sharpness / 2
        return Prediction(torch.stack([-score, score], dim=1))

    def explain(self, batch: Batch) -> list[dict[str, str]]:
        """Rules that hold for each window and why: {"overheating": "error_mean -0.2 < -0.1, …"}.

        A window is abnormal if a rule holds and none that excuses.
        """
        values = self.clauses(batch)
        margins = of_rules(self.margins(values))
        excuses = torch.tensor(EXCUSES, device=margins.device)
        held = torch.where(excuses, margins >= 0, margins > 0)  # on the edge as in `judge`
        explained = []
        for row, rules in zip(values.tolist(), held.tolist(), strict=True):
            reasons: dict[str, list[str]] = {
                rule.name: [] for rule, holds in zip(RULES, rules, strict=True) if holds
            }
            clauses = zip(CLAUSES, row, self.thresholds.tolist(), strict=True)
            for (rule, clause), value, level in clauses:
                if rule.name in reasons:
                    text = f"{clause.feature} {value:.4g} {clause.sign} {level:.4g}"
                    reasons[rule.name].append(text)
            explained.append({name: ", ".join(texts) for name, texts in reasons.items()})
        return explained

    def stages(self) -> list[Solve]:
        """Two passes over the training part, without gradients; one if the set-point is given."""
        calibrate = Solve(name="calibrate", gather=self.gather, solve=self.solve)
        if self.given:
            return [calibrate]
        return [Solve(name="setpoint", gather=self.levels, solve=self.set_setpoint), calibrate]

    def levels(self, batch: Batch) -> dict[str, Tensor]:
        """Mean current of each normal window: (b,) amperes."""
        return {"level": self.read(batch)[batch.label == 0].mean((1, 2))}

    def set_setpoint(self, kept: Mapping[str, Tensor]) -> str:
        """Set the set-point to the normal windows' median; returns a line that states it.

        Raises:
            ValueError: the training part has no normal window.
        """
        if not len(kept["level"]):
            raise ValueError("expert_system needs normal windows to measure the set-point on")
        level = kept["level"].median()
        if level <= 0:
            raise ValueError(
                f"the median current of normal windows is {level.item():.4g} A; expert_system reads"
                " amperes, which are positive"
            )
        self.setpoint.copy_(level)
        return f"set-point: {self.setpoint.item():,.0f} A, the median of normal windows"

    def gather(self, batch: Batch) -> dict[str, Tensor]:
        """Features and labels of a batch."""
        return {"values": self.clauses(batch), "label": batch.label}

    def solve(self, kept: Mapping[str, Tensor]) -> str:
        """Measure the features' deviations, then search the thresholds that are not fixed.

        Returns lines that state what was scaled, what always holds and what never does.

        Raises:
            ValueError: the training part has only one class.
        """
        values, abnormal = kept["values"], kept["label"] == 1
        if bool(abnormal.all()) or not bool(abnormal.any()):
            raise ValueError("expert_system needs normal and abnormal windows to calibrate on")
        spread = values.std(0, correction=0)
        self.scales.copy_(torch.where(spread > 0, spread, 1.0))
        start = self.thresholds.cpu()
        self.thresholds.copy_(calibrated(values, abnormal, start, self.free))
        return "\n".join(self.notes(values))

    def notes(self, values: Tensor) -> list[str]:
        """What a user must know of the rules, given the training part's features (N, A)."""
        notes = []
        if self.shrink < 1:
            notes.append(
                f"durations in rules are scaled by {self.shrink:.2f}: a record shows a disturbance"
                f" for at most {self.reach} s, the rules are made for {1.5 * LONGEST:g} s"
            )
        held = self.margins(values.to(self.scales)) > 0  # (N, A)
        for k, (rule, clause) in enumerate(CLAUSES):
            if bool(held[:, k].all()):
                level = f"{clause.feature} {clause.sign} {self.thresholds[k].item():.4g}"
                notes.append(f"rule {rule.name}: {level} holds in every training window")
        for rule, part in zip(RULES, torch.split(held, SIZES, 1), strict=True):
            if not bool(part.all(1).any()):
                notes.append(f"rule {rule.name} holds in no training window")
        return notes


def candidates(values: Tensor, count: int = 64) -> Tensor:
    """Candidate thresholds: between neighbours at up to `count` quantiles, and beyond both ends."""
    ordered = values.sort().values
    ordered = ordered[torch.cat([ordered.new_ones(1), ordered.diff()]) > 0]  # distinct values
    between = (ordered[1:] + ordered[:-1]) / 2
    at = torch.linspace(0, len(between) - 1, min(count, len(between))).round().long()
    return torch.cat([ordered[:1] - 1, between[at], ordered[-1:] + 1])


def calibrated(values: Tensor, abnormal: Tensor, start: Tensor, free: list[int]) -> Tensor:
    """Thresholds, moved one at a time to the highest balanced accuracy: (A,).

    Args:
        values: (N, A), the antecedents' features.
        abnormal: (N,) bool, neither all true nor all false.
        start: (A,), initial thresholds.
        free: indices of the antecedents whose thresholds may move.
    """
    hits = 1 / abnormal.sum().double()
    false_alarms = 1 / (~abnormal).sum().double()
    worth = torch.where(abnormal, hits, -false_alarms)  # value of predicting abnormal
    grids = {k: candidates(values[:, k]) for k in free}
    levels, best, moved = start.clone(), worth[verdict(values, start)].sum(), True
    while moved:
        moved = False
        for k, grid in grids.items():
            always, never = levels.clone(), levels.clone()
            always[k], never[k] = -SIGNS[k] * torch.inf, SIGNS[k] * torch.inf
            with_it, without = verdict(values, always), verdict(values, never)
            turns = with_it != without  # the windows that antecedent k decides
            holds = (values[turns, k, None] - grid) * SIGNS[k] > 0  # (turned, G)
            gain = worth[turns] * torch.where(with_it[turns], 1, -1)
            reached = worth[without].sum() + gain @ holds.double()
            if reached.max() > best + 1e-9:
                levels[k], best, moved = grid[reached.argmax()], reached.max(), True
    return levels


def verdict(values: Tensor, levels: Tensor) -> Tensor:
    """Decision of the crisp rules, true for abnormal: (N, A), (A,) -> (N,) bool."""
    return judge(of_rules((values - levels) * values.new_tensor(SIGNS))) > 0
