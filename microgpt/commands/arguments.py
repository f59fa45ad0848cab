"""Parses the arguments of a command: `key=value` in Hydra's grammar, validated against a schema."""

import ast
import importlib.resources
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
    """The argument `key=value`, with its value in quotes if it is a free text of the schema and not yet quoted.

    Many characters have a meaning in Hydra's grammar. In quotes, a path or a prompt is taken as it was typed.
    """
    name, equals, value = argument.partition("=")
    f = dict(settings(schema)).get(name)
    if f is None or not f.metadata["free_text"] or not equals or value in ("", "null"):
        return argument
    if re.fullmatch(r"(['\"]).*\1", value, re.DOTALL):
        return argument
    # Hydra reads \' as a quote, and \\ as a backslash where a quote follows.
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return f"{name}='{escaped}'"


def read_arguments(words: Sequence[str], schema: type[S], base: Any = None) -> S:
    """The settings in `words`, as an object of `schema`; the others are as in `base`, else the defaults.

    Raises `UserError` for a word that is no valid setting.
    """
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
    """The value of `key=value`, parsed by Hydra. A list of free texts is split at its commas instead."""
    if f.metadata["free_text"] and f.type == list[str]:
        value = argument.partition("=")[2].strip("'\"")
        return [part.strip() for part in value.removeprefix("[").removesuffix("]").split(",") if part.strip()]
    with user_errors():
        (override,) = OverridesParser.create().parse_overrides([argument])
    return override.value()


def read_docstring(module: str) -> str:
    """The docstring of a module of the package. The file is parsed, not imported: that might import torch."""
    folder, _, name = module.rpartition(".")
    source = importlib.resources.files(folder) / f"{name}.py"
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


def print_help_if_asked(words: Sequence[str], doc: str | None, schema: Any, defaults: bool = True) -> None:
    """If `words` contain -h or --help, print `doc` and the settings of the schema, and end the program.

    `defaults`: whether the defaults of the schema are those of the command, so that they are printed as well.
    """
    if {"-h", "--help"} & set(words):
        print(f"{(doc or '').strip()}\n\nSettings:\n\n{describe(schema, defaults)}")
        sys.exit()
