"""What a text costs a model, by each of the stated rules, and the split that a run never trained on."""

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from microgpt import checkpoint
from microgpt.build import load_data
from microgpt.config import Config, Dataset, typed
from microgpt.errors import UserError
from microgpt.evaluate import evaluate
from microgpt.model import GPT
from microgpt.samples import Writer
from microgpt.scoring import UNSEEN_BITS, Passage, Reader, held_out, notes, score
from microgpt.tokenizer import Tokenizer

VERSES = "".join(f"the {a} is {b},\nand so it is.\n\n" for a in ("sea", "sky", "sun") for b in ("old", "new", "far"))


def make_reader(mode: str, chars: str, replace: dict[str, str] | None = None, label: str = "made") -> Reader:
    torch.manual_seed(0)
    tokenizer = Tokenizer(chars)
    dataset = Dataset(name="made", mode=mode, replace=replace or {})
    return Reader(label, Path(), Writer(GPT(tokenizer.vocab_size, 6, 8, 2, 2), tokenizer, mode), Config(dataset))


def plain_bits(reader: Reader, windows: Sequence[Sequence[int]]) -> float:
    """Bits of each window's tokens after its first, from a forward pass and nothing else."""
    bits = 0.0
    for window in windows:
        with torch.no_grad():
            logprobs = reader.writer.model(torch.tensor([window[:-1]]))[0].double().log_softmax(-1)
        bits -= sum(logprobs[t, token].item() for t, token in enumerate(window[1:])) / math.log(2)
    return bits


# ids of "abc": a 0, b 1, c 2, BOS 3; with "\n" before them: "\n" 0, a 1, b 2, c 3, BOS 4
def test_a_document_costs_its_characters_and_its_end() -> None:
    reader = make_reader("discrete", "abc")
    found = score(reader, Passage("abca"))
    assert found.bits == pytest.approx(plain_bits(reader, [[3, 0, 1, 2, 0, 3]]), rel=1e-5)
    assert (found.chars, found.unseen, found.normalised) == (5, 0, False)
    assert found.bpc == found.bits / 5


def test_a_stream_text_costs_its_characters_alone() -> None:
    reader = make_reader("stream", "\nabc")
    found = score(reader, Passage("a\nb"))
    assert found.bits == pytest.approx(plain_bits(reader, [[4, 1, 0, 2]]), rel=1e-5)
    assert found.chars == 3


def test_a_blank_line_of_a_stream_is_bos_and_counts_as_two_characters() -> None:
    reader = make_reader("stream", "\nabc")
    found = score(reader, Passage("a\n\nb"))
    assert found.bits == pytest.approx(plain_bits(reader, [[4, 1, 4, 2]]), rel=1e-5)
    assert found.chars == 4


def test_the_lines_of_a_text_are_documents_to_a_discrete_model() -> None:
    reader = make_reader("discrete", "abc")
    found = score(reader, Passage("ab\n\nc"))
    assert found.bits == pytest.approx(plain_bits(reader, [[3, 0, 1, 3], [3, 3], [3, 2, 3]]), rel=1e-5)
    assert found.chars == 6
    assert score(reader, Passage("ab\n\nc\n")) == found


@pytest.mark.parametrize(("before", "first"), [("b", 2), ("\n\n", 4), ("?", 4), ("", 4)])
def test_what_stands_before_is_context_of_a_stream(before: str, first: int) -> None:
    reader = make_reader("stream", "\nabc")
    found = score(reader, Passage("ac", before))
    assert found.bits == pytest.approx(plain_bits(reader, [[first, 1, 3]]), rel=1e-5)
    assert found.chars == 2


def test_a_long_text_is_read_in_windows_as_in_training() -> None:
    """Blocks of six: each window begins with the last token of the one before."""
    discrete, stream = make_reader("discrete", "abc"), make_reader("stream", "\nabc")
    assert score(discrete, Passage("abcabcab")).bits == pytest.approx(
        plain_bits(discrete, [[3, 0, 1, 2, 0, 1, 2], [2, 0, 1, 3]]), rel=1e-5
    )
    assert score(stream, Passage("abcabcab")).bits == pytest.approx(
        plain_bits(stream, [[4, 1, 2, 3, 1, 2, 3], [3, 1, 2]]), rel=1e-5
    )


@pytest.mark.parametrize(("mode", "chars"), [("discrete", "abc"), ("stream", "\nabc")])
def test_an_unseen_character_costs_a_draw_from_unicode_and_is_read_over(mode: str, chars: str) -> None:
    reader = make_reader(mode, chars)
    found, without = score(reader, Passage("a☃b☃")), score(reader, Passage("ab"))
    assert pytest.approx(20.087, abs=1e-3) == UNSEEN_BITS
    assert found.bits == pytest.approx(without.bits + 2 * UNSEEN_BITS, rel=1e-9)
    assert (found.unseen, found.chars) == (2, without.chars + 2)
    nothing_known = score(make_reader("stream", "\nabc"), Passage("☃"))
    assert nothing_known.bits == UNSEEN_BITS and nothing_known.bpc == UNSEEN_BITS


def test_a_newline_is_unseen_to_a_stream_that_has_none() -> None:
    assert score(make_reader("stream", "abc"), Passage("a\nb\n\nc")).unseen == 1


def test_a_text_is_read_as_the_corpus_was_normalised() -> None:
    decomposed = unicodedata.normalize("NFD", "É")
    reader = make_reader("discrete", "'aé", replace={"’": "'"})
    found = score(reader, Passage(f"A’{decomposed}"))
    assert found.bits == pytest.approx(plain_bits(reader, [[3, 1, 0, 2, 3]]), rel=1e-5)
    assert (found.unseen, found.normalised, found.chars) == (0, True, 5)
    assert score(make_reader("discrete", "𝐀a"), Passage("A")).unseen == 0  # a capital that has no small letter
    assert score(make_reader("discrete", "Aa"), Passage("AB")).unseen == 1


def test_a_text_of_known_characters_is_read_as_it_is() -> None:
    """So that a split is to its own model what it was in training, even where replacing again would change it."""
    assert make_reader("discrete", "a-", replace={"--": "-"}).normalise("a---a\n") == "a---a\n"


@pytest.fixture
def readers(tmp_path: Path) -> dict[str, Reader]:
    """A model of each mode, untrained, that is one of the corpus in verses.txt."""
    (tmp_path / "verses.txt").write_text(VERSES * 4)
    return {mode: read_verses(tmp_path, mode) for mode in ("discrete", "stream")}


def read_verses(folder: Path, mode: str, seed: int = 1) -> Reader:
    dataset = {"name": "file", "path": str(folder / "verses.txt"), "mode": mode}
    model = {"n_embd": 8, "n_layer": 1, "n_head": 2, "block_size": 8}
    config = typed(OmegaConf.create({"dataset": dataset, "model": model, "seed": seed}))
    data = load_data(config, torch.device("cpu"))
    home = folder / f"{mode}{seed}"
    home.mkdir(exist_ok=True)
    checkpoint.save(home / "best.pt", {"corpus": data.corpus.fingerprint})
    torch.manual_seed(0)
    return Reader(mode, home, Writer(GPT(data.tokenizer.vocab_size, 8, 8, 1, 2), data.tokenizer, mode), config)


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_a_model_finds_in_its_own_split_exactly_what_evaluate_finds(mode: str, readers: dict[str, Reader]) -> None:
    reader = readers[mode]
    data = load_data(reader.config, torch.device("cpu"))
    expected = evaluate(reader.writer.model, data.val, data.tokenizer.bos, data.bos_chars)
    assert score(reader, held_out(reader)).bpc == pytest.approx(expected.bpc, rel=1e-9)


def test_the_split_of_a_stream_is_its_end_and_what_stands_before(readers: dict[str, Reader]) -> None:
    passage = held_out(readers["stream"])
    assert (VERSES * 4).endswith(passage.before + passage.text) and 0.08 < len(passage.text) / len(VERSES * 4) < 0.12


def test_the_split_of_documents_follows_the_seed(readers: dict[str, Reader], tmp_path: Path) -> None:
    passage, other = held_out(readers["discrete"]), held_out(read_verses(tmp_path, "discrete", seed=7))
    assert passage.text.endswith("\n") and set(passage.text.splitlines()) <= set(VERSES.splitlines())
    assert passage != other and passage == held_out(read_verses(tmp_path, "discrete"))


def test_a_corpus_that_has_changed_or_is_not_known_is_refused(readers: dict[str, Reader], tmp_path: Path) -> None:
    checkpoint.save(readers["stream"].folder / "best.pt", {})
    (tmp_path / "verses.txt").write_text(VERSES + "new")
    for reader in readers.values():
        with pytest.raises(UserError, match=rf"^runs={reader.folder}: its corpus has changed since, or .*; leave it"):
            held_out(reader)


def test_the_rules_that_bore_on_the_scores_are_told() -> None:
    plain, lower = make_reader("discrete", "Aa", label="plain"), make_reader("discrete", "ab", label="lower")
    assert notes([score(plain, Passage("Aa")), score(lower, Passage("ab"))]) == []
    unseen, read = notes([score(plain, Passage("AB")), score(lower, Passage("AB")), score(lower, Passage("A"))])
    assert unseen.startswith("A character that a model has never seen costs 20.09 bits, as if drawn evenly")
    assert read == "Read in the spelling of their corpora (lower case, replacements) by: lower."
