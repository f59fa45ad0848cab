"""The `key=value` words of the tools that are run with `-m`: values are taken as they are typed, without quoting."""

from collections.abc import Mapping, Sequence

from microgpt.errors import UserError


def read_words(words: Sequence[str], defaults: Mapping[str, str], needed: Mapping[str, str]) -> dict[str, str]:
    """The value of each key of `defaults`. Raises `UserError` for a word that is none, or the lack of a `needed` one.

    `needed` tells, for each key that has no default, what to give and how.
    """
    values = dict(defaults)
    for word in words:
        key, equals, value = word.partition("=")
        if key not in defaults or not equals:
            raise UserError(f"{word}: there is no such setting; use {', '.join(f'{key}=' for key in defaults)}")
        values[key] = value
    for key, way in needed.items():
        if not values[key]:
            raise UserError(f"{key}: {way}")
    return values


def whole_number(key: str, value: str, least: int, default: str) -> int:
    """The number that was typed. Raises `UserError` if it is none, or below `least`."""
    if not value.isdecimal() or int(value) < least:
        raise UserError(f"{key}={value}: must be a whole number, at least {least}; the default is {key}={default}")
    return int(value)
