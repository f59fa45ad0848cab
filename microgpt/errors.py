"""Errors that the user caused, by a mistake or by Ctrl-C, and not a bug: one line and an exit status."""

import errno
import sys
from typing import NoReturn


class UserError(Exception):
    """One line that names the key, the value, what would be right and what to type next.

    The commands print it without a stack trace and exit with `exit_status`.
    """

    exit_status = 2

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


def os_error_line(error: OSError) -> str:
    """One line for the user: the file, the reason that the operating system gives, and a hint."""
    where = f"{error.filename}: " if error.filename else ""
    hint = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check it"
    return f"{where}{error.strerror or error}; {hint}, or choose another directory with hydra.run.dir="


def describe_error(error: Exception) -> str:
    """One line for any error: a user's mistake, an error of the operating system, or a bug."""
    if isinstance(error, OSError):
        return os_error_line(error)
    return str(error) if isinstance(error, UserError) else " ".join(f"{type(error).__name__}: {error}".split())


def exit_with(error: UserError) -> NoReturn:
    """Print the error and exit. No `except Exception` on the way can catch it."""
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_status)
