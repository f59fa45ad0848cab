"""The help: every setting with its meaning, its choices, its type, its range and its default."""

import pytest

from microgpt.commands.sample import SampleConfig
from microgpt.config.help import describe, schema_default
from microgpt.config.schema import Config, settings


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
