"""The score of a raw text under a model: -log2 of its probability, in bits.

All models score the same characters, whatever their alphabet and mode. The rules:

- Bits per character are the bits divided by the characters of the raw text, newlines included.
- For a discrete model, each line is a document with an empty context before it. Its newline is predicted as the end of
  the document. The end of the text counts as a newline, and a blank line is an empty document.
- For a stream model, a newline is a character, and a blank line is the end of a paragraph (BOS). The end of the text is
  not predicted.
- With `dataset.document`, its separator takes the place of the newline or the blank line.
- The validation split of a stream model begins within the corpus. The token before it is context and costs no bits.
- A text longer than `block_size` is read in windows that overlap by half, so that each character has half a block of
  context or more. The val_bpc of a run is measured in windows that do not overlap, and is a little higher.
- A text with characters that are not in a model's corpus is first normalised as the corpus was: to its normal form, to
  lower case if the corpus has no capitals, and by its `dataset.replace`. Characters that this removes cost that model
  no bits.
- A character that is still not in the corpus costs log2(1,114,112) = 20.09 bits, as if drawn uniformly from all code
  points of Unicode. The model then reads the text without it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from microgpt.config.program import relative
from microgpt.model.evaluation import total_loss
from microgpt.runs.opening import OpenRun, open_run

UNSEEN_BITS = math.log2(0x110000)  # Unicode has 0x110000 = 1,114,112 code points


@dataclass(frozen=True)
class LabelledRun:
    """The best model of a run, and its label in tables."""

    label: str
    run: OpenRun


def open_labelled(folders: Sequence[Path]) -> list[LabelledRun]:
    """The best models of these runs. The label is the corpus, or the directory if several runs have the same corpus."""
    opened = [open_run(folder, "best", torch.device("cpu")) for folder in folders]
    names = [run.config.dataset.name for run in opened]
    labels = [
        name if names.count(name) == 1 else str(relative(run.folder)) for name, run in zip(names, opened, strict=True)
    ]
    return [LabelledRun(label, run) for label, run in zip(labels, opened, strict=True)]


def normalise_like_corpus(run: OpenRun, text: str) -> str:
    """The text normalised as the run's corpus was; unchanged if all its characters are in the corpus."""
    chars = run.generator.tokenizer.chars
    if set(text) <= {*chars, "\n"}:
        return text
    return run.generator.normalise(text)


@dataclass(frozen=True)
class Passage:
    """A raw text to score; `before` is the character or blank line before it, which is only context."""

    text: str
    before: str = ""


@dataclass(frozen=True)
class Score:
    """The score of a text under the model of a run."""

    label: str
    run: OpenRun
    bits: float  # of the whole text
    chars: int  # of the raw text
    unseen: int  # characters that are not in the corpus of the run
    normalised: bool  # whether normalisation has changed the text

    @property
    def bpc(self) -> float:
        return self.bits / self.chars


def score(labelled: LabelledRun, passage: Passage) -> Score:
    """The score of a passage, which must not be empty, by the rules above."""
    generator = labelled.run.generator
    model, tokenizer, mode = generator.model, generator.tokenizer, generator.mode
    text = normalise_like_corpus(labelled.run, passage.text)
    parts = mode.parts(text)
    removal = dict.fromkeys(map(ord, set(text).difference(tokenizer.chars)))  # {code point: None} for str.translate
    known = [part.translate(removal) for part in parts]
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
    """The rules above that had an effect on these scores, one line per rule."""
    lines = []
    if any(found.unseen for found in scores):
        rule = "as if drawn uniformly from Unicode's 1,114,112 code points. The model then reads the text without it"
        lines.append(f"A character that is not in a model's corpus costs {UNSEEN_BITS:.2f} bits, {rule}.")
    if names := dict.fromkeys(found.label for found in scores if found.normalised):
        lines.append(f"Normalised as their corpora were (lower case, replacements) for: {', '.join(names)}.")
    return lines
