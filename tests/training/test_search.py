"""The search: when a trial is pruned, and which values a space may hold."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from microgpt.errors import UserError
from microgpt.runs.callback import Progress
from microgpt.runs.directory import Status
from microgpt.training.search import Pruner, check_database


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


def test_an_empty_or_new_database_is_none_of_another_program(tmp_path: Path) -> None:
    check_database(tmp_path / "study.db")
    (tmp_path / "study.db").write_bytes(b"")
    check_database(tmp_path / "study.db")
    with closing(sqlite3.connect(tmp_path / "study.db")) as database:
        database.execute("create table songs (name)")
    with pytest.raises(UserError, match=r"not the database of a search, or damaged \(no such table: studies\)"):
        check_database(tmp_path / "study.db")
