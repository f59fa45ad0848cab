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


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("optim.lr", {"low": -1, "high": 1}, "space.optim.lr: optim.lr=-1.0: must be at least 0"),
        ("optim.lr", {"choices": [0.1, "fast"]}, "space.optim.lr: optim.lr=fast: must be a number"),
        ("model.n_embd", {"choices": [16, 2.5]}, "space.model.n_embd: model.n_embd=2.5: must be a whole number"),
        ("optim.name", {"choices": ["muom"]}, "space.optim.name: optim.name=muom: must be one of"),
        ("model", {"choices": ["tiny", "smal"]}, "space.model: there is no model=smal; choose from"),
    ],
)
def test_a_space_holds_values_that_the_setting_can_take(key: str, values: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_space({key: values})
    assert str(caught.value).startswith(message)


def test_an_empty_space_is_refused() -> None:
    with pytest.raises(UserError, match="holds no setting to search"):
        check_space({})
