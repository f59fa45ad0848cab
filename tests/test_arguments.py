"""`key=value` words."""

import re

import pytest

from microgpt.arguments import read_words, whole_number
from microgpt.errors import UserError

DEFAULTS, NEEDED = {"run": "", "top": "5"}, {"run": "say which run; add run=latest"}


def test_values_are_taken_as_they_were_typed() -> None:
    assert read_words(["run=a = 'b', # {c}"], DEFAULTS, NEEDED) == {"run": "a = 'b', # {c}", "top": "5"}
    assert read_words([], DEFAULTS, {}) == DEFAULTS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=x", "ran=y"], "ran=y: there is no such setting; use run=, top="),
        (["run=x", "latest"], "latest: there is no such setting; use run=, top="),
        (["top=3"], "run: say which run; add run=latest"),
        (["run="], "run: say which run; add run=latest"),
    ],
)
def test_a_mistake_gets_a_line(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_words(words, DEFAULTS, NEEDED)


@pytest.mark.parametrize("value", ["few", "", "-3", "2", "3.5", "²"])
def test_a_number_that_is_none_or_too_small_gets_a_line(value: str) -> None:
    message = f"top={value}: must be a whole number, at least 3; the default is top=5"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        whole_number("top", value, 3, "5")
    assert whole_number("top", "3", 3, "5") == 3
