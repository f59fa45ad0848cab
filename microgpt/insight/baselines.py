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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from microgpt.data.cache import cache_folder
from microgpt.data.loading import Data
from microgpt.runs.directory import write_atomically

log = logging.getLogger(__name__)

NAMES: tuple[str, ...] = ("uniform", "unigram", "bigram", "trigram", "4-gram", "5-gram")
MAX_TRAINING_TOKENS = 20_000_000  # of a larger corpus, only the last tokens are counted
MAX_TABLE_CODES = 1 << 28  # entries of a table of booleans, one byte each: 256 MiB


@dataclass(frozen=True)
class NGrams:
    """The n-grams of one length n in a sequence of N tokens. Distinct contexts and distinct n-grams have ids from 0.

    The n-gram at position i is token i with its context, the n - 1 tokens before it.
    """

    context: Tensor  # (N,) int64, the id of the context at each position
    ngram: Tensor  # (N,) int64, the id of the n-gram at each position
    context_of: Tensor  # (n_ngrams,) int64, the id of the context of each n-gram
    occurrences: Tensor  # (n_ngrams,) int64, how often each n-gram occurs in the training tokens
    continuations: Tensor  # (n_ngrams,) int64, how many distinct tokens precede it there; 0 for the longest n-grams


def renumber(codes: Tensor, size: int) -> tuple[Tensor, int]:
    """Ids (N,) int64 without gaps, in the order of the codes, and the number of distinct codes.

    codes (N,) int64 are from 0 to `size` - 1; equal codes have equal ids: [7, 3, 7] → [1, 0, 1], 2.
    """
    if size > MAX_TABLE_CODES:
        distinct, ids = torch.unique(codes, return_inverse=True)
        return ids, len(distinct)
    occurs = torch.zeros(size, dtype=torch.bool).index_fill_(0, codes, True)
    # The id of a code is the number of smaller codes that occur. Faster than to sort the codes, as `unique` does.
    return (occurs.cumsum(0) - 1)[codes], int(occurs.sum())


def count_ngrams(tokens: Tensor, is_training: Tensor, starts: Tensor, vocab_size: int, max_order: int) -> list[NGrams]:
    """The n-grams of lengths 1 to `max_order` in tokens (N,) int64, shortest first.

    is_training (N,) bool: the positions that are counted. starts (N,) bool: the positions whose token has no context.
    """
    context, n_contexts = torch.zeros_like(tokens), 1  # a unigram has an empty context, with the id 0
    orders: list[NGrams] = []
    for _ in range(max_order):
        # (N,) context * vocab_size + token is a different number for each pair; `renumber` turns it into an id.
        ngram, n_ngrams = renumber(context * vocab_size + tokens, n_contexts * vocab_size)
        occurrences = torch.bincount(ngram[is_training], minlength=n_ngrams)  # (n_ngrams,)
        # The scatter writes an n-gram's entry once for each position, always with the same value.
        context_of = torch.zeros(n_ngrams, dtype=torch.int64).index_put_((ngram,), context)
        if orders:
            # suffix (n_ngrams,): the id of each n-gram without its first token, which is one of the next shorter order.
            # How many distinct n-grams share a suffix is how many distinct tokens precede that suffix.
            shorter = orders[-1]
            suffix = torch.zeros(n_ngrams, dtype=torch.int64).index_put_((ngram,), shorter.ngram)
            continuations = torch.bincount(suffix[occurrences > 0], minlength=len(shorter.continuations))
            shorter.continuations.add_(continuations)
        orders.append(NGrams(context, ngram, context_of, occurrences, torch.zeros_like(occurrences)))
        # The n tokens before position i are the n-gram at position i - 1. Ids shift by 1: 0 is the empty context.
        context, n_contexts = torch.where(starts, 0, 1 + ngram.roll(1)), n_ngrams + 1
    return orders


def baseline_losses(
    train: Tensor, scored: Tensor, vocab_size: int, boundary: int | None, names: Sequence[str] = NAMES
) -> dict[str, float]:
    """The mean loss in nats per token of each baseline, on all of `scored` except its first token.

    train (N,), scored (M,) are integers; `names` are the first of NAMES. A `boundary` token (the BOS between
    documents; None for a running text) is the first token that a context may hold, as for a model that reads one
    document at a time.
    """
    tokens = torch.cat((train, scored)).long()  # (N + M,), as are all masks below
    index = torch.arange(len(tokens))
    is_first = (index == 0) | (index == len(train))  # the first token of each part is only context
    is_training, is_scored = (index < len(train)) & ~is_first, (index > len(train)) & ~is_first
    starts = is_first if boundary is None else is_first | (tokens.roll(1) == boundary)
    orders = count_ngrams(tokens, is_training, starts, vocab_size, len(names) - 1)
    losses = {"uniform": math.log(vocab_size)}
    for order, name in enumerate(names[1:], 1):
        # From the uniform probability up to the longest n-grams, shortest first: p (n_scored,). The longest n-grams
        # are counted by their occurrences, the shorter ones by their continuations.
        p = torch.full((int(is_scored.sum()),), 1 / vocab_size, dtype=torch.float64)
        for shorter in orders[: order - 1]:
            p = interpolate(shorter, shorter.continuations, is_scored, p)
        p = interpolate(orders[order - 1], orders[order - 1].occurrences, is_scored, p)
        losses[name] = -p.log().mean().item()
    return losses


def interpolate(ngrams: NGrams, count: Tensor, is_scored: Tensor, lower: Tensor) -> Tensor:
    """The probabilities (n_scored,) float64 of the scored tokens, each given its context.

    p(token | context) = max(count - D, 0) / total + D × followers / total × lower (Chen & Goodman 1999, section 2.7)

    `count` (n_ngrams,) is the count of each n-gram: its occurrences or its continuations. `total` is the sum of the
    counts of a context, and `followers` the number of distinct tokens after it. `lower` (n_scored,) float64 is the
    probability of the token given a context that is shorter by one token.
    """
    # D = n₁ / (n₁ + 2 n₂), with n₁ n-grams of count 1 and n₂ of count 2 (Ney, Essen & Kneser 1994).
    n1, n2 = int((count == 1).sum()), int((count == 2).sum())
    discount = n1 / (n1 + 2 * n2) if n1 and n2 else 0.5
    n_contexts = int(ngrams.context_of.max()) + 1
    total = torch.bincount(ngrams.context_of, count.double(), minlength=n_contexts)  # (n_contexts,)
    followers = torch.bincount(ngrams.context_of, (count > 0).double(), minlength=n_contexts)  # (n_contexts,)
    context, ngram = ngrams.context[is_scored], ngrams.ngram[is_scored]  # (n_scored,) ids
    p = ((count[ngram].double() - discount).clamp_min(0) + discount * followers[context] * lower) / total[context]
    # A context that does not occur in training has total 0 and p nan: the shorter context alone decides.
    return torch.where(total[context] > 0, p, lower)


def corpus_baselines(data: Data) -> dict[str, float]:
    """The losses of all baselines on the validation split, in nats per token, by name.

    They are computed once for each corpus and split, and then read from the user's cache directory.
    """
    split = hashlib.sha256(f"{data.corpus.fingerprint}\0{data.val.text}".encode()).hexdigest()[:16]
    cached = cache_folder() / "baselines" / f"2-{split}.json"
    with contextlib.suppress(OSError, ValueError):
        losses = json.loads(cached.read_text())
        if list(losses) == list(NAMES):
            return losses
    boundary = data.mode.stop_token(data.tokenizer)
    train = data.train.tokens[-MAX_TRAINING_TOKENS:]
    losses = baseline_losses(train, data.val.tokens, data.tokenizer.vocab_size, boundary)
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
