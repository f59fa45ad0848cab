"""A line for whatever takes more than a second, and for nothing else."""

import logging
import time

import pytest

from microgpt.data import progress as module
from microgpt.data.progress import progress


def test_what_takes_long_is_announced_and_timed(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    with caplog.at_level(logging.INFO):
        with progress("counting"):
            time.sleep(0.2)
            assert caplog.messages == ["counting …"]  # while it lasts
        assert caplog.messages == ["counting …", "counting: 0 s"]


def test_what_is_quick_or_fails_says_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        with progress("counting"):
            pass
        with pytest.raises(ValueError), progress("counting"):
            raise ValueError
    assert caplog.messages == []
