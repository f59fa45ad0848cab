"""Whole corpora as arrays of tokens: the same as document by document, with any characters and any limits of memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.data import encoding
from microgpt.data.encoding import Encoded, encode, first_occurrences
from microgpt.data.tokenizer import Tokenizer

documents = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=20)
few_letters = st.lists(st.text("ab", max_size=3), min_size=1, max_size=30)
limits = st.sampled_from([1, 5, 1 << 20])  # of what is worked on at once


def encoded(texts: list[str]) -> Encoded:
    return encode(texts, lambda text: [text])


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "AT_ONCE", encoding.AT_ONCE)  # so that it is restored after the test


@settings(deadline=None)
@given(documents, limits)
def test_tokens_are_those_of_the_tokenizer(texts: list[str], limit: int) -> None:
    encoding.AT_ONCE = limit
    found, tokenizer = encoded(texts), Tokenizer.of(texts)
    assert (found.chars, found.tokens.tolist()) == (tokenizer.chars, tokenizer.encode_documents(texts))
    assert found.lengths() == encoding.count(np.array([len(text) for text in texts], np.int64))
    assert "".join(found.decode(found.tokens, "||")) == tokenizer.decode(found.tokens.tolist(), "||")
    if texts:
        assert found.documents() == texts


@pytest.mark.parametrize(("n", "dtype"), [(255, "uint8"), (256, "int16"), (32767, "int16"), (32768, "int32")])
def test_tokens_have_the_smallest_integers_that_hold_the_vocabulary(n: int, dtype: str) -> None:
    chars = "".join(map(chr, range(0x10000, 0x10000 + n)))
    found = encoded([chars[::-1], chars])
    assert found.tokens.dtype == dtype and found.bos == n and found.documents() == [chars[::-1], chars]


@settings(deadline=None)
@given(few_letters, limits)
def test_first_occurrences_are_those_that_a_dict_keeps(texts: list[str], limit: int) -> None:
    encoding.AT_ONCE = limit
    found = encoded(texts)
    which = first_occurrences(found)
    assert [texts[i] for i in which] == list(dict.fromkeys(texts))
    assert found.only(which).documents() == list(dict.fromkeys(texts))


def test_different_documents_with_the_same_hash_are_both_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    salts: list[int] = []

    def colliding(tokens: np.ndarray, first: np.ndarray, sizes: np.ndarray, salt: int) -> np.ndarray:
        salts.append(salt)
        return np.zeros(len(sizes), np.uint64) if salt < 2 else hash_documents(tokens, first, sizes, salt)

    hash_documents = encoding.hash_documents
    monkeypatch.setattr(encoding, "hash_documents", colliding)
    assert first_occurrences(encoded(["ab", "ba", "ab"])).tolist() == [0, 1]
    assert salts == [0, 1, 2]


@settings(deadline=None)
@given(st.data(), limits)
def test_taken_documents_are_those_asked_for_in_that_order(data: st.DataObject, limit: int) -> None:
    encoding.AT_ONCE = limit
    texts = data.draw(few_letters)
    which = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=9))
    found = encoded(texts)
    assert Encoded(found.chars, found.take(np.array(which))).documents() == [texts[i] for i in which]


def test_characters_that_no_document_holds_any_more_lose_their_ids() -> None:
    found = encoded(["ab", "zc", "ca"]).only(np.array([0, 2]))
    assert (found.chars, found.tokens.tolist()) == ("abc", [3, 0, 1, 3, 2, 0, 3])
