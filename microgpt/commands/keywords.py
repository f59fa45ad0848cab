"""Settings as keyword arguments of Python, `train(n_embd=32)`, as the words of a command line, `model.n_embd=32`."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from microgpt.commands.arguments import in_hydra_grammar, in_quotes
from microgpt.config.checks import unknown_key
from microgpt.config.groups import groups
from microgpt.config.schema import Config, settings
from microgpt.errors import UserError

KEYS = dict(settings(Config))
SECTIONS = {f.name for f in fields(Config)} - set(KEYS)  # dataset, model, optim, train, …

NO_TEXTS = ("null", "true", "false", "inf", "nan")  # what Hydra reads as another value, unless it is in quotes


def to_words(given: Mapping[str, Any], sweep: bool = False) -> list[str]:
    """A word for each keyword, with the value as it would be typed. Raises `UserError` for an unknown keyword.

    A keyword is a key (`seed`), a group (`dataset`) or the last part of a key, if no other key ends so (`steps`). Any
    key can be given as `**{"optim.name": "adamw"}`, or in a dictionary by its section, as `optim={"name": "adamw"}`. In
    a `sweep`, a list holds the values of several jobs; for a setting that is a list itself, a list of lists does.
    """
    words = []
    for keyword, value in given.items():
        if keyword in SECTIONS and isinstance(value, Mapping):
            words += to_words({f"{keyword}.{name}": item for name, item in value.items()}, sweep)
            continue
        name = full_key(keyword)
        values = value if sweep and is_several(name, value) else [value]
        words.append(f"{name}={','.join(map(to_text, values))}")
    return words


def full_key(keyword: str) -> str:
    """The key or group that a keyword stands for. Raises `UserError` if there is none, or if there are several."""
    if keyword in KEYS or keyword in groups() or keyword.startswith(("hydra.", "hydra/")):
        return keyword
    found = [name for name in KEYS if name.rpartition(".")[2] == keyword]
    if len(found) > 1:
        section = found[0].partition(".")[0]
        raise UserError(f'{keyword}: may be {" or ".join(found)}; write {section}={{"{keyword}": …}}')
    if not found:
        raise UserError(unknown_key(keyword, Config, groups()))
    return found[0]


def is_several(name: str, value: Any) -> bool:
    """Whether the value of a setting in a sweep holds the values of several jobs."""
    is_list = name in KEYS and str(KEYS[name].type).startswith("list")
    return isinstance(value, list | tuple | range) and (not is_list or all(isinstance(item, list) for item in value))


def to_text(value: Any) -> str:
    """A value as it is typed on the command line, a text in quotes if it is more than a word."""
    if isinstance(value, tuple | range):
        value = list(value)
    if isinstance(value, list | dict):
        return in_hydra_grammar(value, in_quotes)
    if value is None or isinstance(value, bool | int | float):
        return in_hydra_grammar(value)
    is_word = re.fullmatch(r"[A-Za-z][\w/-]*", str(value)) and str(value).lower() not in NO_TEXTS
    return str(value) if is_word else in_quotes(str(value))
