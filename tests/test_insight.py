"""What a run measures beside its losses: kept in its files, cheap, and without a trace in the losses themselves."""

from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from microgpt import insight, runs, training
from microgpt.baselines import RUNGS
from microgpt.build import load_data
from microgpt.config import Config, Dataset, Model, Sampling, Train
from microgpt.errors import InterruptedRunError
from microgpt.plots import read_metrics
from microgpt.trainer import Trainer

NAMES = "".join(f"{a}{b}{c}\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin"))
PROSE = "Speak.\n\nBefore we proceed any further, hear me speak.\nAll of it!\n\n" * 20


def config(folder: Path, mode: str = "discrete", **settings: bool | int) -> Config:
    file = folder / f"{mode}.txt"
    file.write_text(NAMES if mode == "discrete" else PROSE)
    made = Config(
        dataset=Dataset(name="file", mode=mode, path=str(file)),
        model=Model(n_embd=16, n_layer=1, n_head=2, block_size=16),
        train=Train(steps=24, val_every=8, batch_size=4, log_every=4),
        sampling=Sampling(n_samples=3, max_tokens=30),
        device="cpu",
    )
    for name, value in settings.items():
        setattr(made.insight, name, value)
    return made


def run(folder: Path, made: Config) -> Path:
    folder.mkdir(exist_ok=True)
    training.train(made, folder)
    return folder


@pytest.fixture(scope="module")
def discrete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discrete")
    return run(folder / "run", config(folder))


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prose")
    return run(folder / "run", config(folder, "stream"))


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def test_the_ladder_stands_in_the_result_and_in_tensorboard(discrete: Path) -> None:
    losses = runs.read_result(discrete)["baselines"]
    assert list(losses) == list(RUNGS)
    seen = events(discrete)
    for name, loss in losses.items():
        scalars = seen.Scalars(f"baselines/{name}")
        assert [scalar.step for scalar in scalars] == [8, 16, 24]
        assert scalars[0].value == pytest.approx(loss)
    assert "custom_scalars__config__" in seen.Tags()["tensors"]


def test_the_share_of_new_samples_stands_at_each_validation_and_at_the_end(discrete: Path) -> None:
    seen = events(discrete)
    for name in ("new", "training", "held_out", "repeated"):
        assert [scalar.step for scalar in seen.Scalars(f"novelty/{name}")] == [8, 16, 24]
    final = runs.read_result(discrete)["novelty"]
    assert final["samples"] == 1000
    assert final["new"] + final["training"] + final["held_out"] == pytest.approx(1)


def test_prose_is_held_against_its_spans(prose: Path) -> None:
    assert [scalar.step for scalar in events(prose).Scalars("novelty/new_8grams")] == [8, 16, 24]
    final = runs.read_result(prose)["novelty"]
    assert final["samples"] == 3 and 0 <= final["new_8grams"] <= 1 and final["longest_copy"] >= 1


def test_samples_bear_their_marks_in_the_file_and_on_the_screen(discrete: Path, prose: Path) -> None:
    lines = (discrete / runs.SAMPLES).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3 and all(line.endswith("]") for line in lines)
    known = set(NAMES.split())
    for line in lines:
        text, _, mark = line.partition("  [")
        assert mark.startswith("new; " if text.strip() not in known else "in the ")
    text = (prose / runs.SAMPLES).read_text(encoding="utf-8")
    assert text.count("[longest copied span, ") == 3


def test_samples_over_time_differ_in_the_weights_alone(discrete: Path) -> None:
    over_time = insight.read_over_time(discrete / insight.OVER_TIME)
    assert list(over_time) == [0, 1, 2, 4, 8, 16, 24]
    assert len({tuple(texts) for texts in over_time.values()}) > 4
    seen = events(discrete)
    assert [tensor.step for tensor in seen.Tensors("samples_over_time/text_summary")] == list(over_time)


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_losses_are_the_same_whatever_is_watched(tmp_path: Path, mode: str, discrete: Path, prose: Path) -> None:
    off = run(tmp_path / "off", config(tmp_path, mode, baselines=False, novelty=0, over_time=False))
    full = run(tmp_path / "full", config(tmp_path, mode, layers=True, embeddings=True, attention=True))
    light = discrete if mode == "discrete" else prose
    losses = [
        {tag: read_metrics(folder / runs.METRICS)[tag] for tag in ("train/loss", "val/loss")}
        for folder in (off, light, full)
    ]
    assert losses[0] == losses[1] == losses[2]
    result = runs.read_result(off)
    assert result["baselines"] is None and "novelty" not in result and result["findings"] == []
    assert not (off / insight.OVER_TIME).exists()
    assert "[" not in (off / runs.SAMPLES).read_text(encoding="utf-8")


def test_a_run_that_goes_on_keeps_what_it_saw(tmp_path: Path, discrete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(tmp_path)
    validate = Trainer.validate

    def stop_at_16(self: Trainer, metrics: dict[str, float]) -> bool:
        if self.progress.step == 16:
            self.stop()
        return validate(self, metrics)

    with monkeypatch.context() as patch, pytest.raises(InterruptedRunError):
        patch.setattr(Trainer, "validate", stop_at_16)
        run(tmp_path / "run", made)
    run(tmp_path / "run", made)
    assert (tmp_path / "run" / insight.OVER_TIME).read_text() == (discrete / insight.OVER_TIME).read_text()
    assert runs.read_result(tmp_path / "run")["novelty"] == runs.read_result(discrete)["novelty"]


def test_counting_is_done_once_for_a_corpus_and_a_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counted = []
    ladder = insight.baselines.ladder
    monkeypatch.setattr(insight.baselines, "ladder", lambda *args: counted.append(args) or ladder(*args))
    made = config(tmp_path)
    data = load_data(made, torch.device("cpu"))
    first = insight.counting_losses(made, data)
    assert insight.counting_losses(made, data) == first and len(counted) == 1
    made.seed = 7
    assert insight.counting_losses(made, load_data(made, torch.device("cpu"))) != first and len(counted) == 2
    for file in (tmp_path / "cache").rglob("*.json"):
        file.write_text("{")  # damaged: counted anew
    assert insight.counting_losses(made, data) and len(counted) == 3


def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = config(tmp_path)
    assert insight.counting_losses(made, load_data(made, torch.device("cpu")))


def test_the_doctor_is_asked_at_the_end(discrete: Path) -> None:
    findings = runs.read_result(discrete)["findings"]
    assert any(finding.startswith("more weights than characters") for finding in findings)


def test_steps_are_kept_apart_in_the_file_of_samples(tmp_path: Path) -> None:
    over_time = {0: ["", "step 4"], 2: ["a", "b"]}
    file = tmp_path / "x.txt"
    file.write_text(insight.show_over_time(over_time))
    assert insight.read_over_time(file) == over_time


@pytest.mark.parametrize("text", [PROSE, "a\n\nbc\n\n" * 7, "abcdefghij" * 9 + "\n\nx"])
def test_the_training_text_of_a_stream_is_that_of_its_training_tokens(tmp_path: Path, text: str) -> None:
    made = config(tmp_path, "stream")
    Path(str(made.dataset.path)).write_text(text)
    made.model.block_size = 1
    data = load_data(made, torch.device("cpu"))
    tokens, _ = insight.split_tokens(made, data)
    expected = data.tokenizer.decode(tokens[1:].tolist(), "\n\n")
    assert insight.training_text(data.corpus.documents) == expected.removesuffix("\n\n")


def test_a_sample_that_was_cut_off_is_neither_known_nor_new(tmp_path: Path) -> None:
    made = config(tmp_path, over_time=False, baselines=False)
    made.sampling.max_tokens, made.sampling.n_samples, made.sampling.prompts = 2, 20, ["", "ka"]
    lines = (run(tmp_path / "run", made) / runs.SAMPLES).read_text().splitlines()
    assert len(lines) == 40
    for line, prompt in zip(lines, [""] * 20 + ["ka"] * 20, strict=True):
        text, _, mark = line.partition("  [")
        assert mark == "cut off after 2]" if len(text.rstrip()) == 2 + len(prompt) else "cut off" not in mark
    assert sum("cut off" in line for line in lines) > 5
    # Their share is measured on samples that come to their end.
    assert runs.read_result(tmp_path / "run")["novelty"]["length_mean"] > 2.5


def test_prompts_are_not_the_model_s_own_words(tmp_path: Path) -> None:
    made = config(tmp_path, "stream")
    made.sampling.prompts, made.sampling.max_tokens = ["Before we proceed any further"], 4
    run(tmp_path / "run", made)
    assert runs.read_result(tmp_path / "run")["novelty"]["longest_copy"] <= 4 + 1  # a paragraph's end is two characters


def test_a_figure_that_fails_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(insight.Insight, "look", fail)
    with pytest.raises(OSError):
        run(tmp_path / "run", config(tmp_path))
    assert runs.read_result(tmp_path / "run")["val_loss"] > 0
    assert (tmp_path / "run" / runs.SAMPLES).is_file() and (tmp_path / "run" / runs.FIGURE).is_file()


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_the_smallest_of_models_on_the_smallest_of_corpora_is_looked_at_too(tmp_path: Path, mode: str) -> None:
    made = config(tmp_path, mode, layers=True, embeddings=True, attention=True, novelty=1)
    Path(str(made.dataset.path)).write_text("a\nb\n" if mode == "discrete" else "ab\tc\n\n" * 5)
    made.model = Model(n_embd=1, n_layer=1, n_head=1, block_size=1)
    made.sampling = Sampling(n_samples=1, max_tokens=3)
    assert (run(tmp_path / "run", made) / insight.EMBEDDINGS).is_file()
