"""The run doctor: what the curves and figures of a run say about it, each finding with its evidence and a remedy.

Pure functions of numbers, so that each verdict can be tested on a curve made for it. Silent where nothing is wrong.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Curve = tuple[list[int], list[float]]  # steps, values

OVERFIT = 0.01  # rise of the validation loss above its best, as a share of it
STILL_FALLING = 0.03  # fall over the last fifth of the run, as a share
UNMOVED = 0.02  # fall of the training loss over the run, as a share
CUT = 0.05  # share of documents that do not fit a block
SETTLED = 60  # steps that the moving average of the training loss takes to forget where it began
ENOUGH = 100  # samples for a share that means something
TINY = 15_000  # weights of model=tiny, about
BY_HEART = 3.0  # hits of the training set, as a multiple of those without learning by heart


@dataclass(frozen=True)
class Facts:
    """What is known of a run. Losses are nats a token, shares from 0 to 1; what is not known is left out."""

    steps: int
    parameters: int
    training_characters: int
    block_size: int = 0
    cut: float = 0.0
    longest: int = 0
    lr: float = 0.0
    train: Curve = ([], [])
    val: Curve = ([], [])
    val_loss: float = math.nan
    baselines: Mapping[str, float] = field(default_factory=dict)
    novelty: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What is wrong, how it shows, and one override to try."""

    what: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.evidence}; try {self.remedy}"


def examine(facts: Facts) -> list[Finding]:
    """The findings that hold, those that explain others first."""
    checks = (not_learning, overfitting, still_improving, worse_than_counting, too_large, cut_documents, by_heart)
    return [finding for check in checks if (finding := check(facts)) is not None]


def not_learning(facts: Facts) -> Finding | None:
    """The training loss (EMA) ends no lower than it was, or hardly."""
    values, unigram = facts.train[1], facts.baselines.get("unigram", -math.inf)
    if len(values) < 2 or facts.train[0][-1] < SETTLED:
        return None
    first, last, lowest = values[0], values[-1], min(values)
    if last > 1.1 * lowest and last - lowest > 0.5 * (first - lowest):
        evidence = f"the training loss fell to {lowest:.3f} and ended at {last:.3f}"
        return Finding("the learning rate diverged", evidence, f"optim.lr={short(facts.lr / 4)}")
    if first - last < UNMOVED * first and last > unigram > 0:
        evidence = f"the training loss went from {first:.3f} to {last:.3f}"
        return Finding("the learning rate never moved it", evidence, f"optim.lr={short(facts.lr * 10)}")
    return None


def overfitting(facts: Facts) -> Finding | None:
    """The validation loss rises from its best while the training loss still falls."""
    steps, values = facts.val
    if len(values) < 3 or not all(map(math.isfinite, values)):
        return None
    best = min(range(len(values)), key=values.__getitem__)
    rise = values[-1] - values[best]
    train_then, train_now = at(facts.train, steps[best]), at(facts.train, steps[-1])
    if rise < OVERFIT * values[best] or not train_now < train_then:
        return None
    evidence = (
        f"validation {values[best]:.3f} there and {values[-1]:.3f} at the end, while training fell"
        f" from {train_then:.3f} to {train_now:.3f}"
    )
    return Finding(f"overfitting since step {steps[best]}", evidence, f"train.steps={steps[best]}")


def still_improving(facts: Facts) -> Finding | None:
    """The validation loss still falls in the last fifth of the run."""
    values = facts.val[1]
    if len(values) < 3:
        return None
    since = max(step for step in facts.val[0] if step <= max(0.8 * facts.steps, facts.val[0][0]))
    fall = at(facts.val, since) - values[-1]
    if values[-1] != min(values) or not fall > STILL_FALLING * values[-1]:
        return None
    evidence = f"validation fell by {fall:.3f} since step {since}, to {values[-1]:.3f}"
    return Finding("still improving at the end", evidence, f"train.steps={2 * facts.steps}")


def worse_than_counting(facts: Facts) -> Finding | None:
    bigram = facts.baselines.get("bigram", math.inf)
    if not facts.val_loss > bigram:
        return None
    evidence = f"{facts.val_loss:.3f} nats a token; a table of pairs reaches {bigram:.3f}"
    remedy = f"train.steps={3 * facts.steps}" if overfitting(facts) is None else smaller(facts)
    return Finding("worse than a bigram", evidence, remedy)


def too_large(facts: Facts) -> Finding | None:
    if facts.parameters <= facts.training_characters:
        return None
    evidence = f"{facts.parameters:,} weights learn from {facts.training_characters:,} characters"
    return Finding("more weights than characters, which invites learning by heart", evidence, smaller(facts))


def smaller(facts: Facts) -> str:
    """A smaller model; below the smallest preset, less training."""
    return "model=tiny" if facts.parameters > TINY else "train.patience=3"


def cut_documents(facts: Facts) -> Finding | None:
    if facts.cut <= CUT:
        return None
    evidence = f"{facts.cut:.0%} of the documents do not fit model.block_size={facts.block_size}"
    remedy = f"model.block_size={min(facts.longest + 1, 4 * facts.block_size)}"
    return Finding("documents are cut into blocks", evidence, remedy)


def by_heart(facts: Facts) -> Finding | None:
    novelty = facts.novelty
    if "new" in novelty:
        known, base = novelty["training"], novelty["training_if_not_memorised"]
        if novelty["samples"] < ENOUGH or known < 0.2 or known < BY_HEART * base:
            return None
        evidence = f"{known:.0%} of the samples are in the training set; {base:.0%} would be without learning by heart"
        return Finding("little is new", evidence, smaller(facts))
    return None


def at(curve: Curve, step: int) -> float:
    """The value of a curve at the last of its steps that is no later than `step`; nan if there is none."""
    return next((value for s, value in zip(*map(reversed, curve), strict=True) if s <= step), math.nan)


def short(x: float) -> str:
    return f"{x:.2g}"
