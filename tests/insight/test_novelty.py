"""Which samples are new, and which are copied from the corpus."""

import random
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt.config.schema import DatasetConfig
from microgpt.data import splits
from microgpt.data.corpus import Corpus
from microgpt.data.loading import load_data
from microgpt.data.modes import find_mode
from microgpt.data.splits import DocumentSplit
from microgpt.insight.copies import TrainingText
from microgpt.insight.novelty import SAMPLES_AT_ONCE, DocumentNovelty, SpanNovelty, build_novelty


class InOrder(DocumentSplit):
    """Documents of a corpus in their order."""

    @property
    def indices(self) -> np.ndarray:  # type: ignore[override]
        return np.arange(self.first, self.stop)


def novelty_of(training: Sequence[str], held_out: Sequence[str], one_line: bool = True) -> DocumentNovelty:
    corpus, n = Corpus.of("x", find_mode("discrete"), [*training, *held_out]), len(training)
    return DocumentNovelty(InOrder(corpus, 0, 0, n), InOrder(corpus, 0, n, n + len(held_out)), one_line)


def span_novelty(text: str) -> SpanNovelty:
    chars = "".join(sorted(set(text)))
    return SpanNovelty(TrainingText(np.array([chars.index(char) for char in text], np.uint8), chars))


TRAINING = ["anna", "bella", "carla", "dora", "emma", "fiona", "gina", "hanna", "ida"]
NOVELTY = novelty_of(TRAINING, ["nora"])


def test_a_sample_is_in_the_training_set_in_the_held_out_set_or_new() -> None:
    assert str(NOVELTY.mark("bella")) == "in the training set"
    assert str(NOVELTY.mark("nora")) == "in the held-out set"
    mark = NOVELTY.mark("belle")
    assert (mark.kind, mark.nearest, mark.distance) == ("new", "bella", 1)
    assert str(mark) == "new; 1 from bella"
    assert NOVELTY.mark("").distance == 3  # ida
    assert NOVELTY.mark("Zoë").kind == "new"  # characters that the corpus does not have


def edit_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row, before = [i], row
        for j, y in enumerate(b, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y)))
    return row[-1]


@given(st.text("abelnr", max_size=8))
def test_the_nearest_training_document_has_the_smallest_edit_distance(sample: str) -> None:
    mark = NOVELTY.mark(sample)
    if mark.kind == "new":
        assert mark.distance == edit_distance(sample, mark.nearest) == min(edit_distance(sample, d) for d in TRAINING)


def test_many_samples_have_the_same_marks_as_each_alone_and_the_first_of_the_nearest_documents() -> None:
    samples = [name + end for name in TRAINING for end in ("", "a", "xyz", "ella", "mm")]
    assert len(set(samples)) > SAMPLES_AT_ONCE
    assert NOVELTY.marks(samples) == {sample: NOVELTY.mark(sample) for sample in samples}
    assert novelty_of(["ax", "ay"], ["b"]).mark("a").nearest == "ax"
    assert NOVELTY.marks([]) == {}


def test_the_summary_has_shares_and_the_shares_expected_without_memorisation() -> None:
    samples = ["anna", "anna", "nora", "zoe", "zoe", "kim", "bella", "xx", "yy", "zz"]
    figures = NOVELTY.summary(samples)
    assert (figures["new"], figures["training"], figures["held_out"]) == (0.6, 0.3, 0.1)
    assert figures["repeated"] == pytest.approx(0.2)
    assert figures["training_if_not_memorised"] == pytest.approx(0.9)  # nine times as many documents
    assert figures["length_mean"] == pytest.approx(3.2) and figures["corpus_length_mean"] == pytest.approx(
        4.333, abs=1e-3
    )
    assert figures["length_sd"] == pytest.approx(statistics.pstdev(map(len, samples)))
    assert NOVELTY.sentence(figures) == (
        "of 10 samples, 60% are new, 30% in the training set (expected without memorisation: 90%),"
        " 10.0% in the held-out set; 20% repeat another"
    )


TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n"


def longest_common(a: str, b: str) -> int:
    return max((j - i for i in range(len(a)) for j in range(i + 1, len(a) + 1) if a[i:j] in b), default=0)


def test_the_longest_copied_span_is_found() -> None:
    rng, novelty = random.Random(0), span_novelty(TEXT)
    assert novelty.longest_copies(["this is the question: whither"]) == [" is the question:"]
    for _ in range(50):
        cut = rng.randrange(len(TEXT))
        sample = (
            "".join(rng.choices("to be nr", k=9))
            + TEXT[cut : cut + rng.randrange(20)]
            + "".join(rng.choices("xe t", k=5))
        )
        assert len(novelty.longest_copies([sample])[0]) == longest_common(sample, TEXT)
    assert novelty.longest_copies(["#", ""]) == ["", ""]


def test_each_different_span_is_counted_once() -> None:
    novelty = span_novelty(TEXT)
    assert novelty.shares([TEXT[3:30]]) == {"new_8grams": 0.0}
    assert novelty.shares(["zzzzzzzzzzzzz", "the ques"]) == {"new_8grams": 0.5}
    assert novelty.shares(["short"]) == {}
    assert novelty.sentence(novelty.summary(["to"])) == "of 1 sample: the longest copied span has 2 characters"
    figures = novelty.summary(["the question, sir", "nobler in"])
    assert figures["samples"] == 2 and figures["longest_copy"] == len("the question")
    assert novelty.sentence(figures) == (
        f"of 2 samples: {figures['new_8grams']:.0%} of the spans of 8 characters are new; the longest copied span has"
        " 12 characters"
    )
    assert novelty.longest_copies(["not to bend"]) == ["not to be"]


def test_each_sample_is_followed_by_its_mark_or_by_cut_off() -> None:
    assert NOVELTY.mark_all(["bella", "xyz", "annabell"], ["bella", "xyz", "bell"], max_tokens=4) == [
        "bella     [cut off after 4]",
        f"xyz       [{NOVELTY.mark('xyz')}]",
        "annabell  [cut off after 4]",
    ]


def test_a_sample_of_a_running_text_is_marked_without_its_prompt() -> None:
    assert span_novelty(TEXT).mark_all(["not to bend"], ["bend"], max_tokens=4) == [
        "  not to bend\n[longest copied span, 2 characters: 'be']\n"
    ]


def test_documents_of_several_lines_are_indented_and_their_marks_are_not() -> None:
    """So that nothing a sample holds can be taken for a mark, or for the next sample."""
    novelty = novelty_of(["X:1\nabc", "X:2\n\n" + "d" * 99], ["X:3\nabd"], one_line=False)
    texts = ["X:1\nabc", "[new]\n\n", "X:4\nabd", "X:2\n\n" + "d" * 98, "cut\nof"]
    assert novelty.mark_all(texts, [*texts[:4], "c" * 200], max_tokens=200) == [
        "  X:1\n  abc\n[in the training set]\n",
        f"  [new]\n  \n  \n[{novelty.mark(texts[1])}]\n",
        "  X:4\n  abd\n[new; 2 from 'X:1\\nabc']\n",
        "  X:2\n  \n  " + "d" * 98 + "\n[new; 1 from 'X:2\\n\\n" + "d" * 55 + "'…]\n",
        "  cut\n  of\n[cut off after 200]\n",
    ]


def test_samples_for_novelty_are_long_enough_for_documents_to_end() -> None:
    assert NOVELTY.sample_size(20) == (20, 6) and NOVELTY.final_size(20) == (100, 6)
    assert novelty_of(["a" * 900], ["b"]).sample_size(1) == (1, 500)
    assert span_novelty(TEXT).sample_size(200) == (1, 200) and span_novelty(TEXT).final_size(200) is None


def test_novelty_of_documents_uses_the_documents_of_both_halves(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text("".join(f"{name}\n" for name in TRAINING))
    data = load_data(DatasetConfig(name="file", path=str(file)), 1, tmp_path)
    novelty = build_novelty(data)
    assert isinstance(novelty, DocumentNovelty) and len(data.val.documents) == 1
    assert {str(novelty.mark(name)) for name in data.train.documents} == {"in the training set"}
    assert {str(novelty.mark(name)) for name in data.val.documents} == {"in the held-out set"}


def test_the_hashes_of_documents_are_computed_when_it_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in TRAINING))
    novelty = build_novelty(load_data(DatasetConfig(name="file", path=str(tmp_path / "names.txt")), 1, tmp_path))
    novelty.prepare()
    monkeypatch.setattr(DocumentSplit, "hash_table", None)  # cannot be called
    assert isinstance(novelty, DocumentNovelty) and "new" not in novelty.kinds(TRAINING)


@pytest.mark.parametrize("text", [TEXT * 3, "a\n\nbc\n\n" * 7, "abcdefghij" * 9 + "\n\nx"])
def test_novelty_of_a_running_text_uses_the_text_of_the_training_tokens(tmp_path: Path, text: str) -> None:
    (tmp_path / "text.txt").write_text(text)
    data = load_data(DatasetConfig(name="file", mode="stream", path=str(tmp_path / "text.txt")), 1, tmp_path)
    novelty = build_novelty(data)
    assert isinstance(novelty, SpanNovelty)
    tokens = data.tokenizer.encode_documents(data.corpus.documents)[1 : len(data.train.tokens)]
    training = data.tokenizer.decode(tokens, "\n\n")
    assert text.startswith(training) and 0.8 * len(text) < len(training) < len(text)
    assert novelty.longest_copies([f"?{training}?"]) == [training]
    windows = {text[i : i + 8] for i in range(len(text) - 7)} | {"\n\n\n\n\n\n\n\n"}
    assert novelty.training.contained(sorted(windows)).tolist() == [span in training for span in sorted(windows)]


def test_documents_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [name + end for name in TRAINING for end in ("a", "xyz", "mm")]
    whole = NOVELTY.marks(samples)
    monkeypatch.setattr(splits, "DOCUMENTS_AT_ONCE", 2)
    assert NOVELTY.marks(samples) == whole
