"""The halves of a corpus: texts and tokens of the same, made when they are first asked for."""

import pytest
import torch

from microgpt.data.halves import DocumentHalf, StreamHalf
from microgpt.data.tokenizer import Tokenizer

TOKENIZER = Tokenizer("\nabcdefghijk")
BOS = TOKENIZER.bos


def test_documents_are_separated_by_bos() -> None:
    half = DocumentHalf(["ab", "", "cab"], TOKENIZER)
    assert half.tokens.tolist() == [BOS, *TOKENIZER.encode("ab"), BOS, BOS, *TOKENIZER.encode("cab"), BOS]
    assert (half.text, half.before, half.size) == ("ab\n\ncab\n", "", 3)
    assert half.text == TOKENIZER.decode(half.tokens[1:].tolist(), "\n")


def test_a_running_text_is_cut_at_any_token() -> None:
    tokens = torch.tensor(TOKENIZER.encode_documents(["ab", "cab"]))
    first, second = (StreamHalf(part, TOKENIZER, "\n\n") for part in (tokens[:5], tokens[5:]))
    assert (first.before, first.text, first.documents, first.size) == ("\n\n", "ab\n\nc", ["ab\n\nc"], 5)
    assert (second.before, second.text, second.size) == ("a", "b\n\n", 3)


def test_an_excerpt_is_a_document_that_is_neither_short_nor_cut_if_there_is_one() -> None:
    half = DocumentHalf(["ab", "abcdefghijkabc", "abcdefgh"], TOKENIZER)
    assert half.excerpt(10).tolist() == [BOS, *TOKENIZER.encode("abcdefgh"), BOS]
    assert half.excerpt(6).tolist() == [BOS, *TOKENIZER.encode("abcde")]
    tokens = torch.arange(9)
    assert StreamHalf(tokens, TOKENIZER, "\n\n").excerpt(4).tolist() == [0, 1, 2, 3]


def test_tokens_are_made_once() -> None:
    half = DocumentHalf(["ab"], TOKENIZER)
    assert half.tokens is half.tokens


@pytest.mark.parametrize("name", ["documents", "tokens", "text", "before", "size"])
def test_both_kinds_define_what_a_half_is(name: str) -> None:
    assert name in vars(DocumentHalf) and name in vars(StreamHalf)
