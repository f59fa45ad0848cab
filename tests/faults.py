"""A layer between a process and its files: it counts what the process does with them, and lets one operation fail.

`install` is for a process that does nothing else: it cannot be undone.
"""

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The audit events at which the system opens or changes a file: https://docs.python.org/3/library/audit_events.html
EVENTS = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.listdir", "os.scandir")

# What can go wrong with an operation.
ERRORS = {
    "open": (errno.EACCES, errno.EIO, errno.ENOSPC),
    "read": (errno.EIO,),
    "write": (errno.ENOSPC, errno.EIO, "short"),
    "fsync": (errno.EIO, errno.ENOSPC),
    "os.rename": (errno.EACCES, errno.EIO, errno.ENOSPC),
    "os.remove": (errno.EACCES, errno.EIO),
    "os.rmdir": (errno.EACCES,),
    "os.mkdir": (errno.EACCES, errno.ENOSPC),
    "os.truncate": (errno.EIO, errno.ENOSPC),
    "os.listdir": (errno.EACCES, errno.EIO),
    "os.scandir": (errno.EACCES, errno.EIO),
}

# Called before each operation with its name and the path; returns the number of an error, `short`, or None.
Fault = Callable[[str, str], int | str | None]


def failure(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class FaultyFile(io.FileIO):
    """A file whose reads and writes are announced to `fault`, and fail as it says."""

    fault: Fault

    def write(self, data: Any) -> int:
        kind = self.fault("write", str(self.name))
        if kind == "short":  # as the system may do at any time: the caller has to write the rest
            return super().write(memoryview(data)[: max(1, len(data) // 2)])
        if kind is not None:
            super().write(memoryview(data)[: len(data) // 2])  # as on a full disk: a part is written
            raise OSError(kind, os.strerror(int(kind)))
        return super().write(data)

    def check_read(self) -> None:
        if (kind := self.fault("read", str(self.name))) is not None:
            raise OSError(kind, os.strerror(int(kind)))

    def readinto(self, buffer: Any) -> int:
        self.check_read()
        return super().readinto(buffer)  # type: ignore[no-any-return]

    def readall(self) -> bytes:
        self.check_read()
        return super().readall()

    def read(self, size: int | None = -1) -> bytes:
        self.check_read()
        return super().read(-1 if size is None else size)


def install(folder: Path, fault: Fault) -> None:
    """From now on, call `fault` before each operation of this process on a file in or below `folder`."""
    real_open, real_fsync, busy = io.open, os.fsync, False

    def is_below(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(f"{folder}")  # noqa: PTH100

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        if event in EVENTS and not busy and arguments and is_below(arguments[0]):
            busy = True  # what `fault` does itself is not counted
            try:
                kind = fault(event, str(arguments[0]))
            finally:
                busy = False
            if kind is not None:
                raise failure(int(kind), str(arguments[0]))

    def fsync(file: Any) -> None:
        path = str(Path(f"/proc/self/fd/{file if isinstance(file, int) else file.fileno()}").readlink())
        if is_below(path) and (kind := fault("fsync", path)) is not None:
            raise OSError(kind, os.strerror(int(kind)))
        real_fsync(file)

    def open_file(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not is_below(file):
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = FaultyFile(os.fspath(file), mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.fault = fault
        if buffering == 0:
            return raw
        if "+" in mode:
            buffered: Any = io.BufferedRandom(raw)
        else:
            buffered = io.BufferedReader(raw) if raw.readable() else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, io.text_encoding(encoding), errors, newline, line_buffering=buffering == 1)

    sys.addaudithook(hook)
    io.open = builtins.open = open_file  # type: ignore[assignment]
    os.fsync = fsync  # type: ignore[assignment]


class Count:
    """Notes the name of each operation in a file, which survives the process."""

    def __init__(self, file: int) -> None:
        self.file = file

    def __call__(self, operation: str, path: str) -> None:
        os.write(self.file, f"{operation} {path}\n".encode())


class FailAt:
    """Lets the `at`-th operation fail with `kind`, and no other."""

    def __init__(self, at: int, kind: int | str) -> None:
        self.left, self.kind = at, kind

    def __call__(self, operation: str, path: str) -> int | str | None:
        self.left -= 1
        return self.kind if self.left == -1 else None


class KillAt:
    """Kills this process with SIGKILL before its `at`-th operation; for a write, when half of it is written."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, operation: str, path: str) -> int | str | None:
        self.left -= 1
        if self.left < -1 or (self.left == -1 and operation != "write"):
            os.kill(os.getpid(), signal.SIGKILL)
        return "short" if self.left == -1 else None  # the rest of this write is the next operation
