"""The splits of a corpus: their texts and their tokens, which are computed at the first access."""

import pytest
import torch

from microgpt.data.splits import DocumentSplit, StreamSplit
from microgpt.data.tokenizer import Tokenizer

TOKENIZER = Tokenizer("\nabcdefghijk")
BOS = TOKENIZER.bos


def test_documents_are_separated_by_bos() -> None:
    part = DocumentSplit(["ab", "", "cab"], TOKENIZER)
    assert part.tokens.tolist() == [BOS, *TOKENIZER.encode("ab"), BOS, BOS, *TOKENIZER.encode("cab"), BOS]
    assert (part.text, part.before, part.size) == ("ab\n\ncab\n", "", 3)
    assert part.text == TOKENIZER.decode(part.tokens[1:].tolist(), "\n")


def test_a_running_text_is_cut_at_any_token() -> None:
    tokens = torch.tensor(TOKENIZER.encode_documents(["ab", "cab"]))
    first, second = (StreamSplit(part, TOKENIZER, "\n\n") for part in (tokens[:5], tokens[5:]))
    assert (first.before, first.text, first.documents, first.size) == ("\n\n", "ab\n\nc", ["ab\n\nc"], 5)
    assert (second.before, second.text, second.size) == ("a", "b\n\n", 3)


def test_an_excerpt_is_a_document_that_is_neither_short_nor_cut_if_there_is_one() -> None:
    part = DocumentSplit(["ab", "abcdefghijkabc", "abcdefgh"], TOKENIZER)
    assert part.excerpt(10).tolist() == [BOS, *TOKENIZER.encode("abcdefgh"), BOS]
    assert part.excerpt(6).tolist() == [BOS, *TOKENIZER.encode("abcde")]
    tokens = torch.arange(9)
    assert StreamSplit(tokens, TOKENIZER, "\n\n").excerpt(4).tolist() == [0, 1, 2, 3]


def test_tokens_are_encoded_once() -> None:
    part = DocumentSplit(["ab"], TOKENIZER)
    assert part.tokens is part.tokens


@pytest.mark.parametrize("name", ["documents", "tokens", "text", "before", "size"])
def test_both_kinds_of_half_define_the_interface(name: str) -> None:
    assert name in vars(DocumentSplit) and name in vars(StreamSplit)
