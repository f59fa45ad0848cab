"""Characters to ids and back."""

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.data.tokenizer import Tokenizer, excerpt
from microgpt.errors import UserError

documents = st.lists(st.text())


@given(documents)
def test_every_document_survives_the_round_trip(corpus: list[str]) -> None:
    tokenizer = Tokenizer.of(corpus)
    assert [tokenizer.decode(tokenizer.encode(document)) for document in corpus] == corpus


@given(documents)
def test_ids_follow_the_order_of_the_characters_and_bos_comes_last(corpus: list[str]) -> None:
    tokenizer = Tokenizer.of(corpus)
    chars = sorted(set("".join(corpus)))
    assert [tokenizer.stoi[char] for char in chars] == list(range(len(chars)))
    assert tokenizer.bos == len(chars) == tokenizer.vocab_size - 1


@given(documents)
def test_bos_is_before_between_and_after_documents(corpus: list[str]) -> None:
    tokenizer = Tokenizer.of(corpus)
    ids = tokenizer.encode_documents(corpus)
    assert ids[0] == ids[-1] == tokenizer.bos
    assert ids.count(tokenizer.bos) == len(corpus) + 1
    assert tokenizer.decode(ids) == "".join(corpus)


def test_known_documents_have_known_ids() -> None:
    tokenizer = Tokenizer.of(["ba", "c"])
    assert tokenizer.encode_documents(["ba", "c"]) == [3, 1, 0, 3, 2, 3]


def test_decoding_replaces_bos_by_the_given_text() -> None:
    tokenizer = Tokenizer("ab")
    assert tokenizer.decode([2, 0, 2, 1], bos="|") == "|a|b"


def test_the_order_of_the_documents_does_not_change_the_ids() -> None:
    assert Tokenizer.of(["xyz", "abc"]).chars == Tokenizer.of(["abc", "xyz"]).chars == "abcxyz"


def test_a_tokenizer_is_determined_by_its_characters() -> None:
    tokenizer = Tokenizer.of(["hello", "world"])
    assert Tokenizer(tokenizer.chars).encode("low") == tokenizer.encode("low")


def test_an_unknown_character_is_named_in_one_line_with_those_that_are_known() -> None:
    tokenizer = Tokenizer("\nabc")
    with pytest.raises(UserError) as error:
        tokenizer.encode("ab\néa", "prompt")
    message = str(error.value)
    assert message.startswith("prompt=") and "no 'é'" in message and "abc" in message
    assert "\n" not in message


def test_a_character_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Tokenizer("aba")


def test_every_token_has_a_visible_name() -> None:
    assert Tokenizer("\n\t aé").names() == ["\\n", "\\t", "␣", "a", "é", "⏎"]


def test_a_literal_backslash_n_is_refused_with_the_way_to_type_a_newline() -> None:
    with pytest.raises(UserError) as error:
        Tokenizer("\n abc'").encode("ab\\nc 'a", "prompt")
    message = str(error.value)
    assert "\n" not in message and message.endswith(r"for a newline, type in bash or zsh prompt=$'ab\nc \'a'")
    typed = subprocess.run(
        ["bash", "-c", f"printf %s {message.rpartition(' zsh ')[2]}"], capture_output=True, check=True
    )
    assert typed.stdout.decode() == "prompt=ab\nc 'a"
    with pytest.raises(UserError) as error:
        Tokenizer("abc").encode("a\\nb", "prompt")
    assert "newline" not in str(error.value)


def test_characters_that_do_not_print_are_shown_as_escapes() -> None:
    with pytest.raises(UserError, match=r"use characters of: \\n a\\u2028\\x0c$"):
        Tokenizer("\n a\u2028\x0c").encode("b")


def test_the_error_for_an_unknown_character_shows_a_part_of_a_long_text_and_of_a_long_alphabet() -> None:
    chars = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    text = "一" * 3000 + "?" + "丁" * 3000
    with pytest.raises(UserError) as error:
        Tokenizer(chars).encode(text)
    message = str(error.value)
    assert message.startswith(f"text='…{'一' * 30}?{'丁' * 29}…': the corpus holds no '?'; use characters of: 一丁")
    assert message.endswith("… (500 characters in all)") and len(message) < 400


@pytest.mark.parametrize(("place", "shown"), [(0, "a" * 60 + "…"), (99, "…" + "a" * 60)])
def test_an_excerpt_reaches_to_the_end_of_a_text(place: int, shown: str) -> None:
    assert excerpt("a" * 100, place) == shown
