"""What a page holds about a run: its figures, thinned curves, and what needs the corpus only if it is at hand."""

from pathlib import Path

import pytest
import torch
from page_scripts import save_run
from settings import QUICK, Trained

from microgpt.config.schema import Config, ModelConfig
from microgpt.errors import UserError
from microgpt.page.contents import MAX_POINTS, check_activation, curves, prepare, reference
from microgpt.runs.directory import read_result
from microgpt.runs.opening import open_run


def test_a_run_is_held_with_what_it_measured(trained: Trained) -> None:
    folder = trained(*QUICK)
    run = open_run(folder, "best", torch.device("cpu"))
    data = prepare(run, "a run", 18, 8, run.load_data("run")).as_json()
    result = read_result(folder)
    assert data["result"]["val_loss"] == result["val_loss"] and data["baselines"] == result["baselines"]
    assert data["sentences"][0].startswith(f"{result['val_loss']:.3f} nats per token: ")
    assert data["sentences"][1].startswith("of 1,000 samples, ") and data["findings"] == result["findings"]
    assert [step for step, _ in data["samples"]] == [0, 1, 2, 4, 6] and len(data["samples"][0][1]) == 5
    assert data["curves"]["val/loss"][0] == [3, 6] and data["card"]["mode"] == "discrete"
    assert data["known"]["training"]["documents"] == 854 and data["known"]["training"]["false_positives"] < 0.01
    assert data["fidelity"]["draws"] < 0.001 and "n_embd: 16" in data["yaml"]
    assert data["reference"] == run.generator.generate(run.config.sampling, run.config.seed)


def test_a_page_does_not_say_where_the_corpus_lies_on_this_machine(tmp_path: Path) -> None:
    run = open_run(save_run(tmp_path, "stream", 1, 5), "best", torch.device("cpu"))
    run.config.dataset.path = str(tmp_path / "secret/words.txt")
    written = prepare(run, "a run", 18, 8, None).as_json()["yaml"]
    assert "words.txt" in written and "secret" not in written


def test_without_the_corpus_the_page_has_no_card_and_no_marks(tmp_path: Path) -> None:
    run = open_run(save_run(tmp_path, "stream", 1, 5), "best", torch.device("cpu"))
    data = prepare(run, "a run", 18, 8, None).as_json()
    assert data["card"] is data["known"] is data["fidelity"] is None
    assert data["result"]["val_loss"] is None and not data["sentences"] and len(data["reference"][0]) >= 5


def test_samples_to_compare_with_are_the_first_of_sample_py(tmp_path: Path) -> None:
    run = open_run(save_run(tmp_path, "discrete", 30, 20), "best", torch.device("cpu"))
    texts = run.generator.generate(run.config.sampling, run.config.seed)
    assert reference(run.generator, run.config.sampling, run.config.seed) == texts[:10]
    run.config.sampling.max_tokens = 5000
    assert reference(run.generator, run.config.sampling, run.config.seed) == []


def test_curves_are_thinned_to_their_last_point_and_finite() -> None:
    steps = list(range(10, 50_010, 10))
    found = curves({"val/loss": (steps, [1 / step for step in steps]), "train/loss": ([1, 2], [float("nan"), 3.0])})
    assert len(found["val/loss"][0]) <= MAX_POINTS and found["val/loss"][0][-1] == 50_000
    assert found["train/loss"] == ([2], [3.0]) and found["train/loss_ema"] == ([], [])


def test_an_activation_that_the_page_lacks_is_refused_in_one_line() -> None:
    check_activation(Config(model=ModelConfig(activation="gelu")))
    with pytest.raises(UserError, match=r"^model.activation=tanh: the page cannot compute it; add it to ACTIVATIONS"):
        check_activation(Config(model=ModelConfig(activation="tanh")))
