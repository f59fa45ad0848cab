"""The n-gram baselines of a loss: uniform probabilities, and unigrams to 5-grams with Kneser-Ney smoothing.

An n-gram model predicts a token from the n - 1 tokens before it, with interpolated Kneser-Ney smoothing (Ney, Essen &
Kneser 1994; Chen & Goodman 1999, section 2.7). It counts the n-grams of the training tokens and needs no gradients. A
transformer with a higher loss has learnt nothing that needs a transformer.
"""

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microgpt.data.cache import cache_folder
from microgpt.data.encoding import smallest_dtype
from microgpt.data.loading import Data
from microgpt.data.progress import progress
from microgpt.data.splits import Split
from microgpt.runs.directory import write_atomically

log = logging.getLogger(__name__)

NAMES: tuple[str, ...] = ("uniform", "unigram", "bigram", "trigram", "4-gram", "5-gram")
MAX_TRAINING_TOKENS = 20_000_000  # of a larger corpus, only the last tokens are counted
MAX_WINDOWS = 800_000  # distinct ones; of a split with more, only the last tokens are counted
TOKENS_AT_ONCE = 1 << 18  # whose windows are sorted at once, to bound the memory
MIN_TABLE_CODES = 1 << 20  # a table of all possible codes with so many entries is always small enough


@dataclass(frozen=True)
class Windows:
    """The distinct windows of a sequence of tokens: each token with the tokens before it, and how often it occurs.

    A window holds its tokens plus 1, the last one in the last column; 0 stands for what is not in its context.
    """

    tokens: np.ndarray  # (n_windows, width) uint8, int16 or int32
    counts: np.ndarray  # (n_windows,) int32


def count_windows(tokens: np.ndarray, vocab_size: int, boundary: int | None, width: int) -> Windows:
    """The windows of all tokens (N,) but the first, which is only context. A context ends at a `boundary` token.

    The tokens are counted in parts, from the last to the first, until MAX_WINDOWS distinct windows are found: the
    memory is that of the distinct windows.
    """
    # The code of a window is a number with the base vocab_size + 1. If codes need more than 64 bits they are hashes
    # modulo 2^64, whose factors are odd: two of 10 million windows then have the same hash with probability 3e-6.
    base = vocab_size + 1
    exact = base**width < 1 << 64
    factors = [base**k if exact else (0x9E3779B97F4A7C15 * (2 * k + 1) ** 9) % (1 << 64) | 1 for k in range(width)]
    dtype = np.uint32 if base**width < 1 << 32 else np.uint64
    # (codes, counts, index of the last token) of the distinct windows; the index is not needed for exact codes
    found: list[tuple[np.ndarray, ...]] = [(np.empty(0, dtype), np.empty(0, np.int32), np.empty(0, np.int64))]
    for stop in range(len(tokens), 1, -TOKENS_AT_ONCE):  # the last tokens first, since they are those that are counted
        first = max(1, stop - TOKENS_AT_ONCE)
        codes = sum_codes(tokens, first, stop, boundary, np.array(factors, dtype))
        if exact:
            distinct, counts = np.unique(codes, return_counts=True)
            found.append((distinct, counts.astype(np.int32), np.empty(0, np.int64)))
        else:
            distinct, index, counts = np.unique(codes, return_index=True, return_counts=True)
            found.append((distinct, counts.astype(np.int32), index + first))
        pending = sum(len(codes) for codes, *_ in found[1:])
        if pending > min(max(TOKENS_AT_ONCE, len(found[0][0]) // 2), MAX_WINDOWS - len(found[0][0])):
            found = [merge(found)]
        if len(found[0][0]) > MAX_WINDOWS:
            break
    codes, counts, last = merge(found)
    columns = np.empty((len(codes), width), smallest_dtype(vocab_size))
    for k in range(width):
        if exact:
            codes, columns[:, width - 1 - k] = np.divmod(codes, np.array(base, dtype))
        else:
            columns[:, width - 1 - k] = context_tokens(tokens, last, boundary, k)
    return Windows(columns, counts)


def sum_codes(tokens: np.ndarray, first: int, stop: int, boundary: int | None, factors: np.ndarray) -> np.ndarray:
    """(stop - first,) the codes of the windows that end at the tokens from `first` to `stop` - 1."""
    before = max(0, first - len(factors))
    part = tokens[before:stop]
    values = part.astype(factors.dtype) + factors.dtype.type(1)
    starts = np.zeros(len(part), bool) if boundary is None else np.append(False, part[:-1] == boundary)
    starts[0] |= before == 0
    codes, inside = values * factors[0], ~starts
    for k in range(1, min(len(factors), len(part))):
        codes[k:] += values[:-k] * factors[k] * inside[k:]
        inside[k:] &= ~starts[:-k]  # ends the context of all later columns
    return codes[first - before :]


def context_tokens(tokens: np.ndarray, last: np.ndarray, boundary: int | None, k: int) -> np.ndarray:
    """(n,) the tokens plus 1 that are `k` before the indices `last` (n,), or 0 where the context is shorter."""
    inside = np.ones(len(last), bool)
    for j in range(k):
        inside &= last - j > 0
        if boundary is not None:
            inside &= tokens[np.maximum(last - j - 1, 0)] != boundary
    return np.where(inside, tokens[np.maximum(last - k, 0)].astype(np.int64) + 1, 0)


def merge(found: Sequence[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """The tables (codes, counts, last) as one, in which each code occurs once."""
    codes, counts, last = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = codes.argsort(kind="stable")
    codes = codes[order]
    new = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])) if len(codes) else order
    return codes[new], np.add.reduceat(counts[order], new, dtype=np.int32), last[order][new] if len(last) else last


@dataclass(frozen=True)
class NGrams:
    """The n-grams of one length n at the ends of some windows. Distinct contexts and n-grams have ids from 0."""

    context: Tensor  # (n_windows,) int32, the id of the context in each window: of the n - 1 tokens before the last
    ngram: Tensor  # (n_windows,) int32, the id of the n-gram in each window
    context_of: Tensor  # (n_ngrams,) int32, the id of the context of each n-gram
    occurrences: Tensor  # (n_ngrams,) int32, how often each n-gram occurs in the training tokens
    continuations: Tensor  # (n_ngrams,) int32, how many distinct tokens precede it there; 0 for the longest n-grams


def number_codes(codes: Tensor, size: int) -> tuple[Tensor, int]:
    """Ids (N,) int32 without gaps, in the order of the codes, and the number of distinct codes.

    codes (N,) int64 are from 0 to `size` - 1; equal codes have equal ids: [7, 3, 7] → [1, 0, 1], 2.
    """
    if size > max(len(codes), MIN_TABLE_CODES):
        if size < 1 << 31:
            codes = codes.int()
        ordered, order = codes.sort()  # less memory than torch.unique takes
        is_new = F.pad(ordered[1:] != ordered[:-1], (1, 0))
        ids = torch.empty(len(codes), dtype=torch.int32)
        ids[order] = is_new.cumsum(0, dtype=torch.int32)
        return ids, int(ids.max()) + 1
    occurs = torch.zeros(size, dtype=torch.bool).index_fill_(0, codes, True)
    # The id of a code is the number of smaller codes that occur. Faster than to sort the codes, as `unique` does.
    ids = occurs.cumsum(0, dtype=torch.int32).sub_(1)
    return ids[codes], int(ids[-1]) + 1


def count_ngrams(windows: Tensor, counts: Tensor, base: int, max_order: int) -> Iterator[NGrams]:
    """The n-grams of lengths 1 to `max_order` in windows (n_windows, width) of tokens below `base`, shortest first.

    counts (n_windows,) int32: how often each window occurs in the training tokens. The `continuations` of n-grams are
    known when the next longer ones are.
    """
    shorter = None
    for n in range(1, max_order + 1):
        columns = windows.T[windows.size(1) - n :]  # the last n, each (n_windows,)
        context, n_contexts = torch.zeros(len(windows), dtype=torch.int32), 1
        for column in columns[:-1]:
            context, n_contexts = number_codes(context.long().mul_(base).add_(column), n_contexts * base)
        ngram, n_ngrams = number_codes(context.long().mul_(base).add_(columns[-1]), n_contexts * base)
        occurrences = torch.zeros(n_ngrams, dtype=torch.int32).index_add_(0, ngram, counts)
        # The scatter writes an n-gram's entry once for each window, always with the same value.
        context_of = torch.zeros(n_ngrams, dtype=torch.int32).index_put_((ngram,), context)
        if shorter is not None:
            # suffix (n_ngrams,): the id of each n-gram without its first token, which is one of the next shorter order.
            # How many distinct n-grams share a suffix is how many distinct tokens precede that suffix.
            suffix = torch.zeros(n_ngrams, dtype=torch.int32).index_put_((ngram,), shorter.ngram)
            continuations = torch.bincount(suffix[occurrences > 0], minlength=len(shorter.continuations))
            shorter.continuations.add_(continuations)
        shorter = NGrams(context, ngram, context_of, occurrences, torch.zeros_like(occurrences))
        yield shorter


def baseline_losses(train: Windows, scored: Windows, vocab_size: int, names: Sequence[str] = NAMES) -> dict[str, float]:
    """The mean loss in nats per token of each baseline on the `scored` windows; `names` are the first of NAMES."""
    max_order, n = len(names) - 1, len(train.counts)
    windows = torch.from_numpy(np.concatenate([train.tokens, scored.tokens]))
    counts = torch.from_numpy(np.concatenate([train.counts, np.zeros_like(scored.counts)]))
    weights = torch.from_numpy(scored.counts).double() / int(scored.counts.sum())  # (n_scored,)
    losses = {"uniform": math.log(vocab_size)}
    # From the uniform probability up to the longest n-grams, shortest first: lower (n_scored,). The longest n-grams of
    # a model are counted by their occurrences, the shorter ones by their continuations.
    lower, shorter = torch.full((len(weights),), 1 / vocab_size, dtype=torch.float64), None
    for name, ngrams in zip(names[1:], count_ngrams(windows, counts, vocab_size + 1, max_order), strict=True):
        if shorter is not None:
            lower = interpolate(shorter, shorter.continuations, n, lower)
        losses[name] = -(interpolate(ngrams, ngrams.occurrences, n, lower).log() @ weights).item()
        shorter = ngrams
    return losses


def interpolate(ngrams: NGrams, count: Tensor, n_train: int, lower: Tensor) -> Tensor:
    """The probabilities (n_scored,) float64 of the last tokens of the scored windows, each given its context.

    p(token | context) = max(count - D, 0) / total + D × followers / total × lower (Chen & Goodman 1999, section 2.7)

    `count` (n_ngrams,) is the count of each n-gram: its occurrences or its continuations. `total` is the sum of the
    counts of a context, and `followers` the number of distinct tokens after it. `lower` (n_scored,) float64 is the
    probability of the token given a context that is shorter by one token. The scored windows are those from `n_train`.
    """
    # D = n₁ / (n₁ + 2 n₂), with n₁ n-grams of count 1 and n₂ of count 2 (Ney, Essen & Kneser 1994).
    n1, n2 = int(torch.count_nonzero(count == 1)), int(torch.count_nonzero(count == 2))
    discount = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
    n_contexts = int(ngrams.context_of.max()) + 1
    none = torch.zeros(n_contexts, dtype=torch.int32)
    context, ngram = ngrams.context[n_train:], ngrams.ngram[n_train:]  # (n_scored,) ids
    total = none.index_add(0, ngrams.context_of, count)[context]  # (n_scored,)
    followers = none.index_add(0, ngrams.context_of, (count > 0).int())[context]
    p = ((count[ngram].double() - discount).clamp_min(0) + discount * followers.double() * lower) / total
    # A context that does not occur in training has total 0 and p nan: the shorter context alone decides.
    return torch.where(total > 0, p, lower)


def split_windows(data: Data, split: Split, width: int = len(NAMES) - 1) -> Windows:
    """The windows of a split, of a large training split those of its last MAX_TRAINING_TOKENS tokens."""
    boundary = data.mode.stop_token(data.tokenizer)
    tokens = split.last_tokens(MAX_TRAINING_TOKENS) if split is data.train else split.tokens.numpy()
    return count_windows(tokens, data.tokenizer.vocab_size, boundary, width)


def corpus_baselines(data: Data) -> dict[str, float]:
    """The losses of all baselines on the validation split, in nats per token, by name.

    They are computed once for each corpus and split, and then read from the user's cache directory.
    """
    split = hashlib.sha256(data.corpus.fingerprint.encode())
    split.update(data.val.tokens.numpy().data)
    cached = cache_folder() / "baselines" / f"5-{split.hexdigest()[:16]}.json"
    with contextlib.suppress(OSError, ValueError):
        losses = json.loads(cached.read_text())
        if list(losses) == list(NAMES):
            return losses
    with progress("counting n-grams"):
        train, val = split_windows(data, data.train), split_windows(data, data.val)
        losses = baseline_losses(train, val, data.tokenizer.vocab_size)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(cached, json.dumps(losses))
    except OSError as error:
        log.debug("the losses of the baselines could not be written to the cache: %s", error)
    return losses


def verdict(loss: float, losses: Mapping[str, float]) -> str:
    """A clause that names the best baseline that a loss does not beat, and the nearest one that it beats."""
    better = [name for name in NAMES if losses[name] <= loss]
    worse = [name for name in NAMES if losses[name] > loss]
    if not better:
        return f"better than all n-gram baselines, up to the {NAMES[-1]} ({min(losses.values()):.3f})"
    best = min(better, key=losses.__getitem__)
    clause = f"not as good as the {best} baseline ({losses[best]:.3f})"
    if not worse:
        return clause
    nearest = min(worse, key=losses.__getitem__)
    return f"better than the {nearest} baseline ({losses[nearest]:.3f}), {clause}"
