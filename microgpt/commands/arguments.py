"""The words of a command line: `key=value`, in Hydra's grammar, checked against a schema."""

import re
import sys
from collections.abc import Sequence
from dataclasses import Field
from typing import Any, TypeVar

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from microgpt.commands.failure import user_errors
from microgpt.config.checks import parse, unknown_key
from microgpt.config.schema import describe, settings
from microgpt.errors import UserError

S = TypeVar("S")


def quote(argument: str, schema: Any) -> str:
    """`key=value` with the value quoted, if it is free text by the schema and has no quotes of its own.

    Hydra's grammar gives many characters a meaning; a path or a prompt is taken as it is typed.
    """
    name, equals, value = argument.partition("=")
    f = dict(settings(schema)).get(name)
    if f is None or not f.metadata["free_text"] or not equals or value in ("", "null"):
        return argument
    if re.fullmatch(r"(['\"]).*\1", value, re.DOTALL):
        return argument
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{name}='{escaped}'"


def read_arguments(words: Sequence[str], schema: type[S], base: Any = None) -> S:
    """The settings that the words give, the others as in `base` or at their defaults. Raises `UserError`."""
    known = dict(settings(schema))
    tree = OmegaConf.create() if base is None else base
    for word in words:
        name, equals, _ = word.partition("=")
        if not equals:
            usage = ", ".join(f"{key}=" for key in known)
            raise UserError(f"{word}: cannot be read as key=value; use {usage}")
        if name not in known:
            raise UserError(unknown_key(name, schema))
        OmegaConf.update(tree, name, read_value(quote(word, schema), known[name]))
    return parse(tree, schema)


def read_value(argument: str, f: Field[Any]) -> Any:
    """The value of `key=value`; for a list of free texts, what stands between its commas."""
    if f.metadata["free_text"] and f.type == list[str]:
        value = argument.partition("=")[2].strip("'\"")
        return [part.strip() for part in value.removeprefix("[").removesuffix("]").split(",") if part.strip()]
    with user_errors():
        (override,) = OverridesParser.create().parse_overrides([argument])
    return override.value()


def print_help_if_asked(words: Sequence[str], doc: str | None, schema: Any) -> None:
    """For -h and --help, print what the command does and its settings, and end the program."""
    if {"-h", "--help"} & set(words):
        print(f"{(doc or '').strip()}\n\nSettings:\n\n{describe(schema, defaults=True)}")
        sys.exit()
