"""Known or new: samples against a corpus."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.novelty import Documents, Prose, sentence

TRAINING = ["anna", "bella", "carla", "dora", "emma", "fiona", "gina", "hanna", "ida"]
METER = Documents(TRAINING, ["nora"])


def test_a_sample_is_in_the_training_set_in_the_held_out_set_or_new() -> None:
    assert str(METER.mark("bella")) == "in the training set"
    assert str(METER.mark("nora")) == "in the held-out set"
    mark = METER.mark("belle")
    assert (mark.kind, mark.nearest, mark.distance) == ("new", "bella", 1)
    assert str(mark) == "new; 1 from bella"
    assert METER.mark("").distance == 3  # ida


def edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, before = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
    return row[-1]


@given(st.text("abelnr", max_size=8))
def test_the_nearest_is_the_nearest(sample: str) -> None:
    mark = METER.mark(sample)
    if mark.kind == "new":
        assert mark.distance == edit_distance(sample, mark.nearest) == min(edit_distance(sample, d) for d in TRAINING)


def test_shares_and_what_they_are_held_against() -> None:
    samples = ["anna", "anna", "nora", "zoe", "zoe", "kim", "bella", "xx", "yy", "zz"]
    figures = METER.summary(samples)
    assert (figures["new"], figures["training"], figures["held_out"]) == (0.6, 0.3, 0.1)
    assert figures["repeated"] == pytest.approx(0.2)
    assert figures["training_if_not_memorised"] == pytest.approx(0.9)  # nine times as many documents
    assert figures["length_mean"] == pytest.approx(3.2) and figures["corpus_length_mean"] == pytest.approx(
        4.333, abs=1e-3
    )
    assert sentence(figures) == (
        "of 10 samples, 60% are new, 30% in the training set (90% without learning by heart),"
        " 10.0% in the held-out set; 20% repeat another"
    )


TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n"


def longest_common(a: str, b: str) -> int:
    return max((j - i for i in range(len(a)) for j in range(i + 1, len(a) + 1) if a[i:j] in b), default=0)


def test_the_longest_copied_span_is_found() -> None:
    rng, meter = random.Random(0), Prose(TEXT)
    assert meter.longest_copy("this is the question: whither") == " is the question:"
    for _ in range(50):
        cut = rng.randrange(len(TEXT))
        sample = (
            "".join(rng.choices("to be nr", k=9))
            + TEXT[cut : cut + rng.randrange(20)]
            + "".join(rng.choices("xe t", k=5))
        )
        assert len(meter.longest_copy(sample)) == longest_common(sample, TEXT)
    assert meter.longest_copy("#") == meter.longest_copy("") == ""


def test_new_grams_are_counted_once_each() -> None:
    meter = Prose(TEXT)
    assert meter.shares([TEXT[3:30]]) == {"new_8grams": 0.0}
    assert meter.shares(["zzzzzzzzzzzzz", "the ques"]) == {"new_8grams": 0.5}
    assert meter.shares(["short"]) == {}
    assert sentence(meter.summary(["to"])) == "of 1 sample: the longest copied span has 2"
    figures = meter.summary(["the question, sir", "nobler in"])
    assert figures["samples"] == 2 and figures["longest_copy"] == len("the question")
    assert "the longest copied span has 12" in sentence(figures)
    assert meter.mark("not to bend") == "longest copied span, 9 characters: 'not to be'"
