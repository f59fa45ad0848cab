"""Diagnostics, on artificial loss curves."""

import math
from dataclasses import replace
from typing import Any

import pytest

from microgpt.insight.diagnostics import Curve, Facts, diagnose

STEPS = list(range(100, 1001, 100))
BASELINES = {"uniform": 3.3, "unigram": 2.8, "bigram": 2.45, "trigram": 2.2}


def curve(*values: float) -> Curve:
    return [1000 * (n + 1) // len(values) for n in range(len(values))], list(values)


HEALTHY = Facts(
    steps=1000,
    parameters=20_000,
    training_characters=100_000,
    smallest=13_000,
    block_size=16,
    cut=0.0,
    longest=15,
    lr=0.02,
    train=curve(3.0, 2.5, 2.3, 2.2, 2.1, 2.05, 2.03, 2.01, 2.0, 1.99),
    val=curve(2.9, 2.5, 2.3, 2.2, 2.12, 2.08, 2.05, 2.03, 2.02, 2.01),
    val_loss=2.01,
    baselines=BASELINES,
    novelty={"new": 0.7, "training": 0.25, "samples": 1000, "training_if_not_memorised": 0.25},
)


def test_there_is_no_finding_when_nothing_is_wrong() -> None:
    assert diagnose(HEALTHY) == []


def test_there_is_no_finding_without_measurements() -> None:
    assert diagnose(Facts(steps=10, parameters=1, training_characters=2)) == []
    assert diagnose(replace(HEALTHY, train=curve(2.0), val=curve(2.0))) == []


def test_a_low_loss_from_the_start_is_no_finding_about_the_learning_rate() -> None:
    assert diagnose(replace(HEALTHY, train=curve(2.0, 1.99), val=curve(2.01, 2.0))) == []


@pytest.mark.parametrize(
    ("changes", "what", "evidence", "remedy"),
    [
        (
            {"val": curve(2.5, 2.2, 2.0, 1.95, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5), "val_loss": 1.95},
            "overfitting since step 400",
            "validation 1.950 there and 2.500 at the end, while training fell from 2.200 to 1.990",
            "train.steps=400",
        ),
        (
            {"val": curve(3.0, 2.9, 2.8, 2.7, 2.6, 2.5, 2.4, 2.3, 2.2, 2.1), "val_loss": 2.1},
            "still improving at the end",
            "validation fell by 0.200 since step 800, to 2.100",
            "train.steps=2000",
        ),
        (
            {"train": curve(3.3, 2.5, 2.4, 3.0, 3.4, 3.5)},
            "the training loss diverged",
            "the training loss fell to 2.400 and ended at 3.500",
            "optim.lr=0.005",
        ),
        (
            {"train": curve(3.30, 3.29, 3.29, 3.28)},
            "the training loss hardly fell",
            "the training loss went from 3.300 to 3.280",
            "optim.lr=0.2",
        ),
        (
            {"val_loss": 2.6, "train": curve(3.3, 2.9, 2.6, 2.5)},
            "worse than a bigram",
            "2.600 nats per token; a bigram model reaches 2.450",
            "train.steps=2000",
        ),
        (
            {"val_loss": 2.6},  # it has learnt the training split only
            "worse than a bigram",
            "2.600 nats per token; a bigram model reaches 2.450",
            "model=tiny",
        ),
        (
            {"parameters": 200_000},
            "more weights than characters, which invites memorising",
            "200,000 weights learn from 100,000 characters",
            "model=tiny",
        ),
        (
            {"cut": 0.12, "longest": 40},
            "documents are cut into blocks",
            "12% of the documents do not fit model.block_size=16",
            "model.block_size=41",
        ),
        (
            {"novelty": {"new": 0.1, "training": 0.88, "samples": 1000, "training_if_not_memorised": 0.2}},
            "few samples are new",
            "88% of the samples are in the training set; 20% are expected without memorisation",
            "model=tiny",
        ),
    ],
)
def test_each_finding_comes_alone_with_its_evidence_and_remedy(
    changes: dict[str, Any], what: str, evidence: str, remedy: str
) -> None:
    (finding,) = diagnose(replace(HEALTHY, **changes))
    assert (finding.what, finding.evidence, finding.remedy) == (what, evidence, remedy)
    assert str(finding) == f"{what}: {evidence}; try {remedy}"


def test_the_remedy_for_overfitting_is_not_more_steps() -> None:
    val = curve(2.9, 2.6, 2.7, 2.9, 3.2)
    findings = diagnose(replace(HEALTHY, val=val, val_loss=2.6))
    assert [finding.what for finding in findings] == ["overfitting since step 400", "worse than a bigram"]
    assert findings[1].remedy == "model=tiny"


def test_the_remedy_for_a_small_model_is_no_smaller_one() -> None:
    (finding,) = diagnose(replace(HEALTHY, parameters=4000, training_characters=3000))
    assert finding.remedy == "train.patience=3"


@pytest.mark.parametrize(
    "changes",
    [
        {"val": curve(2.5, 2.2, 2.0, 1.99, 2.0, 1.995)},  # noise
        {"val": curve(2.5, 2.2, 2.0, 2.1, 2.2), "train": curve(2.5, 2.3, 2.1, 2.12, 2.12)},  # so does training
        {"val": curve(2.5, math.nan, 2.0, 2.1)},
        {"cut": 0.04},
        {"train": ([10, 20, 30], [2.85, 2.84, 2.83])},  # hardly begun
        {"novelty": {"new": 0.1, "training": 0.9, "samples": 5, "training_if_not_memorised": 0.0}},
        {"parameters": 100_000},
        {"novelty": {"new": 0.2, "training": 0.7, "samples": 1000, "training_if_not_memorised": 0.6}},
        {"novelty": {"new_8grams": 0.1, "longest_copy": 30}},
    ],
)
def test_there_is_no_finding_without_enough_evidence(changes: dict[str, Any]) -> None:
    assert diagnose(replace(HEALTHY, **changes)) == []
