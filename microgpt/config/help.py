"""What `--help` says about the settings of a schema. Like the schema, it needs neither torch nor Hydra."""

import math
import textwrap
from collections.abc import Callable
from dataclasses import MISSING, Field
from typing import Any

from microgpt.config.schema import REQUIRED, settings, show

NAME_WIDTH = 24  # characters of the names
TYPES = {"int": "integer", "float": "number", "bool": "true or false"}  # in the words of users


def describe(schema: Any, default_of: Callable[[str, Field[Any]], str] | None = None, width: int = 120) -> str:
    """The text for `--help`: each key of a schema with its meaning, its type, range or choices, and its default.

    `default_of(name, field)` says the default in words, or nothing. Lines are wrapped at `width` characters.
    """
    entries = []
    for name, f in settings(schema):
        default = default_of(name, f) if default_of else ""
        values = "; ".join(part for part in (describe_values(f), default) if part)
        text = f"{f.metadata['doc']} ({values})" if values else f.metadata["doc"]
        indent = " " * (NAME_WIDTH + 3)
        entry = textwrap.fill(f"{'':{NAME_WIDTH + 3}}{text}", width, subsequent_indent=indent, break_on_hyphens=False)
        entries.append(f"  {name:<{NAME_WIDTH}} {entry.lstrip()}")
    return "\n".join(entries)


def describe_values(f: Field[Any]) -> str:
    """The choices of a setting, or its type and range: `integer from 1`."""
    if f.metadata["choices"]:
        return ", ".join(map(show, f.metadata["choices"]))
    kind = TYPES.get(str(f.type).partition(" | ")[0].removeprefix("<class '").removesuffix("'>"), "")
    low, high = f.metadata["low"], f.metadata["high"]
    if kind not in ("integer", "number") or low == -math.inf:
        return kind
    return f"{kind} from {low} to {high}" if high < 1000 else f"{kind} from {low}"


def schema_default(name: str, f: Field[Any]) -> str:
    """The default of a field in words; nothing for null and for a setting that must be given."""
    default = f.default
    if f.default_factory is not MISSING:
        default = f.default_factory()
    if default is None or default is MISSING or default in (REQUIRED, "", [], {}, [""]):
        return ""
    return f"default {show(default)}"
