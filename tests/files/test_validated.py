"""Content of files against models: what is refused, and in which words."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, Field

from fmbench.files.validated import Content, Listed, Text, one_of, validated


def even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd; take {value + 1}")
    return value


class Row(Content):
    label: Text
    share: float = 0.5
    id: int | str = 0
    wheels: Annotated[int, Field(ge=1), AfterValidator(even)] = 2


class Table(Content):
    title: Annotated[Text, Field(min_length=1)]
    kind: Annotated[str, one_of(("grid", "random"))] = "grid"
    rows: Listed[Row] = ()
    sizes: dict[int, tuple[float, float]] = Field({}, description="radius to height and width")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (3, "f.yaml: 3 is no mapping; its keys are title, kind, rows, sizes"),
        ({}, "f.yaml: title is missing"),
        ({"title": ""}, "f.yaml: title is ''; it must be at least 1 long"),
        ({"title": None}, "f.yaml: title is None; it must be text"),
        (
            {"title": "t", "row": []},
            "f.yaml: there is no key 'row'; did you mean 'rows'?\nKnown: title, kind, rows, sizes",
        ),
        ({"title": "t", 3: 3}, "f.yaml: there is no key 3\nKnown: title, kind, rows, sizes"),
        (
            {"title": "t", "kind": "gird"},
            "f.yaml: kind: there is no 'gird'; did you mean 'grid'?\nKnown: grid, random",
        ),
        ({"title": "t", "rows": "ab"}, "f.yaml: rows is 'ab'; it must be a list"),
        ({"title": "t", "rows": [{}]}, "f.yaml: rows[1].label is missing"),
        ({"title": "t", "rows": [5]}, "f.yaml: rows[1]: 5 is no mapping; its keys are label,"),
        (
            {"title": "t", "rows": [{"label": "a"}, {"label": "b", "share": "0.5"}]},
            "f.yaml: rows['b'].share is '0.5'; it must be a number",
        ),
        (
            {"title": "t", "rows": [{"label": "a", "share": True}]},
            "f.yaml: rows['a'].share is True; it must be a number",
        ),
        (
            {"title": "t", "rows": [{"label": "a", "id": 1.5}]},
            "f.yaml: rows['a'].id is 1.5; it must be a whole number or text",
        ),
        (
            {"title": "t", "rows": [{"label": "a", "wheels": 4.0}]},
            "f.yaml: rows['a'].wheels is 4.0; it must be a whole number",
        ),
        (
            {"title": "t", "rows": [{"label": "a", "wheels": 0}]},
            "f.yaml: rows['a'].wheels is 0; it must be at least 1",
        ),
        (
            {"title": "t", "rows": [{"label": "a", "wheels": 3}]},
            "f.yaml: rows['a'].wheels: 3 is odd; take 4",
        ),
        (
            {"title": "t", "sizes": {"1": (1.0, 1.0)}},
            "f.yaml: sizes.1 is '1'; it must be a whole number: radius to height and width",
        ),
    ],
)
def test_the_message_names_file_place_value_and_what_is_allowed(content: Any, message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        validated(Table, content, "f.yaml")
    assert type(refusal.value) is ValueError
    assert str(refusal.value).startswith(message)


def test_values_keep_their_type_numbers_may_be_labels_and_null_is_an_empty_list() -> None:
    content = {"title": 3, "rows": [{"label": 1.5, "share": 1, "id": "1"}], "sizes": {1: (2, 3)}}
    table = validated(Table, content, "f.yaml")
    assert (table.title, table.rows[0].label, table.rows[0].id) == ("3", "1.5", "1")
    assert table.sizes == {1: (2.0, 3.0)}
    assert validated(Table, {"title": "t", "rows": None}, "f.yaml").rows == ()


def test_a_long_value_is_cut() -> None:
    with pytest.raises(ValueError) as refusal:
        validated(Table, {"title": ["x" * 10_000]}, "f.yaml")
    assert len(str(refusal.value)) < 300


def test_the_command_line_starts_without_pydantic() -> None:
    code = "import sys; from fmbench.cli import main; print(main(['--help']), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    status, *modules = done.stdout.splitlines()[-1].split()
    assert status == "0"
    assert "fmbench.cli" in modules
    assert "pydantic" not in modules
