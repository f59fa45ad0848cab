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
from microgpt.config.schema import Config, ModelConfig, flatten, key, settings, show


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
    code = "import sys; from microgpt.config import help, schema; help.describe(schema.Config)"
    code += "; print({'torch', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


@pytest.mark.parametrize("schema", [Config, SampleConfig, TuneConfig, TradeoffConfig, ExplainConfig, PageConfig])
def test_every_number_has_an_upper_bound(schema: type) -> None:
    for name, f in settings(schema):
        if f.metadata["choices"] is None and ("int" in str(f.type) or "float" in str(f.type)):
            assert math.isfinite(f.metadata["high"]) or name == "optim.betas", name  # `validate` checks the betas
