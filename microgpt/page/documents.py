"""Which documents a corpus holds, in so few bits that a page can hold them: a Bloom filter (Bloom 1970).

What it does not hold is certainly new. What it holds is in the corpus, except for a small share, which is known.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgpt.data.splits import DocumentSplit
from microgpt.page.weights import to_base64

BITS_PER_DOCUMENT = 12  # with 8 hashes, 0.3 % of the documents that it does not hold are taken for known
N_HASHES = 8
FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class DocumentFilter:
    """A Bloom filter of `n_documents` documents: `bits` (n_bits,) bool."""

    bits: np.ndarray
    n_documents: int

    @property
    def false_positives(self) -> float:
        """The expected share of other documents that it takes for its own."""
        return float(self.bits.mean()) ** N_HASHES

    def as_json(self) -> dict[str, Any]:
        return {
            "bits": to_base64(np.packbits(self.bits, bitorder="little")),
            "n_bits": len(self.bits),
            "n_hashes": N_HASHES,
            "documents": self.n_documents,
            "false_positives": self.false_positives,
        }


def filter_of(split: DocumentSplit) -> DocumentFilter:
    """The filter of the documents of a split. The reader is in `text.js`."""
    first, sizes = split.spans
    hashes = hash_tokens(split.corpus.encoded.tokens, first + 1, sizes)  # without the BOS before each
    bits = np.zeros(math.ceil(BITS_PER_DOCUMENT * len(hashes)) + 8, bool)
    # Double hashing (Kirsch & Mitzenmacher 2006): the lower half of the hash, plus multiples of the upper.
    lower, upper = hashes & np.uint64(0xFFFFFFFF), hashes >> np.uint64(32)
    for i in range(N_HASHES):
        bits[(lower + np.uint64(i) * upper) % np.uint64(len(bits))] = True
    return DocumentFilter(bits, len(hashes))


def hash_tokens(tokens: np.ndarray, first: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n_documents,) uint64: a hash of the `sizes` tokens of each document, from the index `first` on."""
    hashes = np.zeros(len(sizes), np.uint64)
    order = np.argsort(-sizes, kind="stable")  # longest first: those that have a token `i` stand before the others
    first, sizes = first[order], sizes[order]
    for i in range(int(sizes.max(initial=0))):
        n = int(np.searchsorted(-sizes, -i))  # documents of more than i tokens
        token = tokens[first[:n] + i].astype(np.uint64) + np.uint64(1)
        hashes[:n] = mix((hashes[:n] ^ token) * FACTOR)
    result = np.empty_like(hashes)
    result[order] = hashes
    return result


def mix(x: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea & Flood 2014); arithmetic is modulo 2^64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
