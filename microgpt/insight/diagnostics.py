"""Diagnostics: what the curves and figures of a run say about it, each finding with its evidence and a remedy.

Pure functions of numbers, so that each finding can be tested on a curve made for it. No finding where nothing is wrong.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

Curve = tuple[list[int], list[float]]  # steps, values

MIN_OVERFITTING_RISE = 0.01  # of the validation loss above its best, as a share of it
MIN_FINAL_FALL = 0.03  # of the validation loss over the last fifth of the run, as a share
MIN_TRAINING_FALL = 0.02  # of the training loss over the run, as a share
MAX_CUT_SHARE = 0.05  # of documents that do not fit a block
MIN_EMA_STEPS = 60  # after which the moving average of the training loss no longer depends on where it began
MIN_SAMPLES = 100  # for a share that means something
MIN_MEMORISED_SHARE = 0.2  # of samples in the training set
MAX_MEMORISED_RATIO = 3.0  # hits of the training set, as a multiple of those expected if none is memorised
TINY_PARAMETERS = 15_000  # of model=tiny, about


@dataclass(frozen=True)
class Facts:
    """What is known of a run. Losses are in nats per token, shares from 0 to 1; what is not known is left out."""

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


def diagnose(facts: Facts) -> list[Finding]:
    """All findings, those that explain others first."""
    checks = (not_learning, overfitting, still_improving, worse_than_bigram, too_large, cut_documents, memorised)
    return [finding for check in checks if (finding := check(facts)) is not None]


def not_learning(facts: Facts) -> Finding | None:
    """The training loss (EMA) ends no lower than it was, or hardly."""
    values, unigram = facts.train[1], facts.baselines.get("unigram", -math.inf)
    if len(values) < 2 or facts.train[0][-1] < MIN_EMA_STEPS:
        return None
    first, last, lowest = values[0], values[-1], min(values)
    if last > 1.1 * lowest and last - lowest > 0.5 * (first - lowest):
        evidence = f"the training loss fell to {lowest:.3f} and ended at {last:.3f}"
        return Finding("the learning rate diverged", evidence, f"optim.lr={short(facts.lr / 4)}")
    if first - last < MIN_TRAINING_FALL * first and last > unigram > 0:
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
    bigram = facts.baselines.get("bigram", math.inf)
    if not facts.val_loss > bigram:
        return None
    evidence = f"{facts.val_loss:.3f} nats per token; a bigram model reaches {bigram:.3f}"
    remedy = f"train.steps={3 * facts.steps}" if overfitting(facts) is None else smaller(facts)
    return Finding("worse than a bigram", evidence, remedy)


def too_large(facts: Facts) -> Finding | None:
    if facts.parameters <= facts.training_characters:
        return None
    evidence = f"{facts.parameters:,} weights learn from {facts.training_characters:,} characters"
    return Finding("more weights than characters, which invites memorising", evidence, smaller(facts))


def smaller(facts: Facts) -> str:
    """A smaller model; below the smallest preset, less training."""
    return "model=tiny" if facts.parameters > TINY_PARAMETERS else "train.patience=3"


def cut_documents(facts: Facts) -> Finding | None:
    if facts.cut <= MAX_CUT_SHARE:
        return None
    evidence = f"{facts.cut:.0%} of the documents do not fit model.block_size={facts.block_size}"
    remedy = f"model.block_size={min(facts.longest + 1, 4 * facts.block_size)}"
    return Finding("documents are cut into blocks", evidence, remedy)


def memorised(facts: Facts) -> Finding | None:
    novelty = facts.novelty
    if "training_if_not_memorised" not in novelty or novelty["samples"] < MIN_SAMPLES:
        return None
    known, expected = novelty["training"], novelty["training_if_not_memorised"]
    if known < max(MIN_MEMORISED_SHARE, MAX_MEMORISED_RATIO * expected):
        return None
    evidence = f"{known:.0%} of the samples are in the training set; {expected:.0%} would be if none were memorised"
    return Finding("few samples are new", evidence, smaller(facts))


def at(curve: Curve, step: int) -> float:
    """The value of a curve at the last of its steps that is no later than `step`; nan if there is none."""
    return next((value for s, value in zip(*map(reversed, curve), strict=True) if s <= step), math.nan)


def short(x: float) -> str:
    return f"{x:.2g}"
