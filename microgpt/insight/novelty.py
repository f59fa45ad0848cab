"""Novelty: which samples of a model are new, and which are copies from its training set.

Works without a model. It holds all rules for the marks, the shares and the sentences.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.data.documents import indented
from microgpt.data.loading import Data
from microgpt.data.splits import DocumentSplit
from microgpt.insight.copies import TrainingText

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
    def prepare(self) -> None:
        """Compute what all comparisons need, which takes the most memory."""

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

    def __init__(self, training: DocumentSplit, held_out: DocumentSplit, one_line: bool = True) -> None:
        self.training, self.held_out, self.one_line = training, held_out, one_line

    def prepare(self) -> None:
        """Compute the hashes of all documents."""
        self.kinds([""])

    def sample_size(self, n: int) -> tuple[int, int]:
        return n, min(MAX_SAMPLE_TOKENS, 1 + max(self.training.lengths))

    def final_size(self, n: int) -> tuple[int, int]:
        return self.sample_size(FINAL_SAMPLES_FACTOR * n)

    def kinds(self, samples: Sequence[str]) -> list[str]:
        """The kind of each sample: training, held-out or new."""
        found = zip(self.training.contains(samples), self.held_out.contains(samples), strict=True)
        return ["training" if trained else "held-out" if held_out else "new" for trained, held_out in found]

    def mark(self, sample: str) -> Mark:
        """The mark of a sample."""
        return self.marks([sample])[sample]

    def marks(self, samples: Sequence[str]) -> dict[str, Mark]:
        """The mark of each sample. Of several nearest training documents, the mark has the first."""
        marks = {sample: Mark(kind) for sample, kind in zip(samples, self.kinds(samples), strict=True)}
        new = [sample for sample, mark in marks.items() if mark.kind == "new"]
        for i in range(0, len(new), SAMPLES_AT_ONCE):
            marks |= self.nearest(new[i : i + SAMPLES_AT_ONCE])
        return marks

    def nearest(self, samples: Sequence[str]) -> dict[str, Mark]:
        """The marks of new samples, with the nearest training document of each."""
        from rapidfuzz.distance import Levenshtein
        from rapidfuzz.process import cdist

        best = [Mark("new", distance=1 << 30)] * len(samples)
        for documents in self.training.text_parts():
            farthest = max(mark.distance for mark in best)  # a distance beyond it need not be known
            distances = cdist(samples, documents, scorer=Levenshtein.distance, score_cutoff=farthest, dtype="int32")
            for i, (row, j) in enumerate(zip(distances, distances.argmin(1), strict=True)):
                if row[j] < best[i].distance:
                    best[i] = Mark("new", documents[int(j)], int(row[j]))
        return dict(zip(samples, best, strict=True))

    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """The shares of samples that are new, in the training set, in the held-out set, and repeat another sample."""
        counts, n = Counter(self.kinds(samples)), len(samples)
        shares = {"new": counts["new"] / n, "training": counts["training"] / n, "held_out": counts["held-out"] / n}
        return shares | {"repeated": 1 - len(set(samples)) / n}

    def novelty_and_diversity(self, samples: Sequence[str]) -> tuple[float, float]:
        shares = self.shares(samples)
        return shares["new"], 1 - shares["repeated"]

    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        """The `shares`, the expected share in the training set, and the lengths in characters (mean and deviation).

        `training_if_not_memorised` is the share in the held-out set times the ratio of the sizes of both sets. A model
        that has memorised no document generates any document of either set with about the same probability.
        """
        shares = self.shares(samples)
        expected = shares["held_out"] * self.training.size / self.held_out.size
        mean, sd = mean_and_sd(Counter(map(len, samples)))
        corpus_mean, corpus_sd = mean_and_sd(self.training.lengths)
        figures = {"samples": len(samples), **shares, "training_if_not_memorised": min(1.0, expected)}
        figures |= {"length_mean": mean, "corpus_length_mean": corpus_mean}
        return figures | {"length_sd": sd, "corpus_length_sd": corpus_sd}

    def sentence(self, figures: dict[str, float]) -> str:
        expected = f"expected without memorisation: {figures['training_if_not_memorised']:.0%}"
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

    def __init__(self, training: TrainingText) -> None:
        self.training = training
        self.copies: dict[str, str] = {}

    def prepare(self) -> None:
        """Nothing: each comparison reads the whole text."""

    def sample_size(self, n: int) -> tuple[int, int]:
        return 1, n

    def final_size(self, n: int) -> None:
        return None

    def longest_copies(self, samples: Sequence[str]) -> list[str]:
        """The longest span of each sample, of any length, that is also in the training text."""
        unknown = [sample for sample in dict.fromkeys(samples) if sample not in self.copies]
        self.copies |= zip(unknown, self.training.longest_copies(unknown), strict=True)
        return [self.copies[sample] for sample in samples]

    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """{`new_8grams`: the share of the samples' distinct spans that are not in the training text}.

        Empty if all samples are shorter than a span.
        """
        distinct = list(dict.fromkeys(span for sample in samples for span in spans(sample)))
        return {self.metric: float((~self.training.contained(distinct)).mean())} if distinct else {}

    def novelty_and_diversity(self, samples: Sequence[str]) -> tuple[float, float]:
        """(new spans / distinct spans, distinct spans / all spans) of the samples."""
        found = [span for sample in samples for span in spans(sample)]
        return self.shares(samples).get(self.metric, 0.0), len(set(found)) / max(1, len(found))

    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        longest = max(map(len, self.longest_copies(samples)))
        return {"samples": len(samples), **self.shares(samples), "longest_copy": longest}

    def sentence(self, figures: dict[str, float]) -> str:
        new = figures.get(self.metric)
        share = "" if new is None else f"{new:.0%} of the spans of {SPAN_CHARACTERS} characters are new; "
        return f"{of_samples(figures)}: {share}the longest copied span has {figures['longest_copy']} characters"

    def mark_all(self, texts: Sequence[str], generated: Sequence[str], max_tokens: int) -> list[str]:
        marks = [f"longest copied span, {len(copy)} characters: {copy!r}" for copy in self.longest_copies(generated)]
        return [mark_below(text, mark) for text, mark in zip(texts, marks, strict=True)]


def spans(text: str) -> Iterator[str]:
    """All spans of SPAN_CHARACTERS in a text, overlapping."""
    return (text[i : i + SPAN_CHARACTERS] for i in range(len(text) - SPAN_CHARACTERS + 1))


def mark_below(text: str, mark: str) -> str:
    """The text, indented, and a line with its mark, which is not."""
    return f"{indented(text)}\n[{mark}]\n"


def on_one_line(text: str) -> str:
    """A document as it is, or the beginning of one that has several lines."""
    return text if "\n" not in text else repr(text[:MAX_NEAREST]) + "…" * (len(text) > MAX_NEAREST)


def mean_and_sd(lengths: Mapping[int, int]) -> tuple[float, float]:
    """The mean and the standard deviation of lengths; `lengths` has the number of texts of each length."""
    n_texts = sum(lengths.values())
    mean = sum(length * n for length, n in lengths.items()) / n_texts
    return mean, math.sqrt(sum(n * (length - mean) ** 2 for length, n in lengths.items()) / n_texts)


def of_samples(figures: dict[str, float]) -> str:
    n = int(figures["samples"])
    return f"of {n:,} {'sample' if n == 1 else 'samples'}"


def build_novelty(data: Data) -> Novelty:
    """The novelty measure for the mode of a corpus: of whole documents, or of spans of a running text."""
    train, val = data.train, data.val
    if isinstance(train, DocumentSplit) and isinstance(val, DocumentSplit):
        return DocumentNovelty(train, val, data.mode.one_line)
    tokens = train.tokens[1:].numpy()  # the first token is only context
    return SpanNovelty(TrainingText(tokens, data.tokenizer.chars, data.mode.bos_text))
