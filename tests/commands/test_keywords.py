"""Keyword arguments as words of a command line: which key each is, and how its value is written."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from microgpt.commands.arguments import quote
from microgpt.commands.hydra_app import register
from microgpt.commands.keywords import to_words
from microgpt.config.checks import parse
from microgpt.config.groups import CONF
from microgpt.config.schema import Config
from microgpt.errors import UserError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 300}, ["train.steps=300"]),
        ({"seed": 1, "model": "large"}, ["seed=1", "model=large"]),
        ({"lr": 1e-05, "zero_init": True, "resume": None}, ["optim.lr=1e-05", "model.zero_init=true", "resume=null"]),
        ({"optim": {"name": "adamw", "betas": (0.9, 0.95)}}, ["optim.name=adamw", "optim.betas=[0.9,0.95]"]),
        ({"train": {"steps": 3}, "model.n_embd": 8}, ["train.steps=3", "model.n_embd=8"]),
        ({"path": Path("my file.txt")}, ["dataset.path='my file.txt'"]),
        ({"hydra.run.dir": "here", "hydra/launcher": "joblib"}, ["hydra.run.dir=here", "hydra/launcher=joblib"]),
    ],
)
def test_a_keyword_is_the_key_that_ends_so(given: dict[str, Any], words: list[str]) -> None:
    assert to_words(given) == words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dataset": ["names", "cities"], "seed": range(1, 3)}, ["dataset=names,cities", "seed=1,2"]),
        ({"betas": [0.9, 0.95]}, ["optim.betas=[0.9,0.95]"]),
        ({"betas": [[0.9, 0.95], [0.9, 0.99]]}, ["optim.betas=[0.9,0.95],[0.9,0.99]"]),
        ({"path": ["a b.txt", "c.txt"]}, ["dataset.path='a b.txt','c.txt'"]),
    ],
)
def test_in_a_sweep_a_list_holds_the_values_of_the_jobs(given: dict[str, Any], words: list[str]) -> None:
    assert to_words(given, sweep=True) == words


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "adamw"}, 'name: may be dataset.name or optim.name or run.name; write dataset={"name": …}'),
        ({"n_embed": 3}, "n_embed: there is no such key; did you mean model.n_embd?"),
        ({"optim": {"lrr": 3}}, "optim.lrr: there is no such key; did you mean optim.lr?"),
    ],
)
def test_an_unknown_keyword_is_refused_and_another_suggested(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        to_words(given)
    assert str(caught.value) == message


TEXTS = ["a b", "it's", "${seed}", "???", "null", "true", "3", "a,b", "x=1", "[a", "{", "\\", "\\'", '"q"', "é", "a'"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_taken_as_it_is(text: str) -> None:
    register()
    given = {"prompts": [text, ""], "path": text, "licence": "a, b", "replace": {text: "y", "z": text}}
    words = [quote(word, Config) for word in to_words(given)]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = parse(compose("config", words), Config)
    assert config.sampling.prompts == [text, ""] and config.dataset.path == text
    assert config.dataset.licence == "a, b" and config.dataset.replace == {text: "y", "z": text}
