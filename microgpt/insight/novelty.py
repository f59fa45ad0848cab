"""Novelty: which samples of a model are new, and which it has copied from its training set.

Knows texts alone: no model, no tokens. How samples are marked, counted and summed up stands here and nowhere else.
"""

import statistics
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from microgpt.data.loading import Data

SPAN = 8  # characters: long enough that a new span says something, short enough that there are some
MAX_SAMPLE_TOKENS = 500  # of a sample that is to come to its end
FINAL_FACTOR = 5  # times as many samples at the end of a run as at a validation


@dataclass(frozen=True)
class Mark:
    """What a sample is: `training` or `held-out` if that set holds it, else `new`, with the nearest training document.

    `distance` is the number of characters to insert, delete or change (Levenshtein 1966).
    """

    kind: str
    nearest: str = ""
    distance: int = 0

    def __str__(self) -> str:
        if self.kind != "new":
            return f"in the {self.kind} set"
        return f"new; {self.distance} from {self.nearest}"


class Novelty(ABC):
    """Compares samples with the corpus that a model was trained on."""

    @abstractmethod
    def sample_size(self, n: int) -> tuple[int, int]:
        """How many samples, and of how many tokens, measure what `n` samples are to measure."""

    @abstractmethod
    def final_size(self, n: int) -> tuple[int, int] | None:
        """The same at the end of a run; None if the run's own samples do."""

    @abstractmethod
    def metric(self, samples: Sequence[str]) -> dict[str, float]:
        """The share of new samples, under its name; empty if it cannot be told."""

    @abstractmethod
    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """That and further shares."""

    @abstractmethod
    def novelty_and_diversity(self, samples: Sequence[str]) -> tuple[float, float]:
        """The share of the samples that is new, and the share that repeats nothing."""

    @abstractmethod
    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        """The final figures, for `result.json`."""

    @abstractmethod
    def sentence(self, figures: dict[str, float]) -> str:
        """The final figures in one line."""

    @abstractmethod
    def mark_all(self, texts: Sequence[str], written: Sequence[str], max_tokens: int) -> list[str]:
        """The texts, each with its mark. `written` are the same without their prompts."""


class DocumentNovelty(Novelty):
    """For samples that are whole documents: each stands in the training set, in the held-out set, or is new."""

    def __init__(self, training: Sequence[str], held_out: Sequence[str]) -> None:
        self.training, self.held_out = training, held_out
        self.kinds = dict.fromkeys(held_out, "held-out") | dict.fromkeys(training, "training")

    def sample_size(self, n: int) -> tuple[int, int]:
        return n, min(MAX_SAMPLE_TOKENS, 1 + max(map(len, self.training)))

    def final_size(self, n: int) -> tuple[int, int]:
        return self.sample_size(FINAL_FACTOR * n)

    def mark(self, sample: str) -> Mark:
        if kind := self.kinds.get(sample):
            return Mark(kind)
        found = process.extractOne(sample, self.training, scorer=Levenshtein.distance, processor=None)
        assert found is not None, "a corpus has documents"
        return Mark("new", found[0], int(found[1]))

    def metric(self, samples: Sequence[str]) -> dict[str, float]:
        return {"new": self.shares(samples)["new"]}

    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """The shares of samples that are new, in the training set, in the held-out set, and repeat an earlier one."""
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
        """`shares`, with what they are to be compared with, and the lengths in characters.

        `training_if_not_memorised`: the held-out hits, times how much larger the training set is. A model that has
        learnt what such documents look like, and memorised none, hits both sets at the same rate per document.
        """
        shares = self.shares(samples)
        expected = shares["held_out"] * len(self.training) / len(self.held_out)
        lengths = {"length": [len(s) for s in samples], "corpus_length": [len(d) for d in self.training]}
        figures = {f"{name}_mean": statistics.fmean(values) for name, values in lengths.items()}
        figures |= {f"{name}_sd": statistics.pstdev(values) for name, values in lengths.items()}
        return {"samples": len(samples), **shares, "training_if_not_memorised": min(1.0, expected), **figures}

    def sentence(self, figures: dict[str, float]) -> str:
        expected = f"{figures['training_if_not_memorised']:.0%} expected if none is memorised"
        return (
            f"{of_samples(figures)}, {figures['new']:.0%} are new, {figures['training']:.0%} in the training set"
            f" ({expected}), {figures['held_out']:.1%} in the held-out set; {figures['repeated']:.0%} repeat another"
        )

    def mark_all(self, texts: Sequence[str], written: Sequence[str], max_tokens: int) -> list[str]:
        """A line each; a sample that was cut off after `max_tokens` is neither known nor new."""
        width = min(24, max(map(len, texts)))
        return [
            f"{text:<{width}}  [{self.mark(text) if len(new) < max_tokens else f'cut off after {max_tokens}'}]"
            for text, new in zip(texts, written, strict=True)
        ]


class SpanNovelty(Novelty):
    """For samples of a running text: which of their spans the training text does not hold."""

    def __init__(self, training: str) -> None:
        self.training = training
        self.copies: dict[str, str] = {}

    def sample_size(self, n: int) -> tuple[int, int]:
        return 1, n

    def final_size(self, n: int) -> None:
        return None

    def longest_copy(self, sample: str) -> str:
        """The longest span of `sample` that the training text holds word for word."""
        if sample in self.copies:
            return self.copies[sample]
        best = ""
        for start in range(len(sample)):
            # Only what is longer than the best so far is searched for: len(sample) + len(best) searches in all.
            while start + len(best) < len(sample) and sample[start : start + len(best) + 1] in self.training:
                best = sample[start : start + len(best) + 1]
        self.copies[sample] = best
        return best

    def metric(self, samples: Sequence[str]) -> dict[str, float]:
        return self.shares(samples)

    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """The share of the samples' different spans of SPAN characters that the training text does not hold.

        Empty if there is no such span.
        """
        different = {span for sample in samples for span in spans(sample)}
        if not different:
            return {}
        return {f"new_{SPAN}grams": sum(span not in self.training for span in different) / len(different)}

    def novelty_and_diversity(self, samples: Sequence[str]) -> tuple[float, float]:
        """Of the samples' different spans, those that are new; of all their spans, those that are different."""
        found = [span for sample in samples for span in spans(sample)]
        different = set(found)
        return len(different - self.known_spans) / max(1, len(different)), len(different) / max(1, len(found))

    @cached_property
    def known_spans(self) -> set[str]:
        """All spans of the training text; for many samples quicker than to search the text for each of theirs."""
        return set(spans(self.training))

    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        copies = [len(self.longest_copy(sample)) for sample in samples]
        return {"samples": len(samples), **self.shares(samples), "longest_copy": max(copies)}

    def sentence(self, figures: dict[str, float]) -> str:
        new = figures.get(f"new_{SPAN}grams")
        share = "" if new is None else f"{new:.0%} of the spans of {SPAN} characters are new; "
        return f"{of_samples(figures)}: {share}the longest copied span has {figures['longest_copy']} characters"

    def mark(self, sample: str) -> str:
        copy = self.longest_copy(sample)
        return f"longest copied span, {len(copy)} characters: {copy!r}"

    def mark_all(self, texts: Sequence[str], written: Sequence[str], max_tokens: int) -> list[str]:
        """A text, and below it its mark and an empty line."""
        return [f"{text}\n[{self.mark(new)}]\n" for text, new in zip(texts, written, strict=True)]


def spans(text: str) -> Iterator[str]:
    return (text[i : i + SPAN] for i in range(len(text) - SPAN + 1))


def of_samples(figures: dict[str, float]) -> str:
    n = int(figures["samples"])
    return f"of {n:,} {'sample' if n == 1 else 'samples'}"


def build_novelty(data: Data) -> Novelty:
    """The measure that fits the samples of the corpus: whole documents, or excerpts of a running text."""
    if data.mode.ends_at_bos:
        return DocumentNovelty(data.train.documents, data.val.documents)
    return SpanNovelty(data.train.text)
