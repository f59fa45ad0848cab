"""The one exception that stands for a mistake of the user's rather than a bug."""


class UserError(Exception):
    """One line that names the key, the value, what would be right and what to type next.

    The entry points print it without a stack trace and exit with a status that is not 0.
    """
