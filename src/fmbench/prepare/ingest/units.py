"""Units in a log's header, and amperes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Unit = Literal["A", "kA", "mA"]
AMPERES: dict[str, float] = {"A": 1.0, "kA": 1e3, "mA": 1e-3}
_OTHERS = {
    *("V", "kV", "mV", "W", "kW", "MW", "VA", "kVA", "MVA", "var", "kvar", "Mvar", "kVAr", "MVAr"),
    *("Wh", "kWh", "MWh", "Hz", "°C", "℃", "K", "%", "bar", "mbar", "Ω", "mΩ", "Ohm", "mOhm"),
    *("mm", "cm", "m", "t", "kg", "t/h", "kg/h", "m3/h", "m³/h", "rpm", "s", "ms", "min", "h"),
    *("deg", "°", "cos", "-", "1"),
}
_SPELT = {"ka": "kA", "kiloampere": "kA", **dict.fromkeys(("amp", "amps", "ampere"), "A")}
"""Other spellings, in small letters. MA is none: it may be mA."""
_IN_BRACKETS = re.compile(r"(.*?)[\s_]*[\[(（{<]\s*([^\])）}>]*?)\s*[\])）}>]")
_BEHIND = re.compile(r"(.+?)(?:\s*/\s*(k?A|KA|mA)|[ _](kA|KA|mA))")


def split_unit(name: str) -> tuple[str, str]:
    """A column's name and its unit, which is "" where it has none.

    >>> split_unit("Ia [kA]"), split_unit("I_a_kA"), split_unit("Phase A")
    (('Ia', 'kA'), ('I_a', 'kA'), ('Phase A', ''))
    """
    brackets = _IN_BRACKETS.fullmatch(name)
    if brackets and brackets[1] and known_unit(unit := _canonical(brackets[2])):
        return brackets[1], unit
    behind = _BEHIND.fullmatch(name)
    if behind:
        return behind[1], _canonical(behind[2] or behind[3])
    return name, ""


def in_brackets(name: str) -> tuple[str, str]:
    """What stands before a column's brackets, and in them, whether it is a known unit or not.

    >>> in_brackets("force [kN]"), in_brackets("speed")
    (('force', 'kN'), ('speed', ''))
    """
    found = _IN_BRACKETS.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")


def known_unit(text: str) -> bool:
    """Whether a text is the unit of a current or of another quantity."""
    return text in AMPERES or text in _OTHERS


def _canonical(unit: str) -> str:
    return unit if known_unit(unit) else _SPELT.get(unit.lower(), unit)


def units_of(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names without units, and units. `I (A), I (B), I (C)` are three phases, not amperes."""
    brackets = [_IN_BRACKETS.fullmatch(name) for name in names]
    inside = {found[2] for found in brackets if found}
    if {"A", "B", "C"} <= inside:
        return list(names), [""] * len(names)
    pairs = [split_unit(name) for name in names]
    bare = [base for base, _ in pairs]
    if len(set(bare)) < len(bare):  # the unit distinguishes them
        bare = list(names)
    return bare, [unit for _, unit in pairs]
