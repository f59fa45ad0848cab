"""The space of a search: which values it may hold."""

import math
from typing import Any

import pytest

from microgpt.errors import UserError
from microgpt.training.space import check_space


@pytest.mark.parametrize("values", [3, [1, 2], {"low": 1}, {"choices": [1], "low": 1}, {}])
def test_a_space_has_choices_or_a_range(values: Any) -> None:
    with pytest.raises(UserError, match=r"^space\.optim\.lr=.*: must have choices, or low and high"):
        check_space({"optim.lr": values})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"low": 3, "high": 1}, "low not above high"),
        ({"low": "a", "high": "b"}, "must be numbers"),
        ({"low": True, "high": 2}, "must be numbers"),
        ({"low": 0, "high": math.inf}, "must be numbers"),
        ({"low": 0, "high": 1, "log": True}, "only if low is above 0"),
        ({"low": 1, "high": 2, "log": "yes"}, "log must be true or false"),
        ({"choices": []}, "a list of values"),
        ({"choices": {"a": 1}}, "a list of values"),
        ({"choices": [[1]]}, "a list of values"),
    ],
)
def test_a_space_that_no_value_can_be_drawn_from_is_refused(values: Any, reason: str) -> None:
    with pytest.raises(UserError, match=rf"^space\.optim\.lr=.*{reason}"):
        check_space({"optim.lr": values})


def test_a_space_names_settings_and_groups() -> None:
    check_space({"optim.lr": {"low": 1, "high": 1}, "model": {"choices": ["tiny", "small"]}})
    with pytest.raises(UserError, match=r"optim\.lrr: there is no such key; did you mean optim\.lr\?"):
        check_space({"optim.lrr": {"low": 1, "high": 2}})
