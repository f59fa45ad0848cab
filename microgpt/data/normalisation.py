"""Normalisation of texts: the same for a corpus and for what is typed as a prompt. It counts what it changes."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from microgpt.config.schema import DatasetConfig


@dataclass(frozen=True)
class Normaliser:
    """In this order: a Unicode normal form, lower case, replacements one after the other, and \\n as each line's end.

    `form` is NFC, NFD, NFKC, NFKD or none. Only \\n, \\r\\n and \\r end a line. A replacement finds \\n there, unless
    it looks for \\r itself.
    """

    form: str = "NFC"
    lowercase: bool = False
    replace: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: DatasetConfig) -> "Normaliser":
        return cls(dataset.normalize, dataset.lowercase, dataset.replace)

    def __call__(self, text: str, changes: Counter[str] | None = None) -> str:
        """The normalised text. `changes` are increased by the lines that became others, and by the replacements."""
        changes = Counter() if changes is None else changes
        if self.form != "none":
            form = cast(Any, self.form)  # one of the four, as the schema has checked
            if not unicodedata.is_normalized(form, text):
                before, text = text, unicodedata.normalize(form, text)
                changes["normalized"] += changed_lines(before, text)
        if self.lowercase:
            before, text = text, text.lower()
            changes["lowercased"] += changed_lines(before, text)
        for old, new in self.replace.items():
            text = text if "\r" in old else with_newlines(text)
            if n := text.count(old):
                text = text.replace(old, new)
                changes["replaced"] += n
        return with_newlines(text)


def with_newlines(text: str) -> str:
    """The text with \\n as the end of each line."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def changed_lines(before: str, after: str) -> int:
    """The number of lines in which two texts with the same newlines differ."""
    if before == after:
        return 0
    return sum(old != new for old, new in zip(before.split("\n"), after.split("\n"), strict=True))
