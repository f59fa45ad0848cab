"""What a document is: how texts are divided at separators, which spaces are removed, how samples are shown."""

import difflib
import re
from collections import Counter
from dataclasses import dataclass

from microgpt.data.tokenizer import BOS_SYMBOL
from microgpt.errors import UserError

SPACES = " \t"
INDENT = "  "  # before the lines of a sample that may have several
BLANK_LINES = re.compile(rf"(?:\A|\n)(?:[{SPACES}]*\n)+")

# The separators by name. "Whole" texts are divided by nothing: a record separator of ASCII stands between them.
SEPARATORS = {"line": "\n", "record": "\n\n", "whole": "\x1e"}


@dataclass(frozen=True)
class Division:
    """Divides texts into documents, between which the raw text has `separator`.

    `strip` says which spaces and tabs are removed: `both` those at both ends of each line, `right` those at the end,
    `none` none. Newlines around a document are removed unless it is `none`.
    """

    separator: str
    strip: str

    @property
    def is_own(self) -> bool:
        """Whether the separator is the user's own."""
        return self.separator not in SEPARATORS.values()

    @property
    def gaps(self) -> tuple[str, ...]:
        """After each of these, a file may be cut into texts that are divided separately; without any it may not."""
        return {"\n": ("\n",), "\n\n": ("\n\n", "\n\r\n")}.get(self.separator, ())

    def divide(self, text: str, changes: Counter[str]) -> list[str]:
        """The documents of a text in which only \\n ends a line. What is removed is added to `changes`, by kind."""
        if self.separator == "\n":
            parts = text.split("\n")
        elif self.separator == "\n\n":
            parts = BLANK_LINES.split(text)
        else:
            parts = self.split_at_own(text)
            if self.is_own:
                changes["separators"] += len(parts) - 1
        documents = [document for part in parts if (document := self.stripped(part)).strip(SPACES + "\n")]
        if self.strip != "none":
            changes["stripped"] += self.count_removed(text, parts, documents)
        return documents

    def split_at_own(self, text: str) -> list[str]:
        """The parts of a text between separators, of which a newline need not stand at the ends of the text."""
        before = "\n" * self.separator.startswith("\n")
        after = "\n" * (self.separator.endswith("\n") and not text.endswith("\n"))
        first, *parts = (before + text + after).split(self.separator)
        parts = [first.removeprefix(before), *parts]
        return [*parts[:-1], parts[-1].removesuffix(after)]

    def stripped(self, part: str) -> str:
        """A part of a text without the spaces and newlines to remove."""
        if self.strip == "none":
            return part.removesuffix("\n")
        if "\n" not in part:
            return part.strip(SPACES) if self.strip == "both" else part.rstrip(SPACES)
        if self.strip == "both":
            part = "\n".join([line.strip(SPACES) for line in part.split("\n")])
        elif any(f"{space}\n" in part for space in SPACES) or part.endswith(tuple(SPACES)):
            part = "\n".join([line.rstrip(SPACES) for line in part.split("\n")])
        return part.strip("\n")  # a long part without spaces to remove is not copied

    def count_removed(self, text: str, parts: list[str], documents: list[str]) -> int:
        """The number of characters removed, without the newlines that end a line, a document or a blank line."""
        left = sum(map(len, documents))
        if self.separator != "\n\n":
            return sum(map(len, parts)) - left - sum(part.endswith("\n") for part in parts)
        end = text[len(text.rstrip(SPACES + "\n")) :].count("\n")
        return len(text) - left - (2 * (len(documents) - 1) + min(2, end) if documents else 0)

    def parts(self, text: str) -> list[str]:
        """The parts of a raw text between separators, as they are."""
        return re.split(r"\n{2,}", text) if self.separator == "\n\n" else text.split(self.separator)

    def without_separator(self, prompt: str) -> str:
        """A prompt without a separator of the user's own before it: each prompt begins a document."""
        own = self.separator.strip("\n") if self.is_own else ""
        return prompt.removeprefix("\n" * self.separator.startswith("\n")).removeprefix(own) if own else prompt


def find_division(document: str, strip: str, default: str, at_once: bool) -> Division:
    """The division that `dataset.document` and `dataset.strip` name; `default` is the document of the mode.

    `at_once`: whether spaces before a line are removed by default as well, if each line is a document. Raises
    `UserError`.
    """
    document = default if document == "auto" else document
    separator = SEPARATORS.get(document) or document.replace("\\n", "\n").replace("\\t", "\t")
    if not separator:
        raise UserError("dataset.document=: needs a separator; try dataset.document=line")
    if strip == "auto":
        strip = "both" if at_once and separator == "\n" else "right"
    return Division(separator, strip)


def check_found(document: str, changes: Counter[str], key: str) -> None:
    """Raise `UserError` if the user's own separator was not found in a corpus, named by `key`."""
    if changes.pop("separators", 0):
        return
    close = difflib.get_close_matches(document, SEPARATORS, n=1)
    hint = f"did you mean dataset.document={close[0]}?" if close else "dataset.document=whole takes each file as it is"
    raise UserError(f"dataset.document={document}: {key} does not hold this separator; {hint}")


def show_ends(text: str) -> str:
    """The text, with a line ⏎ between whole documents, of which any may hold blank lines."""
    return text.replace(SEPARATORS["whole"], f"\n{BOS_SYMBOL}\n")


def indented(text: str) -> str:
    """The text with its lines indented, so that what is not indented is not part of it."""
    parts = text.split(SEPARATORS["whole"])
    return f"\n{BOS_SYMBOL}\n".join(INDENT + part.replace("\n", "\n" + INDENT) for part in parts)
