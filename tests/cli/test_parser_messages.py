"""The wording of the installed jsonargparse, which `read_refusal` reads."""

from __future__ import annotations

import pytest
from jsonargparse import ArgumentError, ArgumentParser

from fmbench.config.parser_messages import Refusal, read_refusal


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x --net.depth four", Refusal("value", "net.depth")),
        ("x --schedule cosin", Refusal("value", "schedule")),
        ("x --modle y", Refusal("unrecognized", "--modle")),
        ("x --modle=y", Refusal("unrecognized", "--modle=y")),
        ("x stray", Refusal("unrecognized", "stray")),
        ("", Refusal("missing", "source")),
        ("x --net.depth", Refusal("other", "--net.depth: expected one argument")),
        ("x --force=3", Refusal("other", "--force: ignored explicit argument '3'")),
    ],
)
def test_the_installed_jsonargparse_words_its_messages_as_they_are_read(
    line: str, expected: Refusal
) -> None:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("source")
    parser.add_argument("--net.depth", type=int, default=1)
    parser.add_argument("--schedule", type=bool, default=False)
    parser.add_argument("--force", action="store_true")
    with pytest.raises(ArgumentError) as caught:
        parser.parse_args(line.split())
    assert read_refusal(str(caught.value)) == expected


def test_a_value_of_a_file_is_refused_by_its_dotted_name() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--net.depth", type=int, default=1)
    with pytest.raises(ArgumentError) as caught:
        parser.parse_object({"net": {"depth": "four"}}, defaults=False)
    assert read_refusal(str(caught.value)) == Refusal("value", "net.depth")
