"""Which spans of some samples are in a training text, and the longest of each sample that is.

The text may be long, so it is neither decoded nor indexed: one pass over its tokens compares all spans at once. A pass
over 100 million characters takes about a second.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from microgpt.data.encoding import smallest_dtype

TOKENS_AT_ONCE = 1 << 20
SEEDS = (8, 4, 2, 1)  # characters of the spans with which a search begins: the next number only where none is found
FACTORS = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], np.uint64)
TABLE_BITS = 20  # of a hash, by which most of the text is ruled out


class Level(NamedTuple):
    """All spans of one length in the samples: where each begins, and its class. Equal spans have the same class."""

    starts: np.ndarray  # (n_spans,)
    classes: np.ndarray  # (n_spans,)
    # (n_classes,) ascending: the class of the span without its last character, times `base`, plus this character
    keys: np.ndarray


class TrainingText:
    """A text as tokens (N,), ids of `chars`. The id len(chars), of a BOS, stands for `bos_text`."""

    def __init__(self, tokens: np.ndarray, chars: str, bos_text: str = "\n\n") -> None:
        self.tokens, self.bos = tokens, len(chars)
        self.ids = {char: i for i, char in enumerate(chars)}
        for char in bos_text:
            self.ids.setdefault(char, len(self.ids))
        self.base = len(self.ids)
        self.dtype = np.dtype(smallest_dtype(self.base))
        self.separator = np.array([self.ids[char] for char in bos_text], self.dtype)

    def contained(self, spans: Sequence[str], seed: int = SEEDS[0]) -> np.ndarray:
        """(n_spans,) bool: which of these spans of `seed` characters are in the text."""
        level = self.first_level(self.encode(spans), seed)
        found = np.zeros(len(level.starts) + 1, bool)
        for _, _, classes in self.matches(spans, level, seed, 0):
            found[classes] = True
        result = np.zeros(len(spans), bool)
        result[level.starts // (seed + 1)] = found[level.classes]  # each span is followed by a separator
        return result

    def longest_copies(self, samples: Sequence[str]) -> list[str]:
        """The longest span of each sample that is in the text, the first one if there are several."""
        copies = [""] * len(samples)
        for seed in SEEDS:
            which = [i for i, copy in enumerate(copies) if not copy]
            for i, copy in zip(which, self.longest_from([samples[i] for i in which], seed), strict=True):
                copies[i] = copy
        return copies

    def longest_from(self, samples: Sequence[str], seed: int) -> list[str]:
        """The same for copies of `seed` characters or more; empty where there is none."""
        encoded = self.encode(samples)
        levels, found = [self.first_level(encoded, seed)], []
        for characters, places, classes in self.matches(samples, levels[0], seed, max(map(len, samples), default=0)):
            length = seed
            while len(places):
                n = length - seed  # of this level
                if n == len(found):
                    found.append(np.zeros(len(levels[n].starts) + 1, bool))
                found[n][classes] = True
                if n + 1 == len(levels):
                    levels.append(self.next_level(encoded, levels[n], length))
                inside = places + length < len(characters)
                places, classes = places[inside], classes[inside]
                places, classes = follow(levels[n + 1].keys, places, classes * self.base + characters[places + length])
                length += 1
        copies = [""] * len(samples)
        ends = np.cumsum([len(sample) + 1 for sample in samples])
        for n, is_found in enumerate(found):  # shortest first
            starts = levels[n].starts[is_found[levels[n].classes]]
            owners = np.searchsorted(ends, starts, "right")
            for owner, i in zip(*np.unique(owners, return_index=True), strict=True):
                start = int(starts[i]) - (int(ends[owner - 1]) if owner else 0)
                copies[owner] = samples[owner][start : start + seed + n]
        return copies

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """The ids of the characters of all texts, each text followed by -1. A character without an id is -1 too."""
        return np.array([self.ids.get(char, -1) for text in texts for char in (*text, "")], np.int64)

    def first_level(self, encoded: np.ndarray, seed: int) -> Level:
        if len(encoded) < seed:
            return Level(*(np.empty(0, np.int64),) * 3)
        windows = np.lib.stride_tricks.sliding_window_view(encoded, seed)
        starts = np.flatnonzero((windows >= 0).all(1))
        hashes = hash_windows(windows[starts].astype(self.dtype).reshape(-1), seed)
        keys, classes = np.unique(hashes, return_inverse=True)
        return Level(starts, classes.reshape(-1), keys)

    def next_level(self, encoded: np.ndarray, level: Level, length: int) -> Level:
        """The spans of `length` + 1 characters; `level` holds those of `length`."""
        last = encoded[level.starts + length]
        keys, classes = np.unique(level.classes[last >= 0] * self.base + last[last >= 0], return_inverse=True)
        return Level(level.starts[last >= 0], classes.reshape(-1), keys)

    def expand(self, tokens: np.ndarray) -> tuple[np.ndarray, int]:
        """The characters (n,) of some tokens, and how many of them the first TOKENS_AT_ONCE tokens stand for."""
        bos, added = np.flatnonzero(tokens == self.bos), len(self.separator) - 1
        characters = np.insert(tokens.astype(self.dtype), np.repeat(bos, added), 0)  # before each BOS
        begins = bos + np.arange(len(bos)) * added
        characters[begins[:, None] + np.arange(added + 1)] = self.separator
        return characters, TOKENS_AT_ONCE + added * int(np.searchsorted(bos, TOKENS_AT_ONCE))

    def matches(
        self, samples: Sequence[str], level: Level, seed: int, margin: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Parts of the text as ids of characters, where in them a span of `level` begins, and the classes of these.

        The last `margin` characters of a part are those with which the next one begins.
        """
        if not len(level.keys):
            return
        shift = np.uint64(64 - TABLE_BITS)
        table = np.zeros(1 << TABLE_BITS, bool)
        table[level.keys >> shift] = True
        for first in range(0, len(self.tokens), TOKENS_AT_ONCE):
            part = self.tokens[first : first + TOKENS_AT_ONCE + margin + seed]
            characters, own = self.expand(part)
            for offset in range(seed):  # the windows that begin at offset, offset + seed, …
                end = offset + (min(own + seed, len(characters)) - offset) // seed * seed
                hashes = hash_windows(characters[offset:end], seed)
                likely = np.flatnonzero(table[hashes >> shift])
                places, classes = follow(level.keys, likely * seed + offset, hashes[likely])
                is_own = places < own
                yield characters, places[is_own], classes[is_own]


def hash_windows(characters: np.ndarray, size: int) -> np.ndarray:
    """(n,) uint64: a number for each window of `size` characters; the windows (n · size,) follow one another.

    Windows of 8 bytes or less have different numbers. Two longer ones of a billion have the same number with
    probability 0.03.
    """
    n_bytes = size * characters.itemsize
    words = np.ascontiguousarray(characters).view(f"u{min(8, n_bytes)}").reshape(-1, max(1, n_bytes // 8))
    hashes = words[:, 0] * FACTORS[0]
    for i in range(1, words.shape[1]):
        hashes = (hashes ^ (hashes >> np.uint64(29))) * FACTORS[i % len(FACTORS)] + words[:, i]
    return hashes * FACTORS[1] if words.shape[1] > 1 else hashes


def follow(keys: np.ndarray, places: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places (n,) for which the number in `wanted` (n,) is among `keys`, and its index there."""
    if not len(keys) or not len(places):
        return places[:0], np.empty(0, np.int64)
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    is_key = keys[index] == wanted
    return places[is_key], index[is_key]
