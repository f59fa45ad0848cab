"""Novelty: which samples of a model are new, and which are copies from its training set.

Works on texts only, without model or tokens. It holds all rules for the marks, the shares and the sentences.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from microgpt.data.documents import indented
from microgpt.data.loading import Data

SPAN_CHARACTERS = 8  # long enough that few spans are copies by chance, short enough that not all are new
MAX_NEAREST = 60  # characters shown of a document of several lines
MAX_SAMPLE_TOKENS = 500  # of a sample that should reach its end
SAMPLES_AT_ONCE = 32  # compared with all training documents, to bound the memory
FINAL_SAMPLES_FACTOR = 5  # samples at the end of a run, as a multiple of those at a validation


@dataclass(frozen=True)
class Mark:
    """The mark of a sample. `kind` is `training` or `held-out` if the sample is in that set, else `new`.

    `nearest` is the nearest training document of a new sample, and `distance` the number of characters to insert,
    delete or change between them (Levenshtein 1966).
    """

    kind: str
    nearest: str = ""
    distance: int = 0

    def __str__(self) -> str:
        if self.kind != "new":
            return f"in the {self.kind} set"
        return f"new; {self.distance} from {on_one_line(self.nearest)}"


class Novelty(ABC):
    """Compares samples of a model with the corpus that it was trained on."""

    metric: ClassVar[str]  # the name of the share that is new, which is a metric of each validation

    @abstractmethod
    def sample_size(self, n: int) -> tuple[int, int]:
        """(number of samples, tokens per sample) to draw at a validation, if `insight.novelty` is `n`."""

    @abstractmethod
    def final_size(self, n: int) -> tuple[int, int] | None:
        """The same at the end of a run; None if the samples that the run prints are used."""

    @abstractmethod
    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """The shares of all kinds of samples, by name, among them those of `metric`."""

    @abstractmethod
    def novelty_and_diversity(self, samples: Sequence[str]) -> tuple[float, float]:
        """(share of the samples that is new, share that repeats no other)."""

    @abstractmethod
    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        """The figures at the end of a run, for `result.json`."""

    @abstractmethod
    def sentence(self, figures: dict[str, float]) -> str:
        """The figures of `summary` in one line."""

    @abstractmethod
    def mark_all(self, texts: Sequence[str], generated: Sequence[str], max_tokens: int) -> list[str]:
        """The texts, each with its mark; `generated` are the same texts without their prompts."""


class DocumentNovelty(Novelty):
    """For samples that are whole documents: each is in the training set, in the held-out set, or new."""

    metric = "new"

    def __init__(self, training: Sequence[str], held_out: Sequence[str], one_line: bool = True) -> None:
        self.training, self.held_out, self.one_line = training, held_out, one_line
        self.kinds = dict.fromkeys(held_out, "held-out") | dict.fromkeys(training, "training")

    def sample_size(self, n: int) -> tuple[int, int]:
        return n, min(MAX_SAMPLE_TOKENS, 1 + max(map(len, self.training)))

    def final_size(self, n: int) -> tuple[int, int]:
        return self.sample_size(FINAL_SAMPLES_FACTOR * n)

    def mark(self, sample: str) -> Mark:
        """The mark of a sample."""
        return self.marks([sample])[sample]

    def marks(self, samples: Sequence[str]) -> dict[str, Mark]:
        """The mark of each sample. Of several nearest training documents, the mark has the first."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cdist

        marks = {sample: Mark(kind) for sample in samples if (kind := self.kinds.get(sample))}
        new = [sample for sample in dict.fromkeys(samples) if sample not in marks]
        for i in range(0, len(new), SAMPLES_AT_ONCE):
            part = new[i : i + SAMPLES_AT_ONCE]
            distances = cdist(part, self.training, scorer=Levenshtein.distance, processor=None)  # (n_part, n_training)
            for sample, row, nearest in zip(part, distances, distances.argmin(1), strict=True):
                marks[sample] = Mark("new", self.training[int(nearest)], int(row[nearest]))
        return marks

    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """The shares of samples that are new, in the training set, in the held-out set, and repeat another sample."""
        counts = Counter(self.kinds.get(sample, "new") for sample in samples)
        return {
            "new": counts["new"] / len(samples),
            "training": counts["training"] / len(samples),
            "held_out": counts["held-out"] / len(samples),
            "repeated": 1 - len(set(samples)) / len(samples),
        }

    def novelty_and_diversity(self, samples: Sequence[str]) -> tuple[float, float]:
        shares = self.shares(samples)
        return shares["new"], 1 - shares["repeated"]

    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        """The `shares`, the expected share in the training set, and the lengths in characters (mean and deviation).

        `training_if_not_memorised` is the share in the held-out set times the ratio of the sizes of both sets. A model
        that has memorised no document generates any document of either set with about the same probability.
        """
        shares = self.shares(samples)
        expected = shares["held_out"] * len(self.training) / len(self.held_out)
        lengths = {"length": mean_and_sd(samples), "corpus_length": mean_and_sd(self.training)}
        figures = {f"{name}_mean": mean for name, (mean, _) in lengths.items()}
        figures |= {f"{name}_sd": sd for name, (_, sd) in lengths.items()}
        return {"samples": len(samples), **shares, "training_if_not_memorised": min(1.0, expected), **figures}

    def sentence(self, figures: dict[str, float]) -> str:
        expected = f"{figures['training_if_not_memorised']:.0%} expected if none is memorised"
        return (
            f"{of_samples(figures)}, {figures['new']:.0%} are new, {figures['training']:.0%} in the training set"
            f" ({expected}), {figures['held_out']:.1%} in the held-out set; {figures['repeated']:.0%} repeat another"
        )

    def mark_all(self, texts: Sequence[str], generated: Sequence[str], max_tokens: int) -> list[str]:
        """One line per text, or several if documents may have several lines.

        A sample that was cut off after `max_tokens` is no whole document and has another mark.
        """
        width = min(24, max(map(len, texts)))
        is_cut = [len(new) >= max_tokens for new in generated]
        known = self.marks([text for text, cut in zip(texts, is_cut, strict=True) if not cut])
        cut_off = f"cut off after {max_tokens}"
        marks = [cut_off if cut else str(known[text]) for text, cut in zip(texts, is_cut, strict=True)]
        if self.one_line:
            return [f"{text:<{width}}  [{mark}]" for text, mark in zip(texts, marks, strict=True)]
        return [mark_below(text, mark) for text, mark in zip(texts, marks, strict=True)]


class SpanNovelty(Novelty):
    """For samples of a running text: which of their spans of SPAN_CHARACTERS are not in the training text."""

    metric = f"new_{SPAN_CHARACTERS}grams"

    def __init__(self, training: str) -> None:
        self.training = training
        self.copies: dict[str, str] = {}

    def sample_size(self, n: int) -> tuple[int, int]:
        return 1, n

    def final_size(self, n: int) -> None:
        return None

    def longest_copy(self, sample: str) -> str:
        """The longest span of `sample`, of any length, that is also in the training text."""
        if sample in self.copies:
            return self.copies[sample]
        best = ""
        for start in range(len(sample)):
            # Only spans longer than the longest so far are searched: at most len(sample) + len(best) searches in all.
            while start + len(best) < len(sample) and sample[start : start + len(best) + 1] in self.training:
                best = sample[start : start + len(best) + 1]
        self.copies[sample] = best
        return best

    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """{`new_8grams`: the share of the samples' distinct spans that are not in the training text}.

        Empty if all samples are shorter than a span.
        """
        distinct = {span for sample in samples for span in spans(sample)}
        if not distinct:
            return {}
        return {f"new_{SPAN_CHARACTERS}grams": sum(span not in self.training for span in distinct) / len(distinct)}

    def novelty_and_diversity(self, samples: Sequence[str]) -> tuple[float, float]:
        """(new spans / distinct spans, distinct spans / all spans) of the samples."""
        found = [span for sample in samples for span in spans(sample)]
        distinct = set(found)
        return len(distinct - self.training_spans) / max(1, len(distinct)), len(distinct) / max(1, len(found))

    @cached_property
    def training_spans(self) -> set[str]:
        """All spans of the training text. For many samples this is faster than a search in the text for each span."""
        return set(spans(self.training))

    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        copies = [len(self.longest_copy(sample)) for sample in samples]
        return {"samples": len(samples), **self.shares(samples), "longest_copy": max(copies)}

    def sentence(self, figures: dict[str, float]) -> str:
        new = figures.get(f"new_{SPAN_CHARACTERS}grams")
        share = "" if new is None else f"{new:.0%} of the spans of {SPAN_CHARACTERS} characters are new; "
        return f"{of_samples(figures)}: {share}the longest copied span has {figures['longest_copy']} characters"

    def mark(self, sample: str) -> str:
        """The mark of a sample: its longest span that is copied from the training text."""
        copy = self.longest_copy(sample)
        return f"longest copied span, {len(copy)} characters: {copy!r}"

    def mark_all(self, texts: Sequence[str], generated: Sequence[str], max_tokens: int) -> list[str]:
        return [mark_below(text, self.mark(new)) for text, new in zip(texts, generated, strict=True)]


def spans(text: str) -> Iterator[str]:
    """All spans of SPAN_CHARACTERS in a text, overlapping."""
    return (text[i : i + SPAN_CHARACTERS] for i in range(len(text) - SPAN_CHARACTERS + 1))


def mark_below(text: str, mark: str) -> str:
    """The text, indented, and a line with its mark, which is not."""
    return f"{indented(text)}\n[{mark}]\n"


def on_one_line(text: str) -> str:
    """A document as it is, or the beginning of one that has several lines."""
    return text if "\n" not in text else repr(text[:MAX_NEAREST]) + "…" * (len(text) > MAX_NEAREST)


def mean_and_sd(texts: Sequence[str]) -> tuple[float, float]:
    """The mean and the standard deviation of the lengths of the texts, in characters."""
    counts = Counter(map(len, texts))  # few lengths, of many texts
    mean = sum(length * n for length, n in counts.items()) / len(texts)
    return mean, math.sqrt(sum(n * (length - mean) ** 2 for length, n in counts.items()) / len(texts))


def of_samples(figures: dict[str, float]) -> str:
    n = int(figures["samples"])
    return f"of {n:,} {'sample' if n == 1 else 'samples'}"


def build_novelty(data: Data) -> Novelty:
    """The novelty measure for the mode of a corpus: of whole documents, or of spans of a running text."""
    if data.mode.ends_at_bos:
        return DocumentNovelty(data.train.documents, data.val.documents, data.mode.one_line)
    return SpanNovelty(data.train.text)
