"""Characters to ids and back. Owns the one special token, BOS, which both begins and ends a document."""

from collections.abc import Iterable

from microgpt.errors import UserError

SHOWN_BOS = "⏎"


def shown(char: str) -> str:
    return "␣" if char == " " else char if char.isprintable() else char.encode("unicode_escape").decode()


class Tokenizer:
    """One id for each character, in sorted order, and after them BOS, the boundary between documents.

    Raises `ValueError` when `chars` holds a character twice.
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
        """The tokenizer of all characters that occur in `documents`."""
        return cls("".join(sorted(set().union(*documents))))

    def encode(self, text: str, name: str = "text") -> list[int]:
        """Ids of `text`, one a character. Raises `UserError`, under `name`, at a character without an id."""
        try:
            return [self.stoi[char] for char in text]
        except KeyError as missing:
            known = "".join(self.chars).replace("\n", "\\n")
            message = f"{name}={text!r}: the corpus holds no {missing.args[0]!r}; use characters of: {known}"
            raise UserError(message) from None

    def encode_documents(self, documents: Iterable[str], name: str = "text") -> list[int]:
        """BOS, a document, BOS, a document, …, BOS."""
        ids = [self.bos]
        for document in documents:
            ids += self.encode(document, name)
            ids.append(self.bos)
        return ids

    def names(self) -> list[str]:
        """Each token as it can stand in a table or a figure, by its id; the last is BOS."""
        return [*map(shown, self.chars), SHOWN_BOS]

    def decode(self, ids: Iterable[int], bos: str = "") -> str:
        """Text of `ids`, with `bos` where a document ends."""
        return "".join(bos if i == self.bos else self.chars[i] for i in ids)
