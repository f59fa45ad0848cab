"""The splits of a corpus: their texts and their tokens, which are computed at the first access."""

import random

import numpy as np
import pytest
import torch

from microgpt.data import splits
from microgpt.data.corpus import Corpus
from microgpt.data.modes import Discrete, Stream
from microgpt.data.splits import DocumentSplit, Split, StreamSplit, draw_order
from microgpt.data.tokenizer import Tokenizer

TOKENIZER = Tokenizer("\nabcdefghijk")
BOS = TOKENIZER.bos
ALL = TOKENIZER.chars  # as a document, so that the corpus has all characters


def documents_in_order(documents: list[str]) -> DocumentSplit:
    part = DocumentSplit(Corpus.of("some", Discrete(), [*documents, ALL]), 0, 0, len(documents))
    part.indices = np.arange(len(documents))
    return part


def test_documents_are_separated_by_bos() -> None:
    part = documents_in_order(["ab", "", "cab"])
    assert part.tokens.tolist() == [BOS, *TOKENIZER.encode("ab"), BOS, BOS, *TOKENIZER.encode("cab"), BOS]
    assert (part.text, part.before, part.size) == ("ab\n\ncab\n", "", 3)
    assert part.text == TOKENIZER.decode(part.tokens[1:].tolist(), "\n")


def test_a_running_text_is_cut_at_any_token() -> None:
    corpus = Corpus.of("some", Stream(), ["ab", "cab", ALL])
    first, second = StreamSplit(corpus, 0, 5), StreamSplit(corpus, 5, 8)
    assert (first.before, first.text, first.documents, first.size) == ("\n\n", "ab\n\nc", ["ab\n\nc"], 5)
    assert (second.before, second.text, second.size) == ("a", "b\n\n", 3)


@pytest.mark.parametrize(
    "part",
    [documents_in_order(["ab", "", "cab"]), StreamSplit(Corpus.of("some", Stream(), ["ab", "cab", "c"]), 3, 9)],
    ids=["documents", "stream"],
)
def test_lengths_and_characters_are_known_without_the_texts(part: Split) -> None:
    lengths, n_characters = part.lengths, part.n_characters
    assert not {"text", "documents"} & set(vars(part))
    assert sorted(map(len, part.documents)) == sorted(length for length, n in lengths.items() for _ in range(n))
    assert len(part.text) == n_characters


def test_an_excerpt_is_a_document_that_is_neither_short_nor_cut_if_there_is_one() -> None:
    part = documents_in_order(["ab", "abcdefghijkabc", "abcdefgh"])
    assert part.excerpt(10).tolist() == [BOS, *TOKENIZER.encode("abcdefgh"), BOS]
    assert part.excerpt(6).tolist() == [BOS, *TOKENIZER.encode("abcde")]
    corpus = Corpus.of("some", Stream(), [ALL])
    assert StreamSplit(corpus, 1, 9).excerpt(4).tolist() == [0, 1, 2, 3]
    assert StreamSplit(corpus, 1, 9).excerpt(4).dtype == part.excerpt(4).dtype == torch.int64


def test_tokens_are_encoded_once() -> None:
    part = documents_in_order(["ab"])
    assert part.tokens is part.tokens


def test_the_order_is_that_of_a_shuffled_list() -> None:
    import random

    names = [str(i) for i in range(500)]
    assert [names[i] for i in draw_order(500, 3)] == random.Random(3).sample(names, 500)


@pytest.mark.parametrize("name", ["documents", "tokens", "text", "before", "lengths", "n_characters"])
def test_both_kinds_of_half_define_the_interface(name: str) -> None:
    assert name in vars(DocumentSplit) and name in vars(StreamSplit)


def test_documents_are_found_and_other_texts_are_not() -> None:
    part = documents_in_order(["ab", "", "cab", "abc", "ba"])
    assert part.contains(["abc", "", "ac", "b", "ba", "abcab", "ß", "cab"]) == [
        *(True, True, False, False, True, False, False, True)
    ]
    assert part.contains([]) == [] and not any(part.contains([ALL]))  # ALL is not of this split


def test_the_texts_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "DOCUMENTS_AT_ONCE", 2)
    part = documents_in_order(["ab", "", "cab", "abc", "ba"])
    assert list(part.text_parts()) == [["ab", ""], ["cab", "abc"], ["ba"]]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 9, 10, 100])
def test_the_last_tokens_are_the_end_of_all(n: int) -> None:
    for part in (documents_in_order(["ab", "", "cab"]), StreamSplit(Corpus.of("x", Stream(), ["ab", "cab"]), 1, 6)):
        assert part.last_tokens(n).tolist() == part.tokens[-n:].tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 5, 6, 21, 22, 1000])
def test_the_order_is_that_of_a_sample_of_all_numbers(n: int) -> None:
    assert draw_order(n, 7).tolist() == random.Random(7).sample(range(n), n)
