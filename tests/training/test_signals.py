"""A signal stops training at a step; a second one ends the process."""

import os
import signal

import pytest
from helpers import fit, make_trainer

from microgpt.runs.directory import Status
from microgpt.training.signals import stop_at_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_training_after_the_step_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    trainer = make_trainer(log_every=1)

    def send(step: int) -> None:
        if step == 7:
            os.kill(os.getpid(), number)

    with stop_at_signals(trainer):
        status, log = fit(trainer, send)
        second = before if number == signal.SIGINT else signal.SIG_DFL
        assert signal.getsignal(number) is second  # a second signal does what it did before, or ends the process
    assert status is Status.INTERRUPTED and log[-1][0] == 7
    assert signal.getsignal(number) is before
