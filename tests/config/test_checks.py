"""The checks of a config: types, ranges, unknown keys, and settings that conflict with each other."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from microgpt.commands.sample import SampleConfig
from microgpt.config.checks import parse, parse_data, unknown_key, validate
from microgpt.config.schema import Config, DatasetConfig
from microgpt.errors import UserError
from microgpt.runs.finding import RUN


def config(**changes: Any) -> Config:
    """A config with some keys changed: `config(model={"n_embd": 30})`."""
    return parse(OmegaConf.create({"dataset": {"name": "colors", "reader": "colors"}, **changes}), Config)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"n_embed": 3}}, ["model.n_embed", "did you mean model.n_embd"]),
        ({"trian": {"steps": 3}}, ["trian", "did you mean train"]),
        ({"model": {"n_embd": "wide"}}, ["model.n_embd=wide: must be a whole number"]),
        ({"model": {"n_embd": 0}}, ["model.n_embd=0", "at least 1", "model.n_embd=64"]),
        ({"train": {"steps": -5}}, ["train.steps=-5", "at least 1"]),
        ({"train": {"batch_size": 0}}, ["train.batch_size=0"]),
        ({"optim": {"lr": -0.1}}, ["optim.lr=-0.1", "at least 0"]),
        ({"sampling": {"top_p": 1.5}}, ["sampling.top_p=1.5", "from 0 to 1"]),
        (
            {"optim": {"name": "muom"}},
            ["optim.name=muom", "adam, adamw, muon", "did you mean optim.name=muon"],
        ),
        ({"plot": "maybe"}, ["plot=maybe", "true, false, live"]),
        ({"seed": 1.5}, ["seed=1.5: must be a whole number"]),
    ],
)
def test_the_error_for_a_wrong_value_is_one_line(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        config(**changes)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"n_embd": 30, "n_head": 4}}, ["model.n_embd=30", "model.n_head=4", "model.n_embd=32"]),
        ({"model": {"n_embd": 6, "n_head": 2, "rotary": True}}, ["rotary", "even"]),
        ({"model": {"ngrams": 1}}, ["model.ngrams=1", "model.ngrams=0 is none"]),
        ({"optim": {"betas": [0.9]}}, ["optim.betas", "two numbers"]),
        ({"optim": {"betas": [0.9, 1.0]}}, ["optim.betas"]),
        ({"train": {"batch_size": 4, "grad_accum": 5}}, ["train.grad_accum=5", "train.batch_size=4"]),
        (
            {"train": {"steps": 10}, "optim": {"warmup_steps": 10}},
            ["optim.warmup_steps=10", "train.steps=10"],
        ),
        ({"sampling": {"prompts": []}}, ["sampling.prompts"]),
        ({"dataset": {"name": "file"}}, ["dataset.path"]),
    ],
)
def test_the_error_for_conflicting_settings_is_one_line(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        validate(config(**changes))
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_the_suggested_width_fits() -> None:
    with pytest.raises(UserError) as caught:
        validate(config(model={"n_embd": 1, "n_head": 3}))
    suggested = int(str(caught.value).rpartition("=")[2])
    validate(config(model={"n_embd": suggested, "n_head": 3}))


def test_the_defaults_are_valid() -> None:
    validate(config())


@pytest.mark.parametrize(
    ("given", "schema", "message"),
    [
        (
            {},
            Config,
            "dataset.name: must be given (names the corpus, and the folder of its runs); add dataset.name=colors",
        ),
        ({}, SampleConfig, f"run: must be given ({RUN}); add run=latest"),
    ],
)
def test_the_error_for_a_missing_required_value_shows_an_example(
    given: dict[str, Any], schema: type, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        parse(OmegaConf.create(given), schema)
    assert str(caught.value) == message


def test_a_parsed_config_is_an_object_of_its_schema_with_the_defaults() -> None:
    parsed = config(model={"n_embd": 48}, sampling={"prompts": ["a", ""]})
    assert isinstance(parsed, Config)
    assert (parsed.model.n_embd, parsed.model.n_layer) == (48, Config().model.n_layer)
    assert parsed.sampling.prompts == ["a", ""]


def test_sampling_settings_of_sample_py_are_null_where_they_are_not_given() -> None:
    parsed = parse(OmegaConf.create({"run": "latest", "sampling": {"top_k": 5}}), SampleConfig)
    given: Any = parsed.sampling
    assert (given.top_k, given.temperature, given.prompts) == (5, None, None)
    with pytest.raises(UserError, match=r"sampling.top_p=2.*from 0 to 1"):
        parse(OmegaConf.create({"run": "latest", "sampling": {"top_p": 2}}), SampleConfig)


@pytest.mark.parametrize("plot", [True, False, "live"])
def test_a_choice_may_be_a_boolean_and_an_equal_number_is_rejected(plot: object) -> None:
    assert config(plot=plot).plot is plot
    with pytest.raises(UserError, match="plot=1: must be one of true, false, live"):
        config(plot=1)


def test_an_unknown_key_is_compared_with_keys_sections_and_groups() -> None:
    assert unknown_key("model.n_embed") == "model.n_embed: there is no such key; did you mean model.n_embd?"
    assert unknown_key("optm").endswith("did you mean optim?")
    assert unknown_key("experimnt", Config, ("experiment",)).endswith("did you mean experiment?")
    assert unknown_key("wxyz") == "wxyz: there is no such key; --help lists all"


@pytest.mark.parametrize("key", ["datasets_dir", "dataset.path", "resume"])
def test_a_path_is_never_empty(key: str) -> None:
    config = OmegaConf.structured(Config(dataset=DatasetConfig(name="a")))
    OmegaConf.update(config, key, "")
    with pytest.raises(UserError, match=f"{key}=: is empty"):
        parse(config, Config)


def test_data_is_taken_as_it_is(tmp_path: Path) -> None:
    data = {"dataset": {"name": "${seed}"}, "datasets_dir": r"a\${seed}"}
    config = parse_data(data, Config, tmp_path)
    assert (config.dataset.name, config.datasets_dir) == ("${seed}", r"a\${seed}")
    with pytest.raises(UserError, match=f"{tmp_path}: seed"):
        parse_data({**data, "seed": "${oc.env:HOME}"}, Config, tmp_path)
