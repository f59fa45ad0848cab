"""Ends training at a step when the process gets a signal, so that its checkpoint is saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from microgpt.training.trainer import Trainer


@contextmanager
def stop_at_signals(trainer: Trainer) -> Iterator[None]:
    """A context in which Ctrl-C or SIGTERM stops training after the current step.

    A second Ctrl-C does what it did before, such as to raise `KeyboardInterrupt`, and a second SIGTERM ends the
    process. With several ranks, a second signal has no effect: torchrun repeats the signal that the terminal has
    already sent to all processes. In a thread other than the main one, which cannot handle signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        trainer.stop()
        if trainer.ranks.world_size == 1:  # for the second signal
            signal.signal(number, previous[number] if number == signal.SIGINT else signal.SIG_DFL)

    previous: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
