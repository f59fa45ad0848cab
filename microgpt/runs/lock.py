"""The lock of a run directory: one process at a time trains the run.

The operating system frees the lock when its process ends, however it ends. The file stays: if it were removed, two
processes could each lock a file of that name.
"""

import errno
import importlib
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from microgpt.config.program import relative
from microgpt.errors import UserError
from microgpt.runs.directory import naming

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"  # holds the process that locked it last
IN_USE = (errno.EWOULDBLOCK, errno.EACCES)  # what POSIX allows for a file that another process has locked

log = logging.getLogger(__name__)


class RunInUseError(UserError):
    """Another process trains the run: nothing may be written to its directory."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which no other process can enter it for `folder`. Raises `RunInUseError` if one has.

    On a file system without locks it says so, and goes on.
    """
    with naming(folder / LOCK):
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            lock(file)
        except OSError as error:
            if error.errno in IN_USE:
                owner = os.read(file, 200).decode("utf-8", "replace") or "another process"
                name = relative(folder)
                raise RunInUseError(f"{name}: is being trained by {owner}; wait until it ends, or end it") from None
            log.warning("%s: %s; do not train this run in two processes at once", folder / LOCK, error.strerror)
        with suppress(OSError):  # on a full disk the owner is not named
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        os.close(file)  # frees the lock


def lock(file: int) -> None:
    """Lock an open file without waiting. Raises `OSError`; its number is among IN_USE if another process has it."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        msvcrt: Any = importlib.import_module("msvcrt")
        os.lseek(file, 2**30, os.SEEK_SET)  # a byte behind the text, which others may read
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
