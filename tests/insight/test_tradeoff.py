"""Recommended sampling settings: the measurements, and the rule that selects a setting."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from settings import QUICK, Trained

from microgpt.config.schema import DatasetConfig, ModelConfig, SamplingConfig
from microgpt.data.loading import load_data
from microgpt.errors import UserError
from microgpt.insight import tradeoff
from microgpt.insight.tradeoff import Measure, Point, grid, recommend
from microgpt.model.text_generator import TextGenerator
from microgpt.model.transformer import GPT
from microgpt.runs import checkpoint

VERSES = "".join(
    f"the {a} was {b}\n\n" for a in ("cat", "dog", "sea", "sky", "sun") for b in ("old", "new", "red", "wet")
)


def make_measure(file: Path, mode: str) -> tuple[Measure, list[str], list[str]]:
    """A measure of samples of a corpus, with the documents of its two halves."""
    data = load_data(DatasetConfig(name="x", path=str(file), mode=mode), 1337, file.parent)
    model = GPT(data.tokenizer.vocab_size, ModelConfig(n_embd=8, n_layer=1, block_size=8))
    generator = TextGenerator(model, data.tokenizer, data.mode)
    return Measure(data, generator), data.train.documents, data.val.documents


def test_copies_lower_novelty_and_repeats_lower_diversity(names_file: Path) -> None:
    measure, training, held_out = make_measure(names_file, "discrete")
    shares = measure.novelty.novelty_and_diversity
    assert shares(training) == (0, 1) and shares(held_out) == (0, 1)
    assert shares(["xyz"] * 10) == (1, pytest.approx(0.1))
    assert shares([training[0], training[0], "xyz", "zyx"]) == (0.5, 0.75)
    samples = [measure.generator.tokenizer.encode(name) for name in [*training[:2], "kan", "kan"]]
    assert measure.measure(samples)[:2] == (0.5, 0.75)


def test_held_out_text_as_samples_has_the_loss_of_the_reference(names_file: Path) -> None:
    measure, training, held_out = make_measure(names_file, "discrete")
    encode = measure.generator.tokenizer.encode
    assert measure.measure([encode(name) for name in held_out])[2] == pytest.approx(measure.reference)
    assert measure.measure([encode(name) for name in training])[2] < measure.reference
    assert measure.measure([encode(name[::-1]) for name in held_out])[2] > measure.reference + 0.5


def test_novelty_and_diversity_of_a_running_text_count_its_spans(tmp_path: Path) -> None:
    file = tmp_path / "verses.txt"
    file.write_text(VERSES)
    measure, (training,), _ = make_measure(file, "stream")
    shares = measure.novelty.novelty_and_diversity
    copy, new = training[:40], "sun was a cat was a sun"

    def spans(text: str) -> set[str]:
        return {text[i : i + 8] for i in range(len(text) - 7)}

    assert shares([copy])[0] == 0
    assert shares([new, copy])[0] == len(spans(new) - spans(training)) / len(spans(new) | spans(copy))
    assert shares([new])[1] == 1 and shares([new] * 4)[1] == 0.25


def point(product: float, diversity: float, trigram: float) -> Point:
    return Point(0.8, 0, 1.0, product / diversity, diversity, trigram)


@pytest.mark.parametrize(
    ("points", "best"),
    [
        ([point(0.5, 1.0, 2.0), point(0.6, 1.0, 2.04), point(0.9, 1.0, 2.06)], 1),  # the last is too implausible
        ([point(0.5, 0.5, 1.0), point(0.45, 1.0, 1.9), point(0.1, 1.0, 0.5)], 0),
        ([point(0.30, 0.5, 1.5), point(0.295, 0.6, 1.2), point(0.27, 0.4, 1.0)], 1),  # as good: by plausibility
        ([point(0.9, 1.0, 2.9), point(0.1, 0.5, 2.2), point(0.5, 1.0, 2.5)], 1),  # none is plausible
    ],
)
def test_recommend_picks_the_best_plausible_point(points: list[Point], best: int) -> None:
    assert recommend(points, reference=2.0) is points[best]
    text = tradeoff.sentence(points, 2.0, points[best])
    assert text.startswith("recommended: sampling.temperature=0.8 sampling.top_k=0")
    assert ("nearest" in text) == (points[best].trigram > 2.05) and ("the run has it" in text) == (best == 0)


def test_the_grid_holds_the_setting_of_the_run_once_and_first() -> None:
    on, off = (
        grid(SamplingConfig(temperature=0.8, n_samples=99)),
        grid(SamplingConfig(temperature=0.7, top_k=3, top_p=0.9)),
    )
    assert len(on) == 20 and (on[0].temperature, on[0].top_k) == (0.8, 0)
    assert len(off) == 21 and (off[0].temperature, off[0].top_k, off[0].top_p) == (0.7, 3, 0.9)
    assert all(sampling.prompts == [""] for sampling in on)


def test_the_figure_has_a_line_for_each_top_k_and_two_marked_points(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    points = [
        Point(s.temperature, s.top_k, s.top_p, 0.5, 0.9, 2 + s.temperature / 9) for s in grid(SamplingConfig(top_p=0.5))
    ]
    drawn: list[Any] = []
    monkeypatch.setattr(tradeoff, "save_tradeoff", lambda *arguments: drawn.extend(arguments))
    tradeoff.save_figure(points, 2.1, points[7], tmp_path / "x.png", "title")
    lines, rings, *limits = drawn
    assert list(lines) == ["top_k=3", "top_k=5", "top_k=10", "top_k=0 (all)"]
    assert all([label for label, _ in line] == ["0.4", "0.6", "0.8", "1.0", "1.2"] for line in lines.values())
    assert lines["top_k=5"][0][1] == (2 + 0.4 / 9, 0.5, 0.9)
    assert rings == {
        "the run's: temperature=0.8 top_k=0 top_p=0.5": points[0].place,
        "recommended: temperature=0.6 top_k=3": points[7].place,
    }
    assert limits[:2] == [2.1, pytest.approx(2.15)]


def test_a_stream_is_sampled_in_a_few_long_pieces(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "verses.txt").write_text(VERSES)
    folder = trained("dataset=file", "dataset.mode=stream", f"dataset.path={tmp_path / 'verses.txt'}", *QUICK)
    monkeypatch.setattr(tradeoff, "STREAM_TOKENS", 50)
    drawn: list[torch.Size] = []
    generate = tradeoff.generate
    monkeypatch.setattr(
        tradeoff, "generate", lambda m, i, draws, **how: drawn.append(draws.shape) or generate(m, i, draws, **how)
    )
    points, reference = tradeoff.measure_run(folder, 20, "", Console(file=StringIO()))
    assert set(drawn) == {(8, 50)} and len(drawn) == len(points)
    assert all(0 <= p.novelty <= 1 and 0 < p.diversity <= 1 for p in points) and reference > 0


def test_another_corpus_than_that_of_the_run_is_refused(trained: Trained, names_file: Path) -> None:
    folder, console = trained("dataset=file", f"dataset.path={names_file}", *QUICK), Console(file=StringIO())
    names_file.write_text(names_file.read_text() + "another\n")
    with pytest.raises(UserError, match=r"^run=\S+: the corpus is not the one that the run was trained on"):
        tradeoff.measure_run(folder, 20, "", console)
    state = checkpoint.load(folder / "best.pt")
    del state["corpus"], state["format"]
    checkpoint.save(folder / "best.pt", state)
    with pytest.raises(UserError, match=r"^run=\S+: a run of gpt\.py does not say what it held out"):
        tradeoff.measure_run(folder, 20, "", console)
