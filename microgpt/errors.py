"""The exceptions that stand for a mistake or a wish of the user's rather than for a bug."""


class UserError(Exception):
    """One line that names the key, the value, what would be right and what to type next.

    The entry points print it without a stack trace and exit with a status that is not 0.
    """


class InterruptedRunError(UserError):
    """Training stopped before its end because it was asked to; the run can be resumed."""


def user_error_behind(error: BaseException) -> UserError | None:
    """The `UserError` that `error` is or was raised from, however deep (a library may have wrapped it)."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__ or cause.__context__
    return cause
