"""Diagnostics: checks of the curves and figures of a run. Each finding has its evidence and a remedy.

The checks are pure functions of numbers, so that each can be tested on curves made for the test.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Curve = tuple[list[int], list[float]]  # steps, values

MIN_OVERFITTING_RISE = 0.01  # of the validation loss above its lowest value, as a fraction of that value
MIN_FINAL_FALL = 0.03  # of the validation loss over the last fifth of the run, as a fraction of its last value
MIN_TRAINING_FALL = 0.02  # of the training loss over the run, as a fraction of its first value
MAX_CUT_SHARE = 0.05  # share of the documents that do not fit a block
MIN_EMA_STEPS = 60  # before this step the EMA of the training loss still depends on its first value
MIN_SAMPLES = 100  # with fewer, a share of samples is too uncertain
MIN_MEMORISED_SHARE = 0.2  # share of the samples that are in the training set
MAX_MEMORISED_RATIO = 3.0  # samples in the training set, as a multiple of those expected without memorisation


@dataclass(frozen=True)
class Facts:
    """The numbers of a run that are checked. Losses are in nats per token, shares from 0 to 1.

    A number that was not measured keeps its default, and gives no finding.
    """

    steps: int
    parameters: int  # without n-gram embeddings, of which a step changes only the rows of its batch
    training_characters: int
    smallest: int = 0  # parameters of model=tiny on this corpus
    block_size: int = 0
    cut: float = 0.0  # share of the training documents that do not fit a block
    longest: int = 0  # characters of the longest training document
    lr: float = 0.0  # peak learning rate
    train: Curve = ([], [])  # EMA of the training loss
    val: Curve = ([], [])
    val_loss: float = math.nan  # of the final weights, on the whole validation split
    baselines: Mapping[str, float] = field(default_factory=dict)
    novelty: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """A problem, its evidence, and one override to try."""

    what: str
    evidence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}: {self.evidence}; try {self.remedy}"


def diagnose(facts: Facts) -> list[Finding]:
    """All findings; a finding that may be the cause of others comes before them."""
    checks = (not_learning, overfitting, still_improving, worse_than_bigram, too_large, cut_documents, memorised)
    return [finding for check in checks if (finding := check(facts)) is not None]


def not_learning(facts: Facts) -> Finding | None:
    """The training loss (EMA) has lost more than half of its fall, or has hardly fallen."""
    values, unigram = facts.train[1], facts.baselines.get("unigram", -math.inf)
    if len(values) < 2 or facts.train[0][-1] < MIN_EMA_STEPS:
        return None
    first, last, lowest = values[0], values[-1], min(values)
    if last > 1.1 * lowest and last - lowest > 0.5 * (first - lowest):
        evidence = f"the training loss fell to {lowest:.3f} and ended at {last:.3f}"
        return Finding("the training loss diverged", evidence, f"optim.lr={short(facts.lr / 4)}")
    if first - last < MIN_TRAINING_FALL * first and last > unigram > 0:
        evidence = f"the training loss went from {first:.3f} to {last:.3f}"
        return Finding("the training loss hardly fell", evidence, f"optim.lr={short(facts.lr * 10)}")
    return None


def overfitting(facts: Facts) -> Finding | None:
    """The validation loss rises after its best while the training loss still falls."""
    steps, values = facts.val
    if len(values) < 3 or not all(map(math.isfinite, values)):
        return None
    best = min(range(len(values)), key=values.__getitem__)
    rise = values[-1] - values[best]
    train_then, train_now = at(facts.train, steps[best]), at(facts.train, steps[-1])
    if rise < MIN_OVERFITTING_RISE * values[best] or not train_now < train_then:
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
    if values[-1] != min(values) or not fall > MIN_FINAL_FALL * values[-1]:
        return None
    evidence = f"validation fell by {fall:.3f} since step {since}, to {values[-1]:.3f}"
    return Finding("still improving at the end", evidence, f"train.steps={2 * facts.steps}")


def worse_than_bigram(facts: Facts) -> Finding | None:
    """The validation loss is above that of the bigram baseline."""
    bigram = facts.baselines.get("bigram", math.inf)
    if not facts.val_loss > bigram:
        return None
    evidence = f"{facts.val_loss:.3f} nats per token; a bigram model reaches {bigram:.3f}"
    knows_training_split = bool(facts.train[1]) and facts.train[1][-1] < bigram
    remedy = smaller(facts) if knows_training_split else f"train.steps={2 * facts.steps}"
    return Finding("worse than a bigram", evidence, remedy)


def too_large(facts: Facts) -> Finding | None:
    """The model has more weights than the training set has characters."""
    if facts.parameters <= facts.training_characters:
        return None
    evidence = f"{facts.parameters:,} weights learn from {facts.training_characters:,} characters"
    return Finding("more weights than characters, which invites memorising", evidence, smaller(facts))


def smaller(facts: Facts) -> str:
    """The remedy for too large a model: the smallest preset, or early stopping if the model is no larger than that."""
    return "model=tiny" if facts.parameters > facts.smallest else "train.patience=3"


def cut_documents(facts: Facts) -> Finding | None:
    """Too many documents are longer than a block."""
    if facts.cut <= MAX_CUT_SHARE:
        return None
    evidence = f"{facts.cut:.0%} of the documents do not fit model.block_size={facts.block_size}"
    remedy = f"model.block_size={min(facts.longest + 1, 4 * facts.block_size)}"
    return Finding("documents are cut into blocks", evidence, remedy)


def memorised(facts: Facts) -> Finding | None:
    """More samples are in the training set than a model without memorised documents would generate."""
    novelty = facts.novelty
    if "training_if_not_memorised" not in novelty or novelty["samples"] < MIN_SAMPLES:
        return None
    share, expected = novelty["training"], novelty["training_if_not_memorised"]
    if share < max(MIN_MEMORISED_SHARE, MAX_MEMORISED_RATIO * expected):
        return None
    evidence = f"{share:.0%} of the samples are in the training set; {expected:.0%} are expected without memorisation"
    return Finding("few samples are new", evidence, smaller(facts))


def at(curve: Curve, step: int) -> float:
    """The value of a curve at `step`, or at the last step before it that the curve has; nan if there is none."""
    # zip(*map(reversed, curve)) gives the pairs (step, value) from last to first.
    return next((value for s, value in zip(*map(reversed, curve), strict=True) if s <= step), math.nan)


def short(x: float) -> str:
    """Two significant digits: 0.0050000001 → 0.005."""
    return f"{x:.2g}"
