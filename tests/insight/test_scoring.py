"""The bits of a text under a model, by each of the stated rules, and the validation split of a run."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from microgpt.config.schema import Config, DatasetConfig, ModelConfig
from microgpt.data.loading import load_data
from microgpt.data.modes import find_mode
from microgpt.data.normalisation import Normaliser
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError
from microgpt.insight.explanation import explain_text
from microgpt.insight.scoring import (
    UNSEEN_BITS,
    LabelledRun,
    Passage,
    describe_rules,
    normalise_like_corpus,
    score,
    validation_passage,
)
from microgpt.model.evaluation import evaluate
from microgpt.model.text_generator import TextGenerator
from microgpt.model.transformer import GPT
from microgpt.runs.opening import OpenRun

VERSES = "".join(f"the {a} is {b},\nand so it is.\n\n" for a in ("sea", "sky", "sun") for b in ("old", "new", "far"))


def make_generator(
    tokenizer: Tokenizer, mode: str, block_size: int, normaliser: Normaliser | None = None
) -> TextGenerator:
    torch.manual_seed(0)
    model = GPT(tokenizer.vocab_size, ModelConfig(n_embd=8, n_layer=2, n_head=2, block_size=block_size))
    return TextGenerator(model, tokenizer, find_mode(mode), normaliser or Normaliser())


def make_run(mode: str, chars: str, replacements: dict[str, str] | None = None, label: str = "made") -> LabelledRun:
    """An untrained model with blocks of six tokens."""
    config = Config(DatasetConfig(name="made", mode=mode, replace=replacements or {}))
    generator = make_generator(Tokenizer(chars), mode, 6, Normaliser.of(config.dataset))
    return LabelledRun(label, OpenRun(Path(), generator, config, None))


def plain_bits(run: LabelledRun, windows: Sequence[Sequence[int]], contexts: Sequence[int] = ()) -> float:
    """Bits of each window's tokens after its first, or after as many as `contexts` says, from plain forward passes."""
    bits = 0.0
    for window, context in zip(windows, contexts or [1] * len(windows), strict=True):
        with torch.no_grad():
            logprobs = run.run.generator.model(torch.tensor([window[:-1]]))[0].double().log_softmax(-1)
        bits -= sum(logprobs[t - 1, window[t]].item() for t in range(context, len(window))) / math.log(2)
    return bits


# ids of "abc": a 0, b 1, c 2, BOS 3; with "\n" before them: "\n" 0, a 1, b 2, c 3, BOS 4
def test_the_bits_of_a_document_include_its_end() -> None:
    run = make_run("discrete", "abc")
    found = score(run, Passage("abca"))
    assert found.bits == pytest.approx(plain_bits(run, [[3, 0, 1, 2, 0, 3]]), rel=1e-5)
    assert (found.chars, found.unseen, found.normalised) == (5, 0, False)
    assert found.bpc == found.bits / 5


def test_the_bits_of_a_stream_text_include_no_end() -> None:
    run = make_run("stream", "\nabc")
    found = score(run, Passage("a\nb"))
    assert found.bits == pytest.approx(plain_bits(run, [[4, 1, 0, 2]]), rel=1e-5)
    assert found.chars == 3


def test_a_blank_line_of_a_stream_is_bos_and_counts_as_two_characters() -> None:
    run = make_run("stream", "\nabc")
    found = score(run, Passage("a\n\nb"))
    assert found.bits == pytest.approx(plain_bits(run, [[4, 1, 4, 2]]), rel=1e-5)
    assert found.chars == 4


def test_the_lines_of_a_text_are_documents_to_a_discrete_model() -> None:
    run = make_run("discrete", "abc")
    found = score(run, Passage("ab\n\nc"))
    assert found.bits == pytest.approx(plain_bits(run, [[3, 0, 1, 3], [3, 3], [3, 2, 3]]), rel=1e-5)
    assert found.chars == 6
    assert score(run, Passage("ab\n\nc\n")) == found


@pytest.mark.parametrize(("before", "first"), [("b", 2), ("\n\n", 4), ("?", 4), ("", 4)])
def test_the_text_before_a_passage_is_its_context_in_a_stream(before: str, first: int) -> None:
    run = make_run("stream", "\nabc")
    found = score(run, Passage("ac", before))
    assert found.bits == pytest.approx(plain_bits(run, [[first, 1, 3]]), rel=1e-5)
    assert found.chars == 2


def test_a_text_longer_than_a_block_is_read_in_windows_that_overlap_by_half() -> None:
    """Blocks of six: the second window begins after three tokens; tokens that the first has predicted are context."""
    discrete, stream = make_run("discrete", "abc"), make_run("stream", "\nabc")
    first, second = [3, 0, 1, 2, 0, 1, 2], [2, 0, 1, 2, 0, 1, 3]
    bits = plain_bits(discrete, [first, second], contexts=[1, 4])
    assert score(discrete, Passage("abcabcab")).bits == pytest.approx(bits, rel=1e-5)
    # A text of a block and two tokens: the last window is a whole block too.
    first, second = [4, 1, 2, 3, 1, 2, 3], [2, 3, 1, 2, 3, 1, 2]
    bits = plain_bits(stream, [first, second], contexts=[1, 5])
    assert score(stream, Passage("abcabcab")).bits == pytest.approx(bits, rel=1e-5)


def test_each_long_document_has_its_own_windows() -> None:
    run = make_run("discrete", "abc")
    texts = ["ab", "abcabcab", "c", "ccccccccccccc", "aaaaaa"]
    parts = [score(run, Passage(text)) for text in texts]
    found = score(run, Passage("\n".join(texts)))
    assert found.bits == pytest.approx(sum(part.bits for part in parts), rel=1e-6)
    assert found.chars == sum(part.chars for part in parts)


@pytest.mark.parametrize(
    ("mode", "chars", "text"), [("discrete", "abc", "abc" * 5), ("stream", "\nabc", "ab\n\nc" * 5)]
)
def test_score_and_explain_find_the_same_bits_in_a_text_longer_than_two_blocks(
    mode: str, chars: str, text: str
) -> None:
    run = make_run(mode, chars)
    explained, found = explain_text(run.run.generator, text), score(run, Passage(text))
    assert len(explained.places) > 2 * run.run.generator.model.block_size
    assert found.bits == pytest.approx(sum(place.bits for place in explained.places), rel=1e-6)
    assert found.chars == explained.chars


@pytest.mark.parametrize(("mode", "chars"), [("discrete", "abc"), ("stream", "\nabc")])
def test_an_unseen_character_has_the_bits_of_a_uniform_draw_from_unicode(mode: str, chars: str) -> None:
    run = make_run(mode, chars)
    found, without = score(run, Passage("a☃b☃")), score(run, Passage("ab"))
    assert pytest.approx(20.087, abs=1e-3) == UNSEEN_BITS
    assert found.bits == pytest.approx(without.bits + 2 * UNSEEN_BITS, rel=1e-9)
    assert (found.unseen, found.chars) == (2, without.chars + 2)
    nothing_known = score(make_run("stream", "\nabc"), Passage("☃"))
    assert nothing_known.bits == UNSEEN_BITS and nothing_known.bpc == UNSEEN_BITS


def test_a_newline_is_unseen_to_a_stream_that_has_none() -> None:
    assert score(make_run("stream", "abc"), Passage("a\nb\n\nc")).unseen == 1


def test_a_text_is_read_as_the_corpus_was_normalised() -> None:
    decomposed = unicodedata.normalize("NFD", "É")
    run = make_run("discrete", "'aé", replacements={"’": "'"})
    found = score(run, Passage(f"A’{decomposed}"))
    assert found.bits == pytest.approx(plain_bits(run, [[3, 1, 0, 2, 3]]), rel=1e-5)
    assert (found.unseen, found.normalised, found.chars) == (0, True, 5)
    assert score(make_run("discrete", "𝐀a"), Passage("A")).unseen == 0  # a capital that has no small letter
    assert score(make_run("discrete", "Aa"), Passage("AB")).unseen == 1


def test_a_text_of_known_characters_is_read_as_it_is() -> None:
    """A run scores its own split as in training, even if a second replacement would change the text."""
    run = make_run("discrete", "a-", replacements={"--": "-"}).run
    assert normalise_like_corpus(run, "a---a\n") == "a---a\n"


def open_verses(folder: Path, mode: str, seed: int = 1, block_size: int = 8) -> LabelledRun:
    """An untrained run on the corpus in verses.txt."""
    file = folder / "verses.txt"
    if not file.exists():
        file.write_text(VERSES * 4)
    model = ModelConfig(n_embd=8, n_layer=2, n_head=2, block_size=block_size)
    config = Config(DatasetConfig(name="file", path=str(file), mode=mode), model, seed=seed)
    data = load_data(config.dataset, seed, folder)
    generator = make_generator(data.tokenizer, mode, block_size)
    return LabelledRun(mode, OpenRun(folder / "run", generator, config, data.corpus.fingerprint))


@pytest.mark.parametrize(("mode", "block_size"), [("discrete", 16), ("stream", 128)])
def test_a_run_s_own_split_has_the_bits_of_evaluate_if_its_texts_fit_a_block(
    tmp_path: Path, mode: str, block_size: int
) -> None:
    run = open_verses(tmp_path, mode, block_size=block_size)
    data = run.run.load_data("runs")
    rows = data.val_rows(block_size)
    expected = evaluate(run.run.generator.model, rows, data.count_characters(rows))
    found = score(run, validation_passage(run.run))
    assert found.bpc == pytest.approx(expected.bpc, rel=1e-9) and found.chars == data.count_characters(rows)


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_a_run_s_own_split_is_counted_as_evaluate_counts_it_if_its_texts_are_longer(tmp_path: Path, mode: str) -> None:
    """The characters and tokens are the same; each token has at least as much context."""
    run = open_verses(tmp_path, mode)
    data, generator, passage = run.run.load_data("runs"), run.run.generator, validation_passage(run.run)
    parts = generator.mode.parts(passage.text)
    rows = generator.mode.context_rows(parts, data.tokenizer, 8, passage.before)
    plain = data.val_rows(8)
    assert sorted(rows.targets[rows.targets >= 0].tolist()) == sorted(plain.targets[plain.targets >= 0].tolist())
    expected = evaluate(generator.model, rows, data.count_characters(plain))
    assert score(run, passage).bpc == pytest.approx(expected.bpc, rel=1e-9)


def test_the_split_of_a_stream_is_its_end_and_the_token_before_it(tmp_path: Path) -> None:
    passage = validation_passage(open_verses(tmp_path, "stream").run)
    assert (VERSES * 4).endswith(passage.before + passage.text) and 0.08 < len(passage.text) / len(VERSES * 4) < 0.12


def test_the_split_of_documents_follows_the_seed(tmp_path: Path) -> None:
    passage, other, again = (validation_passage(open_verses(tmp_path, "discrete", seed=seed).run) for seed in (1, 7, 1))
    assert passage.text.endswith("\n") and set(passage.text.splitlines()) <= set(VERSES.splitlines())
    assert passage != other and passage == again


def test_a_changed_or_unknown_corpus_is_refused(tmp_path: Path) -> None:
    runs = [open_verses(tmp_path, mode).run for mode in ("discrete", "stream")]
    (tmp_path / "verses.txt").write_text(VERSES + "new")
    for run in runs:
        message = rf"^runs={run.folder}: the corpus is not the one that the run was trained on"
        with pytest.raises(UserError, match=message):
            validation_passage(run)
        with pytest.raises(
            UserError, match=rf"^runs={run.folder}: a run of gpt\.py does not say what it held out; take"
        ):
            validation_passage(replace(run, corpus=None))


def test_the_rules_that_affected_the_scores_are_described() -> None:
    plain, lower = make_run("discrete", "Aa", label="plain"), make_run("discrete", "ab", label="lower")
    assert describe_rules([score(plain, Passage("Aa")), score(lower, Passage("ab"))]) == []
    scores = [score(plain, Passage("AB")), score(lower, Passage("AB")), score(lower, Passage("A"))]
    unseen, normalised = describe_rules(scores)
    assert unseen.startswith("A character that is not in a model's corpus costs 20.09 bits, as if drawn uniformly")
    assert normalised == "Normalised as their corpora were (lower case, replacements) for: lower."
