"""The schema: every setting with its meaning, its choices and its default."""

import math
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

from microgpt.commands.explain import ExplainConfig
from microgpt.commands.page import PageConfig
from microgpt.commands.sample import SampleConfig
from microgpt.commands.tradeoff import TradeoffConfig
from microgpt.commands.tune import TuneConfig
from microgpt.config.schema import Config, ModelConfig, describe, flatten, key, schema_default, settings, show


@pytest.mark.parametrize("schema", [Config, SampleConfig])
def test_help_lists_every_key_with_its_meaning(schema: type) -> None:
    text = " ".join(describe(schema).split())
    for name, f in settings(schema):
        assert name in text
        assert f.metadata["doc"] in text
    assert "sampling.temperature" in text


def test_help_lists_the_choices_as_they_are_typed() -> None:
    lines = {line.split()[0]: line for line in describe(Config, width=300).splitlines()}
    assert lines["model.activation"].endswith("(relu, relu_squared, gelu)")
    assert "(adam, adamw, muon" in lines["optim.name"]
    assert lines["plot"].endswith("(true, false, live)")


def test_help_lists_the_type_the_range_and_the_default() -> None:
    lines = {line.split()[0]: line for line in describe(Config, schema_default, width=300).splitlines()}
    assert lines["model.n_embd"].endswith("(integer from 1; default 64)")
    assert lines["sampling.top_p"].endswith("(number from 0 to 1; default 1.0)")
    assert lines["model.rotary"].endswith("(true or false; default false)")
    assert lines["optim.betas"].endswith("(default [0.9, 0.95])")
    assert lines["model.activation"].endswith("(relu, relu_squared, gelu; default relu)")


def test_help_fits_the_terminal() -> None:
    assert max(map(len, describe(Config, schema_default, width=80).splitlines())) <= 80


def test_settings_are_named_as_users_type_them() -> None:
    names = [name for name, _ in settings(Config)]
    assert {"dataset.name", "model.n_embd", "insight.novelty", "seed"} <= set(names)
    assert len(set(names)) == len(names)
    assert [name for name, _ in settings(ModelConfig)] == [f.name for f in fields(ModelConfig)]


@pytest.mark.parametrize("default", [[1, 2], {"a": "b"}])
def test_a_list_or_dictionary_is_no_default_that_two_configs_share(default: Any) -> None:
    factory = key(default, "doc").default_factory
    assert factory() == default and factory() is not factory()


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false"), (0.5, "0.5"), ("live", "live")])
def test_a_value_is_shown_as_it_is_typed(value: object, text: str) -> None:
    assert show(value) == text


def test_flattening_names_nested_values_and_keeps_lists_and_empty_dictionaries() -> None:
    tree = {"seed": 1, "model": {"n_embd": 64}, "optim": {"betas": [0.9, 0.95]}, "dataset": {"replace": {}}}
    flat = {"seed": 1, "model.n_embd": 64, "optim.betas": [0.9, 0.95], "dataset.replace": {}}
    assert flatten(tree) == flat


def test_the_schema_and_its_help_need_neither_torch_nor_hydra() -> None:
    code = "import sys, microgpt.config.schema as c; c.describe(c.Config); print({'torch', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


@pytest.mark.parametrize("schema", [Config, SampleConfig, TuneConfig, TradeoffConfig, ExplainConfig, PageConfig])
def test_every_number_has_an_upper_bound(schema: type) -> None:
    for name, f in settings(schema):
        if f.metadata["choices"] is None and ("int" in str(f.type) or "float" in str(f.type)):
            assert math.isfinite(f.metadata["high"]) or name == "optim.betas", name  # `validate` checks the betas
