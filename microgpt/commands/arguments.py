"""Parses the arguments of a command: `key=value` in Hydra's grammar, validated against a schema."""

import ast
import importlib.resources
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import Field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from microgpt.commands.failure import user_errors
from microgpt.config.checks import parse, unknown_key
from microgpt.config.free_text import escape, escape_key, unescape_key
from microgpt.config.groups import check_own_folder, choices, groups
from microgpt.config.help import describe, schema_default
from microgpt.config.program import in_help
from microgpt.config.schema import Config, settings, show
from microgpt.errors import UserError

S = TypeVar("S")


def split_config_dir(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder that `--config-dir` names among the words, and the other words. Raises `UserError` if it is none."""
    folder, others, remaining = None, [], iter(words)
    for word in remaining:
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            folder = check_own_folder(value if equals else next(remaining, ""))
        else:
            others.append(word)
    return folder, others


def check_word(word: str) -> None:
    """Raise `UserError` for a word that names no setting, or that removes one."""
    name, equals, _ = word.partition("=")
    if not name.strip(" +~"):
        raise UserError(f"{word!r}: names no setting; settings are typed key=value, and --help lists them")
    if word.startswith("~") and name[1:] in (*dict(settings(Config)), "dataset", "model"):
        raise UserError(f"{word}: a setting cannot be removed; leave it out for its default, or give it a value")
    if "@" in name and name.partition("@")[0] in groups():
        raise UserError(f"{word}: a group cannot be put elsewhere; type it without {name[name.index('@') :]}")
    if not equals and (found := [group for group in groups() if word in choices(group)]):
        raise UserError(f"{word}: cannot be read as key=value; did you mean {found[0]}={word}?")


def check_own_file(words: Sequence[str]) -> None:
    """Raise `UserError` if a file of the user's own is given, but not the dataset that reads it."""
    names = {name.lstrip("+") for name, _, _ in (word.partition("=") for word in words)}
    if "dataset.path" in names and not names & {"dataset", "experiment", "resume"}:
        word = next(word for word in words if word.lstrip("+").startswith("dataset.path"))
        raise UserError(f"{word}: a file of your own is read by dataset=file; add dataset=file")


def quote(argument: str, schema: Any, sweep: bool = False) -> str:
    """The argument `key=value`, quoted and escaped for Hydra if its value is a free text of the schema.

    Many characters have a meaning in Hydra's grammar. In quotes, a path or a prompt is taken as it was typed. Lists and
    dictionaries of free texts may be written in Hydra's grammar or in YAML. In a `sweep`, `a,b` and `choice(a,b)` are
    the values of two jobs, unless there is a file `a,b`.
    """
    name, equals, value = argument.partition("=")
    f = dict(settings(schema)).get(name.lstrip("+"))
    if f is None or not f.metadata["free_text"] or not equals or value in ("", "null"):
        return argument
    if f.type in (list[str], list[str] | None):
        return f"{name}={quote_items(value)}"
    if f.type == dict[str, str]:  # ++: without it, Hydra refuses keys that the dictionary does not have yet
        return f"++{name.lstrip('+')}={quote_items(value)}"
    if sweep:
        return f"{name}={','.join(map(quoted, split_texts(value)))}"
    return f"{name}={quoted(unquote(value))}"


def quoted(text: str) -> str:
    """The text in quotes for Hydra, and escaped for OmegaConf."""
    return in_quotes(escape(text))


def in_quotes(text: str) -> str:
    """The text in quotes, as it is typed for Hydra."""
    # Hydra reads \' as a quote, and \\ as a backslash where a quote follows.
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f"'{text}'"


def unquote(value: str) -> str:
    """The text that a value of the command line stands for: without its quotes, if it has some."""
    if re.fullmatch(r"(['\"]).*\1", value, re.DOTALL):
        with suppress(HydraException):
            (override,) = OverridesParser.create().parse_overrides([f"x={value}"])
            if not override.is_sweep_override():
                return str(override.value())
    return value


def split_texts(value: str) -> list[str]:
    """The texts between the commas of `a,b` or `choice(a,b)`. Where a file has a comma in its name, it is one text."""
    if exists(unquote(value)):
        return [unquote(value)]
    if match := re.fullmatch(r"choice\((.*)\)", value, re.DOTALL):
        value = match[1]
    parts = re.findall(r"""\s*'(?:\\.|[^'\\])*'\s*(?=,|$)|\s*"(?:\\.|[^"\\])*"\s*(?=,|$)|[^,]+""", value)
    texts = []
    while parts:
        n = next((n for n in range(len(parts), 1, -1) if exists(",".join(parts[:n]).strip())), 1)
        texts.append(unquote(",".join(parts[:n]).strip()))
        del parts[:n]
    return [text for text in texts if text]


def exists(text: str) -> bool:
    """Whether `text` is the path of a file or folder."""
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, with a null character, of an unknown user
        return False


def quote_items(value: str) -> str:
    """A list or a dictionary of free texts, in Hydra's grammar or in YAML, with all texts quoted and escaped."""
    try:
        (override,) = OverridesParser.create().parse_overrides([f"x={value}"])
        if override.is_sweep_override():
            return value
        items = override.value()
    except HydraException:
        with suppress(yaml.YAMLError):
            items = yaml.safe_load(value)
            return in_hydra_grammar(items) if isinstance(items, list | dict) else value
        return value
    return in_hydra_grammar(items)


def in_hydra_grammar(value: Any, quote_text: Callable[[str], str] = quoted) -> str:
    """Plain data in Hydra's grammar, each text by `quote_text`."""
    if isinstance(value, str):
        return quote_text(value)
    if isinstance(value, list):
        return f"[{','.join(in_hydra_grammar(item, quote_text) for item in value)}]"
    if isinstance(value, dict):
        pairs = [f"{escape_key(unescape_key(key))}:{in_hydra_grammar(item, quote_text)}" for key, item in value.items()]
        return f"{{{','.join(pairs)}}}"
    return show(value)


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
            raise UserError(f"{word.strip() or repr(word)}: cannot be read as key=value; use {usage}")
        if name not in known:
            raise UserError(unknown_key(name, schema))
        is_list = known[name].type == list[str]
        value = read_value(word if is_list else quote(word, schema), known[name])
        OmegaConf.update(tree, name, value, merge=False)
    return parse(tree, schema)


def read_value(argument: str, f: Field[Any]) -> Any:
    """The value of `key=value`, parsed by Hydra. A list of free texts is split at its commas instead."""
    if f.metadata["free_text"] and f.type == list[str]:
        value = unquote(argument.partition("=")[2])
        in_brackets = re.fullmatch(r"\[(.*)\]", value, re.DOTALL)
        return escape(split_texts(in_brackets[1] if in_brackets else value))
    with user_errors():
        (override,) = OverridesParser.create().parse_overrides([argument])
    return override.value()


def read_docstring(module: str) -> str:
    """The docstring of a module of the package. The file is parsed, not imported: that might import torch."""
    folder, _, name = module.rpartition(".")
    source = importlib.resources.files(folder) / f"{name}.py"
    return ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""


def print_help_if_asked(
    words: Sequence[str],
    doc: str | None,
    schema: Any,
    default_of: Callable[[str, Field[Any]], str] | None = schema_default,
) -> None:
    """If `words` contain -h or --help, print `doc` and the settings of the schema, and end the program.

    `default_of` says their defaults (`describe`).
    """
    if {"-h", "--help"} & set(words):
        width = min(120, max(60, shutil.get_terminal_size((120, 24)).columns))
        print(f"{in_help(doc or '').strip()}\n\nSettings:\n\n{describe(schema, default_of, width)}")
        sys.exit()
