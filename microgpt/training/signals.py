"""Ends training at a step when the process gets a signal, so that its checkpoint is saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from microgpt.training.trainer import Trainer


@contextmanager
def stop_at_signals(trainer: Trainer) -> Iterator[None]:
    """A context in which Ctrl-C or SIGTERM stops training after the current step, and a second one ends the process.

    With several ranks, a second signal does not end the process: torchrun repeats the signal that the terminal has
    already sent to all processes.
    """

    def stop(number: int, frame: object) -> None:
        trainer.stop()
        if trainer.ranks.world_size == 1:
            signal.signal(number, signal.SIG_DFL)  # for the second signal

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
