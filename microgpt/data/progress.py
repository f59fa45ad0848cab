"""Says what a program is doing, whenever that takes more than a second."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer

PATIENCE = 1.0  # seconds until the first line

log = logging.getLogger(__name__)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """A context that logs `what` when it has lasted a second, and at its end how long it took. Else it logs nothing."""
    started = time.perf_counter()
    timer = Timer(PATIENCE, lambda: log.info("%s …", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
    timer.join()
    if (seconds := time.perf_counter() - started) > PATIENCE:
        log.info("%s: %.0f s", what, seconds)
