"""What a raw text costs a model, in bits: the same characters for every model, whatever its alphabet and mode.

- Bits are divided by the characters of the raw text, newlines included.
- To a discrete model a newline ends a document, and so does the end of the text, which counts as a newline. Each
  document is read from an empty context: a blank line is an empty document.
- To a stream model a blank line is the end of a paragraph (BOS), a newline is a character, and the text has no end.
- A stream's validation split begins in the middle of it: what stands before is context, and costs nothing.
- A text longer than `block_size` is read in windows, as in training.
- A text with characters that a model has never seen is first made what its corpus is: NFC, in lower case if the corpus
  has no capitals, with its `dataset.replace`. What this takes from the text, that model need not spell.
- A character that is new to it even so costs log2(1,114,112) = 20.09 bits, as if drawn evenly among all of Unicode's
  code points, and the model reads on without it.
"""

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from microgpt import checkpoint, runs
from microgpt.batches import document_rows, split_documents, split_stream, stream_rows
from microgpt.build import load_corpus
from microgpt.config import Config
from microgpt.errors import UserError
from microgpt.evaluate import evaluate
from microgpt.samples import Writer, open_run

UNSEEN_BITS = math.log2(0x110000)


@dataclass(frozen=True)
class Reader:
    """The best model of the run in `folder`, and what to call it."""

    label: str
    folder: Path
    writer: Writer
    config: Config

    def normalise(self, text: str) -> str:
        """The text as the model's corpus would have it; one whose characters it all knows, as it is."""
        chars = self.writer.tokenizer.chars
        if set(text) <= {*chars, "\n"}:
            return text
        text = unicodedata.normalize("NFC", text)
        if chars == chars.lower():
            text = text.lower()
        for old, new in self.config.dataset.replace.items():
            text = text.replace(old, new)
        return text


def open_readers(folders: Sequence[Path]) -> list[Reader]:
    """The models of these runs, by the names of their corpora, or by their directories where several have one."""
    opened = [open_run(folder, "best", torch.device("cpu")) for folder in folders]
    names = [config.dataset.name for _, config in opened]
    labels = [
        name if names.count(name) == 1 else str(runs.relative(folder))
        for name, folder in zip(names, folders, strict=True)
    ]
    return [Reader(label, folder, *run) for label, folder, run in zip(labels, folders, opened, strict=True)]


@dataclass(frozen=True)
class Passage:
    """A raw text, and the character or blank line `before` it."""

    text: str
    before: str = ""


@dataclass(frozen=True)
class Score:
    """What a text costs a model: `bits` in all for `chars` characters of raw text, of which `unseen` were new to it."""

    reader: Reader
    bits: float
    chars: int
    unseen: int
    normalised: bool

    @property
    def bpc(self) -> float:
        return self.bits / self.chars


def score(reader: Reader, passage: Passage) -> Score:
    """What `passage`, which is not empty, costs the model of `reader` by the rules above."""
    model, tokenizer, discrete = reader.writer.model, reader.writer.tokenizer, reader.writer.mode == "discrete"
    text = reader.normalise(passage.text)
    parts = text.removesuffix("\n").split("\n") if discrete else re.split(r"\n{2,}", text)
    without_unseen = dict.fromkeys(map(ord, set(text).difference(tokenizer.chars)))
    known = [part.translate(without_unseen) for part in parts]
    unseen = sum(map(len, parts)) - sum(map(len, known))
    if discrete:
        rows = document_rows(known, tokenizer, model.block_size, pack=True)
    else:
        tokens = tokenizer.encode_documents(known)[:-1]
        tokens[0] = tokenizer.stoi.get(passage.before, tokenizer.bos)
        rows = stream_rows(torch.tensor(tokens), model.block_size)
    n = rows.n_targets
    nats = evaluate(model, rows, tokenizer.bos, 1).loss * n if n else 0.0
    chars = len(passage.text) + (discrete and not passage.text.endswith("\n"))
    bits = nats / math.log(2) + unseen * UNSEEN_BITS
    return Score(reader, bits, chars, unseen, text != passage.text)


def held_out(reader: Reader) -> Passage:
    """The validation split of the run, as raw text. Raises `UserError` if its corpus is not the one it has seen."""
    config, writer = reader.config, reader.writer
    corpus = load_corpus(config.dataset, Path(config.datasets_dir).expanduser())
    if checkpoint.load(reader.folder / runs.BEST).get("corpus") != corpus.fingerprint:
        raise UserError(
            f"runs={runs.relative(reader.folder)}: its corpus has changed since, or the run does not say which it"
            " saw (one of gpt.py); leave it out, or compare on a text of your own with text="
        )
    if corpus.mode == "discrete":
        return Passage("".join(f"{document}\n" for document in split_documents(corpus.documents, config.seed)[1]))
    tokens = torch.tensor(writer.tokenizer.encode_documents(corpus.documents))
    first, *others = split_stream(tokens)[1].tolist()
    return Passage(writer.text(others), writer.text([first]))


def notes(scores: Sequence[Score]) -> list[str]:
    """Which of the rules above bore on these scores, a line each."""
    lines = []
    if any(found.unseen for found in scores):
        rule = "as if drawn evenly among Unicode's 1,114,112 code points, and the model reads on without it"
        lines.append(f"A character that a model has never seen costs {UNSEEN_BITS:.2f} bits, {rule}.")
    if names := dict.fromkeys(found.reader.label for found in scores if found.normalised):
        lines.append(f"Read in the spelling of their corpora (lower case, replacements) by: {', '.join(names)}.")
    return lines
