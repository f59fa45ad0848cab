"""Spans of samples that are in a training text, against Python's own search."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.insight import copies
from microgpt.insight.copies import TrainingText


def make_text(text: str, dtype: type = np.uint8, alphabet: str = "") -> TrainingText:
    """The text with a BOS for each blank line."""
    chars = "".join(sorted({*text, *alphabet} - {"\n"})) + "\n"
    tokens = [len(chars) if char == "\0" else chars.index(char) for char in text.replace("\n\n", "\0")]
    return TrainingText(np.array(tokens, dtype), chars)


def longest_copy(sample: str, text: str) -> str:
    best = ""
    for start in range(len(sample)):
        while start + len(best) < len(sample) and sample[start : start + len(best) + 1] in text:
            best = sample[start : start + len(best) + 1]
    return best


TEXTS = st.text("abc\n", max_size=60)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
@given(text=TEXTS, samples=st.lists(st.text("abcd\n", max_size=30), max_size=4))
def test_the_longest_copies_are_those_of_a_plain_search(dtype: type, text: str, samples: list[str]) -> None:
    assert make_text(text, dtype, "abc").longest_copies(samples) == [longest_copy(sample, text) for sample in samples]


@pytest.mark.parametrize("size", [10, 37, 64])
def test_a_text_in_parts_gives_the_same_copies(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "TOKENS_AT_ONCE", size)
    rng = random.Random(size)
    text = "".join(rng.choices(["to be", " or", " not", "\n\n", "x", "\n"], k=200))
    samples = [text[i : i + rng.randrange(50)] + "".join(rng.choices("to be", k=9)) for i in range(0, 200, 7)]
    training = make_text(text)
    assert training.longest_copies(samples) == [longest_copy(sample, text) for sample in samples]
    spans = sorted({sample[i : i + 8] for sample in samples for i in range(len(sample) - 7)})
    assert training.contained(spans).tolist() == [span in text for span in spans]


def test_a_text_without_newlines_in_its_paragraphs_has_two_between_them() -> None:
    training = TrainingText(np.array([0, 1, 2, 1, 0], np.uint8), "ab")  # ab, blank line, ba
    assert training.longest_copies(["xab\n\nbay", "b\n\n\n"]) == ["ab\n\nba", "b\n\n"]


@pytest.mark.parametrize("separator", ["\x1e", "\n>", "--", "%\n%"])
def test_a_separator_of_any_length_stands_between_documents(separator: str) -> None:
    training = TrainingText(np.array([0, 1, 2, 1, 0, 2, 1, 1], np.uint8), "ab", separator)  # ab, ba and bb
    text = f"ab{separator}ba{separator}bb"
    samples = [f"x{text}a", f"b{separator}ba", f"a{separator}"]
    assert training.longest_copies(samples) == [longest_copy(sample, text) for sample in samples]


def test_a_character_that_the_text_lacks_ends_a_copy() -> None:
    training = make_text("the question, the answer")
    assert training.longest_copies(["the que?tion, the"]) == ["tion, the"]
    assert training.contained(["the ques", "the ?ues"]).tolist() == [True, False]
