"""Text generation: from prompts to texts, returned whole or streamed in pieces."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from microgpt.config.schema import ModelConfig, SamplingConfig
from microgpt.data.modes import find_mode
from microgpt.data.normalisation import Normaliser
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError
from microgpt.model import text_generator
from microgpt.model.text_generator import TextGenerator
from microgpt.model.transformer import GPT

SAMPLING = SamplingConfig(n_samples=3, max_tokens=20, prompts=["", "ab"])

either_mode = pytest.mark.parametrize("mode", ["discrete", "stream"])


def generator(mode: str) -> TextGenerator:
    torch.manual_seed(0)
    tokenizer = Tokenizer("\n abc")
    model = GPT(tokenizer.vocab_size, ModelConfig(block_size=8, n_embd=8, n_layer=1, n_head=2))
    # In float64, what a sample holds does not depend on how many are drawn at once.
    return TextGenerator(model.double(), tokenizer, find_mode(mode))


def test_a_prompt_begins_with_bos_and_a_blank_line_of_a_stream_is_one() -> None:
    discrete, stream = generator("discrete"), generator("stream")
    bos = discrete.tokenizer.bos
    assert discrete.prompt_ids("ab") == [bos, 2, 3]
    assert stream.prompt_ids("") == [bos]
    assert stream.prompt_ids("a\n\nb ") == [bos, 2, bos, 3, 1]
    assert stream.prompt_ids("a\n\n") == [bos, 2, bos]
    assert stream.prompt_ids("a\n") == [bos, 2, 0]


def test_a_character_that_the_corpus_lacks_is_named() -> None:
    with pytest.raises(UserError, match=r"prompt='aé': the corpus holds no 'é'"):
        generator("discrete").prompt_ids("aé")


@either_mode
def test_there_are_n_samples_for_each_prompt_and_each_begins_with_it(mode: str) -> None:
    texts = generator(mode).generate(SAMPLING, seed=1)
    assert len(texts) == 6
    assert all(text.startswith("ab") for text in texts[3:])


def test_draws_are_seeded() -> None:
    assert generator("stream").generate(SAMPLING, 1) == generator("stream").generate(SAMPLING, 1)
    assert generator("stream").generate(SAMPLING, 1) != generator("stream").generate(SAMPLING, 2)


@either_mode
def test_streamed_texts_are_the_same_texts_in_pieces(mode: str) -> None:
    pieces = list(generator(mode).stream(SAMPLING, seed=1))
    assert "".join(pieces) == generator(mode).lay_out(generator(mode).generate(SAMPLING, seed=1), SAMPLING) + "\n"
    assert len(pieces) > 30


def test_discrete_texts_end_with_the_document_and_those_of_a_stream_do_not() -> None:
    discrete = generator("discrete").generate(SamplingConfig(n_samples=20, max_tokens=50), seed=1)
    assert not any("\n\n" in text for text in discrete) and len({len(text) for text in discrete}) > 3
    assert any("\n\n" in text for text in generator("stream").generate(SamplingConfig(max_tokens=50), seed=1))


def test_a_prompt_is_nfc_as_the_corpus_is() -> None:
    tokenizer = Tokenizer("\u00e9")
    model = GPT(tokenizer.vocab_size, ModelConfig(block_size=8, n_embd=8, n_layer=1, n_head=2))
    assert TextGenerator(model, tokenizer, find_mode("discrete")).prompt_ids("e\u0301") == [tokenizer.bos, 0]


def test_bos_is_decoded_as_the_text_it_represents() -> None:
    assert generator("stream").decode([2, 5, 3]) == "a\n\nb"
    assert generator("discrete").decode([2, 3]) == "ab"


def test_sampling_settings_become_arguments_of_generate() -> None:
    sampling = SamplingConfig(temperature=0.5, top_k=3, top_p=0.9)
    expected = {"temperature": 0.5, "top_k": 3, "top_p": 0.9}
    assert generator("discrete").options(sampling) == {**expected, "stop": 5}
    assert generator("stream").options(sampling) == {**expected, "stop": None}


@either_mode
def test_samples_drawn_in_several_parts_are_the_same(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = SamplingConfig(n_samples=5, max_tokens=20, prompts=["", "ab"])
    together = generator(mode).generate(sampling, seed=1)
    monkeypatch.setattr(text_generator, "SAMPLES_AT_ONCE", 2)
    assert generator(mode).generate(sampling, seed=1) == together


def normalising(chars: str, mode: str = "discrete", document: str = "auto", **options: Any) -> TextGenerator:
    torch.manual_seed(0)
    model = GPT(len(chars) + 1, ModelConfig(block_size=8, n_embd=8, n_layer=1, n_head=2))
    return TextGenerator(model.double(), Tokenizer(chars), find_mode(mode, document), Normaliser(**options))


@pytest.mark.parametrize(
    ("typed", "read", "settings"),
    [
        ("Ab", "ab", {"lowercase": True}),
        ("Ab", "ab", {}),  # the corpus has no capitals
        ("a\u0301", "\u00e1", {}),
        ("\u00e1", "a\u0301", {"form": "NFD"}),
        ("b\u2019a", "b'a", {"replace": {"\u2019": "'"}}),
        ("aab", "bb", {"replace": {"aa": "b"}}),  # of characters that the corpus has
        ("b\r\na", "b\na", {}),
        ("ab", "ab", {"lowercase": True}),
    ],
)
def test_a_prompt_is_normalised_as_the_corpus_and_the_sample_begins_with_it(
    typed: str, read: str, settings: dict[str, Any]
) -> None:
    generator = normalising("ab'\n\u00e1\u0301", **settings)
    assert generator.prompt_ids(typed) == [generator.tokenizer.bos, *generator.tokenizer.encode(read)]
    sampling = SamplingConfig(n_samples=2, max_tokens=3, prompts=[typed])
    texts = generator.generate(sampling, 1)
    assert all(text.startswith(read) for text in texts)
    assert texts == generator.generate(replace(sampling, prompts=[read]), 1)
    expected = [f"note: the prompt {typed!r} is read as {read!r}, since the corpus was normalised so"]
    assert generator.notes([typed, read]) == (expected if typed != read else [])


def test_a_prompt_is_refused_as_it_was_typed_where_lower_case_does_not_help() -> None:
    for typed, missing in (("\u00c9", "\u00c9"), ("Az", "z")):
        with pytest.raises(UserError, match=f"the corpus holds no '{missing}'"):
            normalising("ab").notes([typed])


def test_capitals_that_the_corpus_has_are_kept() -> None:
    assert normalising("abA").prompt("Ab") == "Ab" and not normalising("abA").notes(["Ab", ""])
    with pytest.raises(UserError, match="the corpus holds no 'B'"):
        normalising("abA").prompt_ids("B")


@either_mode
def test_a_prompt_may_begin_with_the_separator_of_documents(mode: str) -> None:
    generator = normalising("ab\n", mode, "\\n>")
    assert generator.prompt_ids(">ab") == generator.prompt_ids("ab") == [3, 0, 1]
    assert generator.generate(SamplingConfig(n_samples=1, prompts=[">ab"]), 1)[0].startswith("ab")


def test_a_sample_of_a_stream_can_end_with_its_document() -> None:
    stream = normalising(" abc", "stream")
    texts = stream.generate(SamplingConfig(n_samples=30, max_tokens=200, one_document=True), seed=1)
    assert not any("\n\n" in text for text in texts) and len({len(text) for text in texts}) > 5
    assert max(map(len, texts)) < 200
    free = stream.generate(SamplingConfig(n_samples=30, max_tokens=200), seed=1)
    assert next(text.partition("\n\n")[0] for text in free) == texts[0]


def test_samples_that_may_hold_newlines_are_told_apart_whatever_they_hold() -> None:
    stream, two = generator("stream"), SamplingConfig(n_samples=2)
    texts = ["a\n\n[end of sample 1]\n", " b"]
    assert stream.lay_out(texts, two) == "  a\n  \n  [end of sample 1]\n  \n[end of sample 1]\n   b\n[end of sample 2]"
    assert stream.lay_out(texts[:1], SamplingConfig(n_samples=1)) == texts[0]
    assert generator("discrete").lay_out(["a", "b"], two) == "a\nb"
    whole = normalising("ab", "stream", "whole")
    assert whole.lay_out(["a\x1eb", "b"], two) == "  a\n\u23ce\n  b\n[end of sample 1]\n  b\n[end of sample 2]"
    assert whole.lay_out(["a\x1eb"], SamplingConfig(n_samples=1)) == "a\n\u23ce\nb"


@pytest.mark.parametrize("n_samples", [1, 3])
@pytest.mark.parametrize("document", ["line", "record", "whole"])
@either_mode
def test_streamed_documents_of_several_lines_are_laid_out_as_those_returned(
    mode: str, document: str, n_samples: int
) -> None:
    generator, sampling = normalising("ab\n ", mode, document), SamplingConfig(n_samples=n_samples, prompts=["a\nb"])
    assert "".join(generator.stream(sampling, 1)) == generator.lay_out(generator.generate(sampling, 1), sampling) + "\n"
