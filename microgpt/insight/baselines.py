"""N-gram models as baselines for a loss: uniform guessing, and unigrams to 5-grams with Kneser-Ney smoothing.

A model of `order` n predicts a token from the n - 1 tokens before it, by interpolated Kneser-Ney smoothing (Ney, Essen
& Kneser 1994; Chen & Goodman 1999, section 2.7), fitted on the training tokens. It needs no transformer and no
gradient: a model that does not beat it has learnt nothing that needs them.
"""

import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import platformdirs
import torch
from torch import Tensor

from microgpt.data.loading import Data
from microgpt.runs.directory import write_atomically

log = logging.getLogger(__name__)

NAMES: tuple[str, ...] = ("uniform", "unigram", "bigram", "trigram", "4-gram", "5-gram")
MAX_TRAINING_TOKENS = 20_000_000  # that are counted; of a larger corpus the last
MAX_MARKED_CODES = 1 << 28  # entries of a table of booleans, 256 MiB


@dataclass(frozen=True)
class NGrams:
    """The n-grams of one length in a sequence of N tokens; the different ones are numbered, as are their contexts.

    context, ngram (N,) int64: at each token, the number of the context before it, and of that context with the token.
    For each n-gram (n_ngrams,): the context that it begins with, how often it occurs in training, and after how many
    different tokens it occurs there (continuations, in the words of Chen & Goodman).
    """

    context: Tensor
    ngram: Tensor
    context_of: Tensor
    occurrences: Tensor
    continuations: Tensor


def renumber(codes: Tensor, size: int) -> tuple[Tensor, int]:
    """Codes (N,) from 0 to `size` - 1 as numbers without gaps, equal where the codes are, and how many there are."""
    if size > MAX_MARKED_CODES:
        distinct, numbers = torch.unique(codes, return_inverse=True)
        return numbers, len(distinct)
    occurs = torch.zeros(size, dtype=torch.bool).index_fill_(0, codes, True)
    return (occurs.cumsum(0) - 1)[codes], int(occurs.sum())


def count_ngrams(tokens: Tensor, counted: Tensor, starts: Tensor, vocab_size: int, max_order: int) -> list[NGrams]:
    """The n-grams of lengths 1 to `max_order` in tokens (N,) int64, counted where `counted` (N,) is true.

    Where `starts` (N,) is true, nothing stands before the token.
    """
    context, n_contexts = torch.zeros_like(tokens), 1  # of length 0: the same everywhere
    orders: list[NGrams] = []
    for _ in range(max_order):
        # A context and a token make an n-gram: their pair as one number, then without gaps.
        ngram, n_ngrams = renumber(context * vocab_size + tokens, n_contexts * vocab_size)
        occurrences = torch.bincount(ngram[counted], minlength=n_ngrams)
        context_of = torch.zeros(n_ngrams, dtype=torch.int64).index_put_((ngram,), context)
        if orders:
            # Without its first token, an n-gram is one of the next shorter: each that occurs adds a continuation.
            shorter = orders[-1]
            suffix = torch.zeros(n_ngrams, dtype=torch.int64).index_put_((ngram,), shorter.ngram)
            continuations = torch.bincount(suffix[occurrences > 0], minlength=len(shorter.continuations))
            shorter.continuations.add_(continuations)
        orders.append(NGrams(context, ngram, context_of, occurrences, torch.zeros_like(occurrences)))
        # The context of the next longer n-gram is this n-gram one token earlier; 0 stands for nothing before.
        context, n_contexts = torch.where(starts, 0, 1 + ngram.roll(1)), n_ngrams + 1
    return orders


def baseline_losses(
    train: Tensor, scored: Tensor, vocab_size: int, boundary: int | None, names: Sequence[str] = NAMES
) -> dict[str, float]:
    """Mean loss of each of the first baselines, in nats per token, over all of `scored` but its first token.

    train (N,), scored (M,) int64. No context reaches back beyond a `boundary` token (the BOS between documents;
    None for a running text), as a model that reads one document at a time does not.
    """
    tokens = torch.cat((train, scored))
    index = torch.arange(len(tokens))
    is_first = (index == 0) | (index == len(train))  # of either sequence: context alone
    counted, asked = (index < len(train)) & ~is_first, (index > len(train)) & ~is_first
    starts = is_first if boundary is None else is_first | (tokens.roll(1) == boundary)
    orders = count_ngrams(tokens, counted, starts, vocab_size, len(names) - 1)
    losses = {"uniform": math.log(vocab_size)}
    for order, name in enumerate(names[1:], 1):
        # The longest n-grams are counted by their occurrences, the shorter ones behind them by their continuations.
        p = torch.full((int(asked.sum()),), 1 / vocab_size, dtype=torch.float64)
        for shorter in orders[: order - 1]:
            p = interpolate(shorter, shorter.continuations, asked, p)
        p = interpolate(orders[order - 1], orders[order - 1].occurrences, asked, p)
        losses[name] = -p.log().mean().item()
    return losses


def interpolate(ngrams: NGrams, count: Tensor, asked: Tensor, lower: Tensor) -> Tensor:
    """p(token | context) = max(count - D, 0) / total + D × followers / total × lower(token | shorter context).

    `count` (n_ngrams,) is how often an n-gram occurs, or for a shorter one after how many different tokens: a token
    that only ever follows one other is not expected elsewhere. `followers` is the number of different tokens after the
    context; D = n₁ / (n₁ + 2 n₂), with n₁ and n₂ the numbers of n-grams whose count is 1 and 2. `lower` and the result
    are (n_asked,) float64.
    """
    once, twice = (int((count == n).sum()) for n in (1, 2))
    discount = once / (once + 2 * twice) if once and twice else 0.5
    n_contexts = int(ngrams.context_of.max()) + 1
    total = torch.bincount(ngrams.context_of, count.double(), minlength=n_contexts)
    followers = torch.bincount(ngrams.context_of, (count > 0).double(), minlength=n_contexts)
    context, ngram = ngrams.context[asked], ngrams.ngram[asked]
    p = ((count[ngram].double() - discount).clamp_min(0) + discount * followers[context] * lower) / total[context]
    return torch.where(total[context] > 0, p, lower)


def corpus_baselines(data: Data) -> dict[str, float]:
    """The losses of all baselines on the validation half, counted once for a corpus and a split.

    They are kept in the user's cache directory for the next run of the same corpus and split.
    """
    split = hashlib.sha256(f"{data.corpus.fingerprint}\0{data.val.text}".encode()).hexdigest()[:16]
    cached = platformdirs.user_cache_path("microgpt") / "baselines" / f"2-{split}.json"
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
        log.debug("the losses of the baselines could not be kept: %s", error)
    return losses


def verdict(loss: float, losses: Mapping[str, float]) -> str:
    """A loss beside the baselines, in a clause."""
    missed = [name for name in NAMES if loss >= losses[name]]
    beaten = [name for name in NAMES if loss < losses[name]]
    if not missed:
        return f"better than all n-gram baselines, up to the {NAMES[-1]} ({min(losses.values()):.3f})"
    best = min(missed, key=losses.__getitem__)
    clause = f"not as good as the {best} baseline ({losses[best]:.3f})"
    if not beaten:
        return clause
    nearest = min(beaten, key=losses.__getitem__)
    return f"better than the {nearest} baseline ({losses[nearest]:.3f}), {clause}"
