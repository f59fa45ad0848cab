"""Free text on its way through Hydra and OmegaConf, which would read `${` and `???` in it as syntax of their own.

What is typed is escaped before Hydra sees it, and unescaped when the composed config is parsed. In between it may stand
in any string: in overrides, in names of jobs, in error messages.
"""

import re
from dataclasses import fields, is_dataclass
from typing import Any

MARK = "\ufdd0"  # a noncharacter, which Unicode reserves for use inside programs; here it begins an escape sequence
ESCAPES = {MARK: f"{MARK}\ufdd1", "${": f"{MARK}{{", "???": f"{MARK}?"}
TEXTS = {escape: text for text, escape in ESCAPES.items()}
PLAIN, ESCAPED = (re.compile("|".join(map(re.escape, texts))) for texts in (ESCAPES, TEXTS))

# Hydra's grammar has no quotes for the keys of a dictionary. A key is escaped as KEY_MARK and its UTF-8 in hexadecimal.
KEY_MARK = "%%"
EMPTY = "-"  # in place of the hexadecimal digits of a key without characters


def escape(value: Any) -> Any:
    """Plain data in which no text has a meaning for OmegaConf."""
    if isinstance(value, str):
        return PLAIN.sub(lambda match: ESCAPES[match[0]], value)
    if isinstance(value, list):
        return [escape(item) for item in value]
    if isinstance(value, dict):
        return {escape_key(key) if is_escaped_key(key) else key: escape(item) for key, item in value.items()}
    return value


def is_escaped_key(key: object) -> bool:
    return isinstance(key, str) and unescape_key(key) != key


def escape_key(key: str) -> str:
    return KEY_MARK + (key.encode("utf-8", "surrogateescape").hex() or EMPTY)


def unescape(value: Any) -> Any:
    """What was escaped: plain data, or a dataclass, whose fields are changed in place."""
    if isinstance(value, str):
        return ESCAPED.sub(lambda match: TEXTS[match[0]], value)
    if isinstance(value, list):
        return [unescape(item) for item in value]
    if isinstance(value, dict):
        return {unescape_key(key): unescape(item) for key, item in value.items()}
    if is_dataclass(value):
        for f in fields(value):
            setattr(value, f.name, unescape(getattr(value, f.name)))
    return value


def readable(text: str) -> str:
    """A message in which what was escaped stands as it was typed, keys of dictionaries included."""
    return re.sub(
        rf"(?<=[{{,.']){KEY_MARK}(?:(?:[0-9a-f]{{2}})+|{EMPTY})", lambda match: unescape_key(match[0]), unescape(text)
    )


def unescape_key(key: object) -> str:
    match = re.fullmatch(f"{KEY_MARK}((?:[0-9a-f]{{2}})+|{EMPTY})", str(key))
    if not match:
        return str(key)
    return bytes.fromhex(match[1].removeprefix(EMPTY)).decode("utf-8", "surrogateescape")
