"""The schema: types, ranges, unknown keys, and what no single key can tell."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from microgpt.config import Config, SampleConfig, describe, settings, typed, validate
from microgpt.errors import UserError


def config(**changes: Any) -> Config:
    """A config with some keys changed: `config(model={"n_embd": 30})`."""
    return typed(OmegaConf.create({"dataset": {"name": "colors", "reader": "colors"}, **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"n_embed": 3}}, ["model.n_embed", "did you mean model.n_embd"]),
        ({"trian": {"steps": 3}}, ["trian", "did you mean train"]),
        ({"model": {"n_embd": "wide"}}, ["model.n_embd", "wide", "Integer"]),
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
        ({"seed": 1.5}, ["seed", "1.5", "Integer"]),
    ],
)
def test_a_wrong_value_is_told_in_one_line(changes: dict[str, Any], words: list[str]) -> None:
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
        ({"optim": {"betas": [0.9]}}, ["optim.betas", "two numbers"]),
        ({"optim": {"betas": [0.9, 1.0]}}, ["optim.betas"]),
        ({"train": {"batch_size": 4, "grad_accum": 5}}, ["train.grad_accum=5", "train.batch_size=4"]),
        (
            {"train": {"steps": 10}, "optim": {"warmup_steps": 10}},
            ["optim.warmup_steps=10", "train.steps=10"],
        ),
        ({"sampling": {"prompts": []}}, ["sampling.prompts"]),
        ({"dataset": {"name": "file"}}, ["dataset.path"]),
        ({"dataset": {"name": "file", "path": "a.csv", "reader": "csv"}}, ["dataset.column"]),
    ],
)
def test_settings_that_do_not_fit_each_other_are_told_in_one_line(changes: dict[str, Any], words: list[str]) -> None:
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


@pytest.mark.parametrize("schema", [Config, SampleConfig])
def test_help_lists_every_key_with_its_meaning(schema: type) -> None:
    text = describe(schema)
    for name, f in settings(schema):
        assert name in text
        assert f.metadata["doc"] in text or name == "sampling"
    assert "sampling.temperature" in text
