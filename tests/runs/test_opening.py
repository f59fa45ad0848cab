"""Opening a run from its directory: its model, its config, and the data that it trained on."""

from pathlib import Path

import pytest
import torch
from settings import QUICK, Trained

from microgpt.config.schema import SamplingConfig
from microgpt.data.loading import load_data
from microgpt.data.modes import Discrete
from microgpt.errors import UserError
from microgpt.runs import checkpoint
from microgpt.runs.directory import read_config
from microgpt.runs.opening import OpenRun, check_corpus, open_run

CPU = torch.device("cpu")
SAMPLING = SamplingConfig(n_samples=2, max_tokens=12)


def test_a_run_opens_from_its_best_checkpoint_without_other_files(trained: Trained, tmp_path: Path) -> None:
    folder = trained(*QUICK)
    config = read_config(folder)
    for file in folder.iterdir():
        if file.name != "best.pt" and file.is_file():
            file.unlink()
    run = open_run(folder, "best", CPU)
    assert run.config == config and run.config.model.n_embd == 16
    assert run.folder == folder and run.generator.mode == Discrete()
    assert run.generator.generate(SAMPLING, 3)


def test_best_and_last_name_the_two_checkpoints(trained: Trained) -> None:
    folder = trained(*QUICK)
    state = checkpoint.load(folder / "ckpt.pt")
    state["model"]["head.weight"].zero_()
    checkpoint.save(folder / "ckpt.pt", state)
    best, last = (open_run(folder, which, CPU).generator.model.head.weight for which in ("best", "last"))
    assert best.any() and not last.any()


def test_the_title_is_the_end_of_the_path(trained: Trained) -> None:
    folder = trained(*QUICK, at="colors_run")
    assert open_run(folder, "best", CPU).title == f"{folder.parent.name}/colors_run"


def test_the_data_of_a_run_is_what_it_trained_on(trained: Trained) -> None:
    run = open_run(trained(*QUICK, "seed=5"), "best", CPU)
    data = run.load_data("run")
    assert data.seed == 5 and data.corpus.fingerprint == run.corpus
    assert data.tokenizer.chars == run.generator.tokenizer.chars
    assert data.val.documents == load_data(run.config.dataset, 5, Path("datasets")).val.documents


def test_a_corpus_that_has_changed_is_refused(trained: Trained, names_file: Path) -> None:
    settings = ["dataset=file", f"dataset.path={names_file}"]
    run = open_run(trained(*QUICK, *settings), "best", CPU)
    run.load_data("run")
    names_file.write_text(names_file.read_text() + "another\n")
    message = "the corpus is not the one that the run was trained on"
    with pytest.raises(UserError, match=rf"run=.*run: {message}") as caught:
        run.load_data("run")
    assert "\n" not in str(caught.value)
    data = load_data(run.config.dataset, 1, Path("datasets"))
    check_corpus(data, data.corpus.fingerprint, "resume=x", "start a new run")
    with pytest.raises(UserError, match=rf"resume=x: {message}.*start a new run"):
        check_corpus(data, run.corpus or "", "resume=x", "start a new run")


def test_a_run_of_gpt_py_has_no_validation_split_to_load(trained: Trained) -> None:
    run = open_run(trained(*QUICK), "best", CPU)
    with pytest.raises(UserError, match=r"run=.*: a run of gpt.py does not say what it held out"):
        OpenRun(run.folder, run.generator, run.config, None).load_data("run")


def test_another_folder_of_datasets_can_be_given(trained: Trained, tmp_path: Path) -> None:
    """Cached corpora are read from that folder. The colours are embedded, so the folder has no effect on them."""
    run = open_run(trained(*QUICK), "best", CPU)
    assert run.load_data("run", str(tmp_path)).corpus.fingerprint == run.corpus
