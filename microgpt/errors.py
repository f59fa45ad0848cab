"""Errors that stand for a mistake or a wish of the user's rather than for a bug: one line, and an exit status."""

import errno
import sys
from typing import NoReturn


class UserError(Exception):
    """One line that names the key, the value, what would be right and what to type next.

    The commands print it without a stack trace and exit with `exit_status`.
    """

    exit_status = 2


class InterruptedRunError(UserError):
    """Training stopped before its end because it was asked to; the run can be resumed."""

    exit_status = 130


def user_error_behind(error: BaseException) -> UserError | None:
    """The `UserError` that `error` is or was raised from, however deep (a library may have wrapped it)."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    return cause


def os_error_line(error: OSError) -> str:
    """What the operating system refused, and of which file, in one line."""
    where = f"{error.filename}: " if error.filename else ""
    hint = "free some space" if error.errno == errno.ENOSPC else "check it"
    return f"{where}{error.strerror or error}; {hint}, or choose another directory with hydra.run.dir="


def exit_with(error: UserError) -> NoReturn:
    """Print the error and end the program, which unlike an exception nothing catches by mistake."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_status)
