"""Is it new? What a model writes, held against what it has read, so that nobody takes a quotation for an invention.

Kept apart from sampling because it knows texts alone: no model, no tokens.
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

GRAM = 8  # characters: long enough that a new one says something, short enough that there are some


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


class Documents:
    """Holds samples of a discrete corpus against its training and its held-out documents."""

    def __init__(self, training: Sequence[str], held_out: Sequence[str]) -> None:
        self.training, self.held_out = training, held_out
        self.kinds = dict.fromkeys(held_out, "held-out") | dict.fromkeys(training, "training")

    def mark(self, sample: str) -> Mark:
        if kind := self.kinds.get(sample):
            return Mark(kind)
        found = process.extractOne(sample, self.training, scorer=Levenshtein.distance, processor=None)
        assert found is not None, "a corpus has documents"
        return Mark("new", found[0], int(found[1]))

    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """The shares of samples that are new, in the training set, in the held-out set, and repeat an earlier one."""
        tally = Counter(self.kinds.get(sample, "new") for sample in samples)
        return {
            "new": tally["new"] / len(samples),
            "training": tally["training"] / len(samples),
            "held_out": tally["held-out"] / len(samples),
            "repeated": 1 - len(set(samples)) / len(samples),
        }

    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        """`shares`, with what they are to be held against, and the lengths in characters.

        `training_if_not_memorised`: the held-out hits, times how much larger the training set is. A model that knows
        what such documents look like, and none of them by heart, hits both sets at the same rate a document.
        """
        shares = self.shares(samples)
        base = shares["held_out"] * len(self.training) / len(self.held_out)
        lengths = {"length": [len(s) for s in samples], "corpus_length": [len(d) for d in self.training]}
        figures = {f"{name}_mean": statistics.fmean(values) for name, values in lengths.items()}
        figures |= {f"{name}_sd": statistics.pstdev(values) for name, values in lengths.items()}
        return {"samples": len(samples), **shares, "training_if_not_memorised": min(1.0, base), **figures}


class Prose:
    """Holds samples of a running text against the part of it that training has read."""

    def __init__(self, training: str) -> None:
        self.training = training
        self.copies: dict[str, str] = {}

    def longest_copy(self, sample: str) -> str:
        """The longest span of `sample` that the training text holds word for word."""
        if sample in self.copies:
            return self.copies[sample]
        best = ""
        for start in range(len(sample)):
            # Only what is longer than the best so far is asked for: len(sample) + len(best) searches in all.
            while start + len(best) < len(sample) and sample[start : start + len(best) + 1] in self.training:
                best = sample[start : start + len(best) + 1]
        self.copies[sample] = best
        return best

    def shares(self, samples: Sequence[str]) -> dict[str, float]:
        """The share of the samples' different spans of GRAM characters that the training text does not hold.

        Empty if there is no such span.
        """
        grams = {sample[i : i + GRAM] for sample in samples for i in range(len(sample) - GRAM + 1)}
        return {f"new_{GRAM}grams": sum(gram not in self.training for gram in grams) / len(grams)} if grams else {}

    def summary(self, samples: Sequence[str]) -> dict[str, float]:
        copies = [len(self.longest_copy(sample)) for sample in samples]
        return {"samples": len(samples), **self.shares(samples), "longest_copy": max(copies)}

    def mark(self, sample: str) -> str:
        copy = self.longest_copy(sample)
        return f"longest copied span, {len(copy)} characters: {copy!r}"


def sentence(figures: dict[str, float]) -> str:
    """The final figures of either meter in one line."""
    n = f"of {figures['samples']:,} sample{'s' * (figures['samples'] != 1)}"
    if "longest_copy" in figures:
        new = figures.get(f"new_{GRAM}grams")
        share = "" if new is None else f"{new:.0%} of the spans of {GRAM} characters are new; "
        return f"{n}: {share}the longest copied span has {figures['longest_copy']}"
    by_chance = f"{figures['training_if_not_memorised']:.0%} without learning by heart"
    return (
        f"{n}, {figures['new']:.0%} are new, {figures['training']:.0%} in the training set ({by_chance}),"
        f" {figures['held_out']:.1%} in the held-out set; {figures['repeated']:.0%} repeat another"
    )
