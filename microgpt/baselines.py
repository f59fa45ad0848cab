"""The ladder of counting models that a loss is judged by: from uniform guessing to 5-grams.

Each rung predicts a token from the `order` - 1 tokens before it, by interpolated Kneser-Ney smoothing (Ney, Essen &
Kneser 1994; Chen & Goodman 1999, section 2.7), fitted on the training tokens. Kept apart because it knows no model
and no gradient: a loss that a table of counts reaches needs neither.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RUNGS: tuple[str, ...] = ("uniform", "unigram", "bigram", "trigram", "4-gram", "5-gram")


@dataclass(frozen=True)
class Grams:
    """The n-grams of one length, with dense ids, as the training tokens have them.

    context, gram (N,): the ids of what stands before each token, and of that with the token. For each n-gram:
    context_of it, how often it was `seen`, and after how many different tokens (`spread`).
    """

    context: Tensor
    gram: Tensor
    context_of: Tensor
    seen: Tensor
    spread: Tensor


def relabel(codes: Tensor, size: int) -> tuple[Tensor, int]:
    """Codes below `size` as dense ids, alike where the codes are, and their number."""
    if size > 1 << 28:  # too many to mark each
        kinds, ids = torch.unique(codes, return_inverse=True)
        return ids, len(kinds)
    there = torch.zeros(size, dtype=torch.bool).index_fill_(0, codes, True)
    return (there.cumsum(0) - 1)[codes], int(there.sum())


def find_grams(tokens: Tensor, learnt: Tensor, starts: Tensor, vocab_size: int, orders: int) -> list[Grams]:
    """The n-grams of lengths 1 to `orders` in tokens (N,), counted where `learnt` (N,) is true.

    Where `starts` (N,) is true, the context is one of its own, with nothing before it.
    """
    context, n_contexts = torch.zeros_like(tokens), 1
    found: list[Grams] = []
    for _ in range(orders):
        gram, size = relabel(context * vocab_size + tokens, n_contexts * vocab_size)
        seen = torch.bincount(gram[learnt], minlength=size)
        context_of = torch.zeros(size, dtype=torch.int64).index_put_((gram,), context)
        if found:  # each kind of the longer n-gram is one more token before the shorter one
            shorter = torch.zeros(size, dtype=torch.int64).index_put_((gram,), found[-1].gram)
            found[-1].spread.add_(torch.bincount(shorter[seen > 0], minlength=len(found[-1].spread)))
        found.append(Grams(context, gram, context_of, seen, torch.zeros_like(seen)))
        context, n_contexts = torch.where(starts, 0, 1 + gram.roll(1)), size + 1
    return found


def ladder(
    train: Tensor, scored: Tensor, vocab_size: int, boundary: int | None, rungs: Sequence[str] = RUNGS
) -> dict[str, float]:
    """Mean loss of each of the first rungs, in nats a token, over all of `scored` but its first token.

    train (N,), scored (M,) int64. No context reaches back beyond a `boundary` token (the BOS between documents;
    None for a running text), as a model that reads one document at a time does not.
    """
    tokens = torch.cat((train, scored))
    index = torch.arange(len(tokens))
    begins = (index == 0) | (index == len(train))
    learnt, asked = (index < len(train)) & ~begins, (index > len(train)) & ~begins
    starts = begins if boundary is None else begins | (tokens.roll(1) == boundary)
    levels = find_grams(tokens, learnt, starts, vocab_size, len(rungs) - 1)
    losses = {"uniform": math.log(vocab_size)}
    for order, name in enumerate(rungs[1:], 1):
        p = torch.full((int(asked.sum()),), 1 / vocab_size, dtype=torch.float64)
        for level in levels[: order - 1]:
            p = interpolate(level, level.spread, asked, p)
        p = interpolate(levels[order - 1], levels[order - 1].seen, asked, p)
        losses[name] = -p.log().mean().item()
    return losses


def interpolate(level: Grams, count: Tensor, asked: Tensor, lower: Tensor) -> Tensor:
    """p(token | context) = max(count - D, 0) / total + D × kinds / total × lower(token | shorter context).

    `count` is how often an n-gram of the longest kind was seen, and after how many different tokens a shorter one: a
    token that only ever follows one other is not expected elsewhere. `kinds` of tokens follow the context; D = n₁ /
    (n₁ + 2 n₂), with n₁ and n₂ the numbers of n-grams whose count is 1 and 2.
    """
    once, twice = (int((count == n).sum()) for n in (1, 2))
    discount = once / (once + 2 * twice) if once and twice else 0.5
    n_contexts = int(level.context_of.max()) + 1
    total = torch.bincount(level.context_of, count.double(), minlength=n_contexts)
    kinds = torch.bincount(level.context_of, (count > 0).double(), minlength=n_contexts)
    context, gram = level.context[asked], level.gram[asked]
    p = ((count[gram].double() - discount).clamp_min(0) + discount * kinds[context] * lower) / total[context]
    return torch.where(total[context] > 0, p, lower)


def verdict(loss: float, losses: Mapping[str, float]) -> str:
    """What a loss says beside the ladder, in a clause."""
    missed = [name for name in RUNGS if loss >= losses[name]]
    beaten = [name for name in RUNGS if loss < losses[name]]
    if not missed:
        return f"better than any counting model, up to {RUNGS[-1]}s ({min(losses.values()):.3f})"
    best = min(missed, key=losses.__getitem__)
    clause = f"not as good as the {best} counting model ({losses[best]:.3f})"
    if not beaten:
        return clause
    nearest = min(beaten, key=losses.__getitem__)
    return f"better than the {nearest} counting model ({losses[nearest]:.3f}), {clause}"
