"""The Bloom filter of documents: nothing in it is missed, few others are taken for known, the page finds the same."""

import itertools

import numpy as np
import pytest
from page_scripts import needs_node, run_node

from microgpt.data.corpus import Corpus
from microgpt.data.modes import find_mode
from microgpt.data.splits import DocumentSplit
from microgpt.data.tokenizer import Tokenizer
from microgpt.page.documents import filter_of, hash_tokens

DOCUMENTS = ["".join(letters) for letters in itertools.product("abcdefgh", repeat=4)] + ["a", "ba"]
OTHERS = ["".join(letters) for letters in itertools.product("abcdefgh", repeat=5)]


@pytest.fixture(scope="module")
def split() -> DocumentSplit:
    return DocumentSplit(Corpus.of("letters", find_mode("discrete"), DOCUMENTS), 0, 0, len(DOCUMENTS))


def test_the_hash_of_a_document_is_that_of_its_tokens_alone(split: DocumentSplit) -> None:
    first, sizes = split.spans
    hashes = hash_tokens(split.corpus.encoded.tokens, first + 1, sizes)
    assert len(set(hashes.tolist())) == len(DOCUMENTS)
    for i in (0, 17, len(DOCUMENTS) - 1):
        ids = np.array(split.tokenizer.encode(split.documents[i]))
        assert hash_tokens(ids, np.array([0]), np.array([len(ids)]))[0] == hashes[i]


@needs_node
def test_the_page_knows_every_document_and_takes_one_percent_of_others_for_known(split: DocumentSplit) -> None:
    packed, tokenizer = filter_of(split).as_json(), Tokenizer(split.corpus.encoded.chars)
    code = "const known = new Documents(data.filter); return data.ids.map(ids => known.has(ids));"
    ids = [tokenizer.encode(text) for text in DOCUMENTS + OTHERS]
    found = run_node(["weights.js", "text.js"], code, {"filter": packed, "ids": ids})
    assert all(found[: len(DOCUMENTS)])
    share = sum(found[len(DOCUMENTS) :]) / len(OTHERS)
    assert packed["false_positives"] < 0.01 and share == pytest.approx(packed["false_positives"], rel=0.2)
