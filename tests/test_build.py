"""From a config to its parts; every shipped YAML composes and trains a step."""

import csv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from hydra import compose, initialize_config_dir

from microgpt import cli
from microgpt.build import build_trainer, data_card, find_device, load_data
from microgpt.config import Config, typed, validate
from microgpt.errors import UserError

CPU = torch.device("cpu")
TEXT = "Speak.\n\nBefore we proceed any further, hear me speak.\nAll of it!\n\n" * 40
NAMES = [f"{a}{b}{c}" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin", "chu")]
CHOICES = [
    f"{group}={path.stem}"
    for group in ("dataset", "model", "optim", "sampling", "experiment")
    for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
]


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    cli.prepare()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def small_file(config: Config, folder: Path) -> Path:
    """A little corpus in the form that the config's reader expects."""
    records = [TEXT] if config.dataset.mode == "stream" else NAMES
    path = folder / "corpus"
    if config.dataset.reader == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["id", config.dataset.column], *enumerate(records)])
    elif config.dataset.reader == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("words.txt", "\r\n".join(records))
    else:
        path.write_text("\n".join(records))
    return path


@pytest.mark.parametrize("choice", CHOICES)
def test_every_shipped_choice_composes_and_trains_a_step(choice: str, tmp_path: Path) -> None:
    base = ["dataset=names"] if choice == "experiment=ancestor" else []
    config = typed(compose("config", [*base, choice, "train.steps=1", "train.batch_size=2"]))
    if config.dataset.reader in ("text", "csv", "zip"):
        config.dataset.path, config.dataset.min_count = str(small_file(config, tmp_path)), 1
    validate(config)
    trainer = build_trainer(config, load_data(config, CPU), CPU)
    assert trainer.fit() == "finished"
    assert trainer.progress.val_loss > 0


def test_a_dataset_brings_its_recipe_and_the_command_line_wins_in_any_order() -> None:
    recipe = typed(compose("config", ["dataset=names"]))
    assert recipe.model.block_size == 16
    for overrides in (["model.n_embd=48", "dataset=names"], ["dataset=names", "model.n_embd=48"]):
        config = typed(compose("config", overrides))
        assert (config.model.n_embd, config.model.block_size) == (48, 16)
    for overrides in (["model=large", "dataset=names"], ["dataset=names", "model=large"]):
        assert typed(compose("config", overrides)).model.n_embd == 384


def test_the_recipes_keep_the_plain_model() -> None:
    for path in (ROOT / "conf" / "dataset").glob("*.yaml"):
        model = typed(compose("config", [f"dataset={path.stem}"])).model
        assert not (model.rotary or model.qk_norm or model.zero_init or model.final_norm)
        assert model.activation == "relu"


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        ("names", (16, 1, 4, 8, 2000, 1)),
        ("pokemon", (32, 2, 4, 12, 1000, 1)),
        ("cities", (32, 2, 4, 16, 3000, 1)),
        ("english_words", (32, 2, 4, 16, 3000, 1)),
        ("shakespeare", (64, 4, 4, 64, 5000, 4)),
        ("paul_graham", (64, 4, 4, 128, 5000, 4)),
    ],
)
def test_the_ancestors_settings(corpus: str, expected: tuple[int, ...]) -> None:
    config = typed(compose("config", [f"dataset={corpus}", "experiment=ancestor"]))
    model, train, optim = config.model, config.train, config.optim
    sizes = (model.n_embd, model.n_layer, model.n_head, model.block_size, train.steps, train.batch_size)
    assert sizes == expected
    assert (optim.name, optim.lr, optim.betas, optim.clip_grad) == ("adam", 0.01, [0.9, 0.95], 1.0)


def test_the_ancestors_published_runs() -> None:
    essays = typed(compose("config", ["experiment=ancestor_paul_graham"]))
    assert (essays.dataset.name, essays.train.steps) == ("paul_graham", 100_000)
    assert (essays.model.n_embd, essays.model.n_layer, essays.model.n_head) == (64, 4, 4)
    pokemon = typed(compose("config", ["experiment=ancestor_pokemon"]))
    assert (pokemon.dataset.name, pokemon.train.steps) == ("pokemon", 20_000)


def test_the_ancestor_has_no_settings_for_other_corpora() -> None:
    with pytest.raises(UserError, match=r"dataset=colors.*choose from names"):
        typed(compose("config", ["experiment=ancestor"]))


def test_training_has_seen_nothing_of_the_validation_split() -> None:
    config = typed(compose("config", ["dataset=colors"]))
    data = load_data(config, CPU)
    train = {tuple(row) for row in data.batches.epoch(0).idx.tolist()}
    assert train.isdisjoint(tuple(row) for row in data.val.idx.tolist())


def test_a_block_that_no_stream_split_holds_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(TEXT)
    overrides = ["dataset=file", f"dataset.path={file}", "dataset.mode=stream"]
    with pytest.raises(UserError, match=r"model.block_size=9999.*try at most model.block_size=(\d+)") as caught:
        load_data(typed(compose("config", [*overrides, "model.block_size=9999"])), CPU)
    longest = str(caught.value).rpartition("=")[2]
    load_data(typed(compose("config", [*overrides, f"model.block_size={longest}"])), CPU)


def test_the_card_tells_what_the_corpus_holds(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("anna\nbob\nanna\n" + "\n".join(f"{i:03}" for i in range(18)))
    config = typed(compose("config", ["dataset=file", f"dataset.path={file}", "model.block_size=4"]))
    assert data_card(config, load_data(config, CPU).corpus) == {
        "mode": "discrete",
        "documents": "20",
        "duplicates": "1",
        "dropped": "0",
        "train": "18",
        "validation": "2",
        "characters": str(len(set("annabob0123456789"))),
        "longest": "4",
        "fit a block": "95.0%",
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match=r"device=cuda.*device=cpu"):
        find_device("cuda")
