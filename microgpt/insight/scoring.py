"""What a raw text costs a model, in bits: the same characters for every model, whatever its alphabet and mode.

- Bits are divided by the characters of the raw text, newlines included.
- To a discrete model a newline ends a document, and so does the end of the text, which counts as a newline. Each
  document is read from an empty context: a blank line is an empty document.
- To a stream model a blank line is the end of a paragraph (BOS), a newline is a character, and the text has no end.
- A stream's validation split begins in the middle of it: the token before it is context, and costs nothing.
- A text longer than `block_size` is read in windows that overlap by half, so that each character has half a block of
  context or more. In training, and so in a run's own val_bpc, windows do not overlap, which costs a little more.
- A text with characters that a model has never seen is first normalised as its corpus was: NFC, in lower case if the
  corpus has no capitals, with its `dataset.replace`. What this takes from the text, that model need not spell.
- A character that is still new to it costs log2(1,114,112) = 20.09 bits, as if drawn evenly from all of Unicode's
  code points, and the model reads on without it.
"""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from microgpt.model.evaluation import total_loss
from microgpt.runs import directory
from microgpt.runs.opening import OpenRun, open_run

UNSEEN_BITS = math.log2(0x110000)


@dataclass(frozen=True)
class LabelledRun:
    """The best model of a run, and what to call it."""

    label: str
    run: OpenRun


def open_labelled(folders: Sequence[Path]) -> list[LabelledRun]:
    """The best models of these runs, labelled by their corpora, or by their directories where several have one."""
    opened = [open_run(folder, "best", torch.device("cpu")) for folder in folders]
    names = [run.config.dataset.name for run in opened]
    labels = [
        name if names.count(name) == 1 else str(directory.relative(run.folder))
        for name, run in zip(names, opened, strict=True)
    ]
    return [LabelledRun(label, run) for label, run in zip(labels, opened, strict=True)]


def normalise_like_corpus(run: OpenRun, text: str) -> str:
    """The text normalised as the run's corpus was; one whose characters it all knows, as it is."""
    chars = run.generator.tokenizer.chars
    if set(text) <= {*chars, "\n"}:
        return text
    text = unicodedata.normalize("NFC", text)
    if chars == chars.lower():
        text = text.lower()
    for old, new in run.config.dataset.replace.items():
        text = text.replace(old, new)
    return text


@dataclass(frozen=True)
class Passage:
    """A raw text, and the character or blank line `before` it."""

    text: str
    before: str = ""


@dataclass(frozen=True)
class Score:
    """What a text costs a model: `bits` in all for `chars` characters of raw text, of which `unseen` were new to it."""

    label: str
    run: OpenRun
    bits: float
    chars: int
    unseen: int
    normalised: bool

    @property
    def bpc(self) -> float:
        return self.bits / self.chars


def score(labelled: LabelledRun, passage: Passage) -> Score:
    """What `passage`, which is not empty, costs the model by the rules above."""
    generator = labelled.run.generator
    model, tokenizer, mode = generator.model, generator.tokenizer, generator.mode
    text = normalise_like_corpus(labelled.run, passage.text)
    parts = mode.parts(text)
    without_unseen = dict.fromkeys(map(ord, set(text).difference(tokenizer.chars)))
    known = [part.translate(without_unseen) for part in parts]
    unseen = sum(map(len, parts)) - sum(map(len, known))
    rows = mode.context_rows(known, tokenizer, model.block_size, passage.before)
    nats = total_loss(model, rows).item() if rows.n_targets else 0.0
    bits = nats / math.log(2) + unseen * UNSEEN_BITS
    chars = mode.count_characters(passage.text)
    return Score(labelled.label, labelled.run, bits, chars, unseen, text != passage.text)


def validation_passage(run: OpenRun) -> Passage:
    """The validation split of the run, as raw text. Raises `UserError` if its corpus has changed."""
    val = run.load_data("runs").val
    return Passage(val.text, val.before)


def describe_rules(scores: Sequence[Score]) -> list[str]:
    """Which of the rules above mattered to these scores, a line each."""
    lines = []
    if any(found.unseen for found in scores):
        rule = "as if drawn evenly from Unicode's 1,114,112 code points, and the model reads on without it"
        lines.append(f"A character that a model has never seen costs {UNSEEN_BITS:.2f} bits, {rule}.")
    if names := dict.fromkeys(found.label for found in scores if found.normalised):
        lines.append(f"Normalised as their corpora were (lower case, replacements) for: {', '.join(names)}.")
    return lines
