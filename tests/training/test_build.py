"""From a config to the parts of a run: every shipped YAML file composes and trains a step."""

import csv
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from settings import ROOT

from microgpt.commands.hydra_app import register
from microgpt.config.checks import parse, validate
from microgpt.config.schema import Config, flatten
from microgpt.data.loading import Data, load_data
from microgpt.errors import UserError
from microgpt.runs.directory import Status
from microgpt.training.build import build_model, build_trainer

CPU = torch.device("cpu")
TEXT = "Speak.\n\nBefore we proceed any further, hear me speak.\nAll of it!\n\n" * 60
NAMES = [f"{a}{b}{c}" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin", "chu")]
CHOICES = [
    f"{group}={path.stem}"
    for group in ("dataset", "model", "optim", "sampling", "experiment")
    for path in sorted((ROOT / "conf" / group).glob("*.yaml"))
]


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def composed(*overrides: str) -> Config:
    return parse(compose("config", list(overrides)), Config)


def load(config: Config) -> Data:
    return load_data(config.dataset, config.seed, Path(config.datasets_dir))


def small_file(config: Config, folder: Path) -> Path:
    """A small corpus in the format that the config's reader expects."""
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
    config = composed(*base, choice, "train.steps=1", "train.batch_size=2")
    if config.dataset.reader in ("text", "csv", "zip"):
        config.dataset.path, config.dataset.min_count = str(small_file(config, tmp_path)), 1
    validate(config)
    data = load(config)
    trainer = build_trainer(config, data, build_model(config, data.tokenizer.vocab_size, CPU))
    assert trainer.fit() is Status.FINISHED
    assert trainer.progress.val_loss > 0


def test_a_dataset_sets_its_recipe_and_the_command_line_overrides_it_in_any_order() -> None:
    recipe = composed("dataset=names")
    assert recipe.model.block_size == 16
    for overrides in (["model.n_embd=48", "dataset=names"], ["dataset=names", "model.n_embd=48"]):
        config = composed(*overrides)
        assert (config.model.n_embd, config.model.block_size) == (48, 16)
    for overrides in (["model=large", "dataset=names"], ["dataset=names", "model=large"]):
        assert composed(*overrides).model.n_embd == 384


@pytest.mark.parametrize("path", sorted((ROOT / "conf/recipe/ngram").glob("*.yaml")), ids=lambda path: path.stem)
def test_model_ngram_has_a_recipe_for_each_dataset(path: Path) -> None:
    recipe, config = (
        flatten(OmegaConf.to_container(OmegaConf.load(path))),
        composed("model=ngram", f"dataset={path.stem}"),
    )
    composed_values = flatten(asdict(config))
    assert recipe == {key: composed_values[key] for key in recipe}
    assert composed(f"dataset={path.stem}").model.ngrams == 0 < config.model.ngrams


def test_the_command_line_overrides_the_recipe_of_a_model() -> None:
    recipe = composed("dataset=shakespeare", "model=ngram")
    assert recipe.optim.name == "adamw"
    config = composed("optim=muon", "train.steps=7", "model=ngram", "model.ngrams=3", "dataset=shakespeare")
    assert (config.optim.name, config.train.steps, config.model.ngrams) == ("muon", 7, 3)
    assert config.model.ngram_rows == recipe.model.ngram_rows
    assert composed("experiment=ancestor_pokemon", "model=ngram").model.ngram_dropout == 0.7


def test_the_recipes_of_the_datasets_use_the_plain_model() -> None:
    for path in (ROOT / "conf" / "dataset").glob("*.yaml"):
        model = composed(f"dataset={path.stem}").model
        assert not (model.rotary or model.qk_norm or model.zero_init or model.final_norm or model.ngrams)
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
def test_experiment_ancestor_has_the_settings_of_the_original(corpus: str, expected: tuple[int, ...]) -> None:
    config = composed(f"dataset={corpus}", "experiment=ancestor")
    model, train, optim = config.model, config.train, config.optim
    sizes = (model.n_embd, model.n_layer, model.n_head, model.block_size, train.steps, train.batch_size)
    assert sizes == expected
    assert (optim.name, optim.lr, optim.betas, optim.clip_grad) == ("adam", 0.01, [0.9, 0.95], 1.0)


def test_the_ancestor_experiments_have_the_settings_of_the_published_runs() -> None:
    essays = composed("experiment=ancestor_paul_graham")
    assert (essays.dataset.name, essays.train.steps) == ("paul_graham", 100_000)
    assert (essays.model.n_embd, essays.model.n_layer, essays.model.n_head) == (64, 4, 4)
    pokemon = composed("experiment=ancestor_pokemon")
    assert (pokemon.dataset.name, pokemon.train.steps) == ("pokemon", 20_000)


def test_experiment_ancestor_is_an_error_for_other_corpora() -> None:
    with pytest.raises(UserError, match=r"dataset=colors.*choose from names"):
        composed("experiment=ancestor")


def test_training_rows_and_validation_rows_are_disjoint() -> None:
    config = composed("dataset=colors")
    data = load(config)
    trainer = build_trainer(config, data, build_model(config, data.tokenizer.vocab_size, CPU))
    train = {tuple(row) for row in trainer.batches.epoch_rows(0).idx.tolist()}
    assert train.isdisjoint(tuple(row) for row in trainer.whole_val.idx.tolist())


def test_the_weights_are_drawn_from_the_seed() -> None:
    def head(seed: int) -> torch.Tensor:
        return build_model(composed(f"seed={seed}"), 9, CPU).head.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_a_block_longer_than_the_splits_of_a_stream_is_refused_before_training(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text(TEXT)

    def build(block_size: int) -> None:
        settings = [f"dataset.path={file}", "dataset.mode=stream", f"model.block_size={block_size}"]
        config = composed("dataset=file", *settings)
        data = load(config)
        build_trainer(config, data, build_model(config, data.tokenizer.vocab_size, CPU))

    with pytest.raises(UserError, match=r"model.block_size=9999.*try at most model.block_size=(\d+)") as caught:
        build(9999)
    build(int(str(caught.value).rpartition("=")[2]))
