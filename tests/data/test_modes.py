"""Modes: how documents are split, what the splits hold, and the rows that give each token its context."""

from collections import Counter
from functools import partialmethod
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.config.registry import MODES
from microgpt.config.schema import DatasetConfig
from microgpt.data.batches import PADDING, Rows
from microgpt.data.corpus import Corpus
from microgpt.data.loading import load_data
from microgpt.data.modes import VALIDATION_FRACTION, Discrete, Mode, Stream, find_mode
from microgpt.data.splits import DocumentSplit, Split
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError

CPU = torch.device("cpu")
NAMES = [f"{a}{b}{c}" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin")]

either_mode = pytest.mark.parametrize("mode", [Discrete(), Stream()], ids=lambda mode: mode.name)
documents_of_a_line = st.lists(st.text("abc ", min_size=1, max_size=14), min_size=2, max_size=12)
paragraphs_of_lines = st.lists(st.from_regex(r"[abc]+(\n[abc]+)?", fullmatch=True), min_size=2, max_size=12)
lengths = st.lists(st.integers(1, 20), min_size=1, max_size=6)
block_sizes = st.integers(1, 9)


def split(mode: Mode, documents: list[str], seed: int = 0) -> tuple[Split, Split]:
    return mode.split(Corpus.of("some", mode, documents), seed)


# -- splits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "held_out"), [(2, 1), (5, 1), (10, 1), (100, 10), (1004, 100)])
def test_a_split_of_documents_is_disjoint_and_complete_and_holds_out_a_tenth(n: int, held_out: int) -> None:
    documents = [str(i) for i in range(n)]
    train, val = split(Discrete(), documents)
    assert (train.size, val.size) == (n - held_out, held_out)
    assert sorted(train.documents + val.documents) == sorted(documents)


def test_a_split_of_documents_is_drawn_by_its_seed() -> None:
    documents = [str(i) for i in range(100)]
    assert split(Discrete(), documents, 1)[0].documents == split(Discrete(), documents, 1)[0].documents
    held_out = [set(split(Discrete(), documents, seed)[1].documents) for seed in range(4)]
    assert all(a != b for a, b in combinations(held_out, 2))
    assert held_out[0] != set(documents[-10:])


@pytest.mark.parametrize(("n", "cut"), [(3, 2), (5, 4), (100, 90)])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_split_of_a_stream_holds_out_its_end_whatever_the_seed(n: int, cut: int, seed: int) -> None:
    document = "".join(map(chr, range(0x100, 0x100 + n - 2)))  # with the BOS before and after it, n tokens
    train, val = split(Stream(), [document], seed)
    whole = Tokenizer.of([document]).encode_documents([document])
    assert train.tokens.tolist() == whole[:cut]
    assert val.tokens.tolist() == whole[cut:]
    assert (train.size, val.size) == (cut, n - cut)


@either_mode
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
def test_the_fraction_says_how_much_is_held_out(mode: Mode, fraction: float) -> None:
    train, val = mode.split(Corpus.of("names", mode, NAMES), 0, fraction)
    assert val.size == round(fraction * (train.size + val.size))


@either_mode
def test_without_a_fraction_the_validation_fraction_is_held_out(mode: Mode) -> None:
    val, given = split(mode, NAMES)[1], mode.split(Corpus.of("names", mode, NAMES), 0, VALIDATION_FRACTION)[1]
    assert val.text == given.text


@either_mode
def test_sizes_rows_batches_and_data_card_follow_the_split_of_the_mode(
    mode: Mode, names_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only `split` is replaced, by one with another fraction."""
    monkeypatch.setattr(type(mode), "split", partialmethod(type(mode).split, fraction=0.5))
    data = load_data(DatasetConfig(name="file", mode=mode.name, path=str(names_file)), 0, Path())
    assert abs(data.train.size - data.val.size) <= 1
    assert data.val_rows(4).n_targets == len(data.val.tokens) - 1
    assert set(data.batches(4, 2).epoch_rows(0).idx.flatten().tolist()) <= set(data.train.tokens.tolist())
    assert (data.card(4)["train"], data.card(4)["validation"]) == (f"{data.train.size:,}", f"{data.val.size:,}")


# -- splits ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(documents=documents_of_a_line)
def test_the_text_of_a_half_of_documents_is_its_tokens_decoded(documents: list[str]) -> None:
    mode, tokenizer = Discrete(), Tokenizer.of(documents)
    for part in split(mode, documents):
        assert part.text == tokenizer.decode(part.tokens[1:].tolist(), mode.bos_text)
        assert part.text == "".join(f"{document}\n" for document in part.documents)
        assert part.tokens.tolist() == tokenizer.encode_documents(part.documents)
        assert part.before == ""


@settings(deadline=None)
@given(documents=paragraphs_of_lines)
def test_the_text_of_a_half_of_a_stream_is_its_tokens_decoded(documents: list[str]) -> None:
    mode, tokenizer = Stream(), Tokenizer.of(documents)
    train, val = split(mode, documents)
    for part in (train, val):
        assert part.text == tokenizer.decode(part.tokens[1:].tolist(), mode.bos_text)
        assert part.before == tokenizer.decode(part.tokens[:1].tolist(), mode.bos_text)
        assert part.documents == [part.text]
    assert train.text + val.before + val.text == "".join(f"{document}\n\n" for document in documents)


@either_mode
def test_the_rows_of_a_half_hold_each_of_its_tokens_but_the_first_as_a_target_once(mode: Mode) -> None:
    for part in split(mode, NAMES):
        rows = mode.rows(part, 7, CPU)
        assert sorted(rows.targets[rows.targets != PADDING].tolist()) == sorted(part.tokens[1:].tolist())


@pytest.mark.parametrize(
    ("documents", "excerpt"),
    [
        (["abc", "abcdefghijkl", "bcdefgh", "cdefghi"], "|bcdefgh|"),
        (["abc", "abcdef", "b"], "|abcdef|"),
        (["abc", "abcdefghijkl"], "|abcdefghi"),
    ],
)
def test_an_excerpt_is_the_first_document_of_a_fitting_length_else_the_longest(
    documents: list[str], excerpt: str
) -> None:
    corpus = Corpus.of("some", Discrete(), documents)
    part = DocumentSplit(corpus, 0, 0, len(documents))
    part.indices = np.arange(len(documents))  # in this order
    assert part.tokenizer.decode(part.excerpt(10).tolist(), "|") == excerpt


def test_an_excerpt_of_a_stream_is_its_beginning() -> None:
    for part in split(Stream(), NAMES):
        assert part.excerpt(10).tolist() == part.tokens[:10].tolist()


# -- rows with context -------------------------------------------------------------------------------------


def distinct_parts(lengths: list[int]) -> list[str]:
    """Parts of these lengths in which no character occurs twice."""
    chars = iter(map(chr, range(0x100, 0x1000)))
    return ["".join(next(chars) for _ in range(length)) for length in lengths]


def contexts(rows: Rows) -> dict[tuple[int, int], list[int]]:
    """For each target: the tokens of its context, back to position 0, and the target itself."""
    found: dict[tuple[int, int], list[int]] = {}
    for row, place in (rows.targets != PADDING).nonzero().tolist():
        position = place if rows.positions is None else int(rows.positions[row, place])
        pair = int(rows.idx[row, place]), int(rows.targets[row, place])
        assert pair not in found, "a target twice"
        found[pair] = rows.idx[row, place - position : place + 1].tolist()
    return found


def check_context(rows: Rows, texts: list[list[int]], block_size: int) -> None:
    """Each token but the first of each text is a target once; its context is all earlier tokens or half a block."""
    found = contexts(rows)
    for tokens in texts:
        for i in range(1, len(tokens)):
            context = found.pop((tokens[i - 1], tokens[i]))
            assert context == tokens[max(0, i - len(context)) : i]
            assert len(context) == i or len(context) > block_size // 2
    assert not found


@settings(deadline=None)
@given(lengths=lengths, block_size=block_sizes)
def test_each_token_of_a_document_is_a_target_once_with_half_a_block_of_context(
    lengths: list[int], block_size: int
) -> None:
    parts = distinct_parts(lengths)
    tokenizer = Tokenizer.of(parts)
    rows = Discrete().context_rows(parts, tokenizer, block_size, "")
    check_context(rows, [tokenizer.encode_documents([part]) for part in parts], block_size)


@settings(deadline=None)
@given(lengths=lengths, block_size=block_sizes)
def test_each_token_of_a_stream_is_a_target_once_with_half_a_block_of_context(
    lengths: list[int], block_size: int
) -> None:
    """Unlike a document, the text has no end token to predict."""
    parts = distinct_parts(lengths)
    tokenizer = Tokenizer.of(parts)
    rows = Stream().context_rows(parts, tokenizer, block_size, "")
    check_context(rows, [tokenizer.encode_documents(parts)[:-1]], block_size)


@pytest.mark.parametrize(("before", "first"), [("b", 1), ("\n\n", 3), ("", 3), ("x", 3)])
def test_a_stream_begins_with_the_character_before_it_if_the_tokenizer_has_it_else_with_bos(
    before: str, first: int
) -> None:
    rows = Stream().context_rows(["ac"], Tokenizer("abc"), 4, before)
    assert rows.idx.tolist() == [[first, 0, 0, 0]]
    assert rows.targets.tolist() == [[0, 2, PADDING, PADDING]]


@settings(deadline=None)
@given(documents=documents_of_a_line, block_size=block_sizes)
def test_encoding_the_text_of_a_half_of_documents_gives_its_targets(documents: list[str], block_size: int) -> None:
    mode, tokenizer = Discrete(), Tokenizer.of(documents)
    for part in split(mode, documents):
        rows = mode.context_rows(mode.parts(part.text), tokenizer, block_size, part.before)
        assert sorted(rows.targets[rows.targets != PADDING].tolist()) == sorted(part.tokens[1:].tolist())


@settings(deadline=None)
@given(documents=paragraphs_of_lines, block_size=block_sizes)
def test_encoding_the_text_of_a_half_of_a_stream_gives_its_targets(documents: list[str], block_size: int) -> None:
    mode, tokenizer = Stream(), Tokenizer.of(documents)
    for part in split(mode, documents):
        rows = mode.context_rows(mode.parts(part.text), tokenizer, block_size, part.before)
        assert rows.targets[rows.targets != PADDING].tolist() == part.tokens[1:].tolist()
        assert rows.idx.flatten()[:1].tolist() == part.tokens[:1].tolist() or len(part.tokens) == 1


def test_nothing_to_predict_gives_no_targets() -> None:
    assert Stream().context_rows([""], Tokenizer("abc"), 4, "").n_targets == 0
    assert Discrete().context_rows([], Tokenizer("abc"), 4, "").n_targets == 0


# -- texts and prompts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a\nb\n", ["a", "b"]), ("a\nb", ["a", "b"]), ("a\n\nb", ["a", "", "b"]), ("", [""]), ("\n", [""])],
)
def test_a_newline_ends_a_document_and_so_does_the_end_of_the_text(text: str, parts: list[str]) -> None:
    assert Discrete().parts(text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a\nb\n\nc", ["a\nb", "c"]), ("a\n\n\n\nb", ["a", "b"]), ("a\n\n", ["a", ""]), ("a\n", ["a\n"]), ("", [""])],
)
def test_blank_lines_split_a_stream(text: str, parts: list[str]) -> None:
    assert Stream().parts(text) == parts


def test_a_prompt_is_one_part_of_a_document_and_cut_at_blank_lines_for_a_stream() -> None:
    assert Discrete().prompt_parts("a\n\nb") == ["a\n\nb"]
    assert Stream().prompt_parts("a\n\nb") == ["a", "b"]
    assert Discrete().prompt_parts("") == Stream().prompt_parts("") == [""]


@pytest.mark.parametrize(("text", "discrete", "stream"), [("ab", 3, 2), ("ab\n", 3, 3), ("", 1, 0), ("a\n\nb", 5, 4)])
def test_the_end_of_a_document_counts_as_a_character(text: str, discrete: int, stream: int) -> None:
    assert (Discrete().count_characters(text), Stream().count_characters(text)) == (discrete, stream)


@either_mode
@given(documents=paragraphs_of_lines)
@settings(deadline=None)
def test_the_number_of_characters_of_a_text_is_that_of_its_targets(mode: Mode, documents: list[str]) -> None:
    text, tokenizer = "\n\n".join(documents), Tokenizer("\nabc")
    targets = mode.context_rows(mode.parts(text), tokenizer, 5, "").targets
    n_bos = int((targets == tokenizer.bos).sum())
    n_others = int((targets != PADDING).sum()) - n_bos
    assert mode.count_characters(text) == n_others + n_bos * len(mode.bos_text)


def test_a_paragraph_ends_at_a_blank_line() -> None:
    assert Stream().divide("\n\none \ntwo\t\n\n\n \n  three\n\n", Counter()) == ["one\ntwo", "  three"]
    assert Stream().divide(" \n\n", Counter()) == []


def test_documents_are_dropped_until_no_character_is_rare() -> None:
    """Without "xa" there is one "a" left, and so "ab" is dropped too."""
    encoded, duplicates, dropped = Discrete().collect(lambda: ["xa\nab\nbb\nb\nb"], 2, "key", Counter())
    assert (encoded.documents(), encoded.chars, duplicates, dropped) == (["bb", "b"], "b", 1, 2)


def test_a_separator_of_ones_own_divides_also_where_it_is_rare() -> None:
    mode, changes = find_mode("stream", "%%"), Counter[str]()
    encoded, _, dropped = mode.collect(lambda: ["aaaa#aaaa%%aaaa"], 4, "key", changes)
    assert (encoded.documents(), dropped) == (["aaaaaaaa", "aaaa"], 1)


@settings(deadline=None)
@given(lines=st.lists(st.text("aab bcd", max_size=4), min_size=1, max_size=30), min_count=st.integers(1, 4))
def test_documents_are_collected_as_python_lists_would_be(lines: list[str], min_count: int) -> None:
    stripped = [line.strip() for line in lines if line.strip()]
    documents = distinct = list(dict.fromkeys(stripped))
    while rare := {char for char, n in Counter("".join(documents)).items() if n < min_count}:
        documents = [document for document in documents if rare.isdisjoint(document)]
    if len(documents) < 2:
        with pytest.raises(UserError, match="holds no text" if not stripped else f"holds {len(documents)} different"):
            Discrete().collect(lambda: ["\n".join(lines)], min_count, "key", Counter())
        return
    encoded, duplicates, dropped = Discrete().collect(lambda: ["\n".join(lines)], min_count, "key", Counter())
    assert encoded.documents() == documents and encoded.chars == "".join(sorted(set("".join(documents))))
    assert (duplicates, dropped) == (len(stripped) - len(distinct), len(distinct) - len(documents))


@either_mode
def test_texts_that_hold_too_little_are_refused_under_the_name_of_the_setting(mode: Mode) -> None:
    with pytest.raises(UserError, match=r"dataset\.path=x\.txt: holds no text"):
        mode.collect(lambda: ["", " \n"], 1, "dataset.path=x.txt", Counter())


# -- choices -----------------------------------------------------------------------------------------------


def test_each_mode_is_found_by_its_name() -> None:
    assert find_mode("discrete") == Discrete() and find_mode("stream") == Stream()
    assert all(mode.name == name for name, mode in MODES.items())


def test_a_sample_of_documents_stops_at_bos_and_one_of_a_stream_does_not() -> None:
    assert Discrete().stop_token(Tokenizer("abc")) == 3
    assert Stream().stop_token(Tokenizer("abc")) is None


# -- other documents ---------------------------------------------------------------------------------------

POEMS = ["a\nb", "c", "ab\n\nc\nb", "b\nb"]


@either_mode
@pytest.mark.parametrize("document", ["record", "whole", "\\n>", "|"])
def test_the_text_of_a_split_gives_its_tokens_and_its_characters_again(mode: Mode, document: str) -> None:
    """Whatever a document is, and whatever it holds but its separator."""
    mode = find_mode(mode.name, document)
    documents = [poem.replace("\n\n", "\n") if document == "record" else poem for poem in POEMS]
    tokenizer = Tokenizer.of(documents)
    for part in mode.split(Corpus.of("poems", mode, documents), 0, 0.5):
        assert part.text == tokenizer.decode(part.tokens[1:].tolist(), mode.bos_text)
        assert part.n_characters == mode.count_characters(part.text) == len(part.text)
        targets = mode.context_rows(mode.parts(part.text), tokenizer, 4, part.before).targets
        assert sorted(targets[targets != PADDING].tolist()) == sorted(part.tokens[1:].tolist())
        assert part.before == tokenizer.decode(part.tokens[:1].tolist(), mode.bos_text) * (mode.name == "stream")


def test_a_mode_says_whether_its_samples_are_lines() -> None:
    lines = {("discrete", "auto"), ("discrete", "line")}
    for name in MODES:
        for document in ("auto", "line", "record", "whole", ">"):
            assert find_mode(name, document).one_line == ((name, document) in lines)
