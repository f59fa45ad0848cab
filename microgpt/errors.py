"""Errors that the user caused, by a mistake or by Ctrl-C, and not a bug: one line and an exit status."""

import errno
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class UserError(Exception):
    """One line that names the key, the value, what would be right and what to type next.

    The commands print it without a stack trace and exit with `exit_status`.
    """

    exit_status = 2

    def __init__(self, message: str) -> None:
        super().__init__(in_one_line(message))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a stack trace: the same line as the commands."""
        return [f"{type(self).__name__}: {self}"]


class InterruptedRunError(UserError):
    """The user or the system stopped training before its last step; the run can be resumed."""

    exit_status = 130


def user_error_behind(error: BaseException) -> UserError | None:
    """The `UserError` among `error` and its causes, or None. A library may have wrapped it several times."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    return cause


def os_error_line(error: OSError, advice: str = "") -> str:
    """One line for the user: the file, the reason that the operating system gives, and a hint.

    `advice` is added to it: what else the user can type.
    """
    where = f"{error.filename}: " if error.filename else ""
    reason = "is a file, and no directory" if error.errno in (errno.EEXIST, errno.ENOTDIR) else error.strerror
    hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check it"
    return f"{where}{reason or error}; {hint}{advice}"


def describe_error(error: Exception) -> str:
    """One line for any error: a user's mistake, an error of the operating system, or a bug."""
    if isinstance(error, BrokenPipeError):
        return "stopped, since nothing reads its output any more (as after | head); resume= goes on"
    if isinstance(error, OSError):
        return os_error_line(error)
    return str(error) if isinstance(error, UserError) else " ".join(f"{type(error).__name__}: {error}".split())


@contextmanager
def packages_needed() -> Iterator[None]:
    """A context for imports: if a package is not installed, the program ends with one line."""
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).startswith("microgpt"):
            raise
        hint = "type . .venv/bin/activate first, or make setup if there is no .venv yet"
        exit_with(UserError(f"{error.name}: is not installed for {sys.executable}; {hint}"))


def exit_with(error: UserError) -> NoReturn:
    """Print the error and exit. No `except Exception` on the way can catch it."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_status)


def in_one_line(text: str) -> str:
    """The text with escape sequences for newlines and all that controls a terminal, which a file name may hold."""
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)
