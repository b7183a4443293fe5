"""The content of a file -> a pydantic model, or one line that says what is wrong and where."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from fmbench.errors import nearest

T = TypeVar("T")
Text = Annotated[str, BeforeValidator(lambda x: str(x) if isinstance(x, int | float) else x)]
"""Text; a number without quotes, such as the label `3`, is text too."""
Listed = Annotated[tuple[T, ...], BeforeValidator(lambda x: x or ()), Field(strict=False)]
"""A list; null is an empty list."""
MUST = {
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "string_type": "text",
    "string_too_short": "at least {min_length} long",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "too_short": "at least {min_length} long",
    "finite_number": "a finite number",
    "none_required": "left out",
    "greater_than_equal": "at least {ge}",
}
"""pydantic's type of an error -> what a value must be."""


class Content(BaseModel):
    """What a file, or a mapping in it, may hold: no value of another type, no other key."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_key(cls, content: Any) -> Any:
        if isinstance(content, cls):
            return content
        if not isinstance(content, Mapping):
            keys = ", ".join(_fields(cls))
            raise ValueError(f"{content!r:.200} is no mapping; its keys are {keys}")
        for key in content if cls.model_config.get("extra") == "forbid" else ():
            known(key, _fields(cls), "there is no key ")
        return content


M = TypeVar("M", bound=Content)


def known(value: Any, allowed: Collection[str], what: str = "there is no ") -> Any:
    """`value`, which is one of those allowed.

    Raises:
        ValueError: it is not; names the nearest.
    """
    if value not in [*allowed]:
        raise ValueError(
            f"{what}{value!r:.200}{nearest(str(value), allowed)}\nKnown: {', '.join(allowed)}"
        )
    return value


def one_of(allowed: Collection[str]) -> BeforeValidator:
    """Annotates a field that takes these values only."""
    return BeforeValidator(lambda value: known(value, allowed))


def validated(model: type[M], content: Any, where: str, *, context: Any = None) -> M:
    """`content` as a `model`.

    Args:
        model: what it may hold.
        content: plain values, as `read_yaml` or `read_json` returns them.
        where: the file, and the place in it that holds `content`.
        context: what the model's validators find in `info.context`.

    Raises:
        ValueError: it holds something else; the first such place, as `where: rows['a'].test.frames
            is 0; it must be at least 1`. An item of a list is named by its label, or else by its
            position from 1.
    """
    try:
        return model.model_validate(content, context=context)
    except ValidationError as error:
        errors = error.errors(include_url=False)[:9]
    first, about = errors[0], ""
    place = _place(first, content)
    here = f"{where}: {place}" if place else where
    if "error" in (facts := first.get("ctx", {})):  # a ValueError of a validator of ours
        raise ValueError(f"{here}: {facts['error']}")
    if described := _fields(model)[str(first["loc"][0])].description:
        about = f": {described}"
    if first["type"] == "missing":
        raise ValueError(f"{here} is missing{about}")
    # A value that is no member of a union has an error for each member.
    same = [each for each in errors if each["type"] in MUST and _place(each, content) == place]
    musts = dict.fromkeys(MUST[each["type"]].format(**each.get("ctx", {})) for each in same)
    advice = f"it must be {' or '.join(musts)}" if musts else first["msg"]
    raise ValueError(f"{here} is {first['input']!r:.200}; {advice}{about}")


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the key that a file gives them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _place(error: Mapping[str, Any], content: Any) -> str:
    """`rows['a'].test.frames`, without the steps that are pydantic's own."""
    place = ""
    for step in error["loc"]:
        if isinstance(content, Mapping) and step in content:
            content = content[step]
            place += f".{step}"
        elif isinstance(content, list) and isinstance(step, int):
            content = content[step] if step < len(content) else None
            label = content.get("label") if isinstance(content, Mapping) else None
            place += f"[{label or step + 1!r}]"
        elif error["type"] == "missing":
            place += f".{step}"
    return place.removeprefix(".")
