"""The search: when a trial is pruned, and which values a space may hold."""

from typing import Any

import pytest

from microgpt.errors import UserError
from microgpt.runs.callback import Progress
from microgpt.runs.directory import Status
from microgpt.training.search import Pruner, suggest


class FakeTrial:
    """A trial that should be pruned once a reported loss is above 2."""

    def __init__(self) -> None:
        self.reported: list[tuple[float, int]] = []

    def report(self, value: float, step: int) -> None:
        self.reported.append((value, step))

    def should_prune(self) -> bool:
        return self.reported[-1][0] > 2


def test_a_run_has_the_status_pruned_when_its_trial_should_be_pruned() -> None:
    """Every validation is reported except the last, after which there is nothing to prune."""
    trial: Any = FakeTrial()
    pruner = Pruner(trial, steps=30)
    statuses = [
        pruner.after_validation(Progress(step=step, val_loss=loss), is_best=True)
        for step, loss in [(10, 1.5), (20, 2.5), (30, 3.5)]
    ]
    assert statuses == [None, Status.PRUNED, None]
    assert trial.reported == [(1.5, 10), (2.5, 20)]


@pytest.mark.parametrize("values", [3, [1, 2], {"low": 1}, {"choices": [1], "low": 1}, {}])
def test_a_space_has_choices_or_a_range(values: Any) -> None:
    with pytest.raises(UserError, match=r"^space\.optim\.lr=.*: must have choices, or low and high"):
        suggest(FakeTrial(), {"optim.lr": values})  # type: ignore[arg-type]
