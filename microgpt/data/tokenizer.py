"""Characters → ids and ids → characters. The only special token is BOS, which begins and ends each document."""

from collections.abc import Iterable

from microgpt.errors import UserError

BOS_SYMBOL = "⏎"
MAX_LISTED = 200  # characters of an alphabet in an error message
MAX_SHOWN = 60  # characters of a text in an error message


def printable(char: str) -> str:
    """␣ for a space, an escape sequence (such as \\n) for a character that does not print, else the character."""
    return "␣" if char == " " else char if char.isprintable() else char.encode("unicode_escape").decode()


def excerpt(text: str, place: int) -> str:
    """The part of a long text around the index `place`."""
    if len(text) <= MAX_SHOWN:
        return text
    first = max(0, min(place - MAX_SHOWN // 2, len(text) - MAX_SHOWN))
    last = first + MAX_SHOWN
    return "…" * (first > 0) + text[first:last] + "…" * (last < len(text))


class Tokenizer:
    """The id of a character is its index in `chars`. The last id is BOS, the boundary between documents.

    Raises `ValueError` if `chars` holds a character twice.
    """

    def __init__(self, chars: str) -> None:
        if len(set(chars)) != len(chars):
            raise ValueError("chars holds a character twice")
        self.chars = chars
        self.stoi = {char: i for i, char in enumerate(chars)}
        self.bos = len(chars)
        self.vocab_size = len(chars) + 1

    @classmethod
    def of(cls, documents: Iterable[str]) -> "Tokenizer":
        """The tokenizer of all characters in `documents`, in sorted order."""
        return cls("".join(sorted(set().union(*documents))))

    def encode(self, text: str, name: str = "text") -> list[int]:
        """The id of each character of `text`. Raises `UserError`, which begins with `name`, for one without an id."""
        try:
            return [self.stoi[char] for char in text]
        except KeyError as missing:
            known = "".join(" " if char == " " else printable(char) for char in self.chars[:MAX_LISTED])
            more = f"… ({len(self.chars):,} characters in all)" if len(self.chars) > MAX_LISTED else ""
            around = excerpt(text, text.index(missing.args[0]))
            message = f"{name}={around!r}: the corpus holds no {missing.args[0]!r}; use characters of: {known}{more}"
            if missing.args[0] == "\\" and "\\n" in text and "\n" in self.stoi and around == text:
                typed = text.replace("'", "\\'").replace("\n", "\\n")
                message += f"; for a newline, type in bash or zsh {name}=$'{typed}'"
            raise UserError(message) from None

    def encode_documents(self, documents: Iterable[str], name: str = "text") -> list[int]:
        """The ids of BOS, a document, BOS, a document, …, BOS."""
        ids = [self.bos]
        for document in documents:
            ids += self.encode(document, name)
            ids.append(self.bos)
        return ids

    def names(self) -> list[str]:
        """A printable name of each token, for tables and figures, in the order of the ids; the last is BOS."""
        return [*map(printable, self.chars), BOS_SYMBOL]

    def decode(self, ids: Iterable[int], bos: str = "") -> str:
        """The text of `ids`; each BOS becomes `bos`."""
        return "".join(bos if i == self.bos else self.chars[i] for i in ids)
