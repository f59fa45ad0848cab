"""Free text: what is escaped has no meaning for OmegaConf, and comes back as it was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from microgpt.config.free_text import KEY_MARK, MARK, escape, escape_key, unescape, unescape_key
from microgpt.config.schema import Config, DatasetConfig, SamplingConfig

TEXTS = st.text(st.sampled_from([*"${}?\\'a:. ", MARK, "\ufdd1"]), max_size=12) | st.text(max_size=8)
TREES = st.recursive(
    TEXTS | st.none() | st.integers() | st.booleans(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS | st.just(KEY_MARK + "61"), values, max_size=3),
    max_leaves=8,
)


@given(TREES)
def test_plain_data_comes_back_as_it_was(tree: Any) -> None:
    assert unescape(escape(tree)) == tree


@given(TEXTS)
def test_omegaconf_reads_escaped_text_as_it_stands(text: str) -> None:
    config = OmegaConf.create({"text": escape(text), "p": "never"})
    assert not OmegaConf.is_interpolation(config, "text") and not OmegaConf.is_missing(config, "text")
    OmegaConf.resolve(config)
    assert unescape(OmegaConf.to_container(config)["text"]) == text  # type: ignore[index]


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_key_comes_back_as_it_was_in_characters_of_hydras_grammar(key: str) -> None:
    assert unescape_key(escape_key(key)) == key
    assert set(escape_key(key)) <= set("%0123456789abcdef")


@pytest.mark.parametrize("key", ["_", "%", "%%", "%%6", "%%zz", "a b"])
def test_other_keys_are_left_alone(key: str) -> None:
    assert unescape_key(key) == key


def test_the_fields_of_a_dataclass_are_unescaped() -> None:
    dataset = DatasetConfig(name="x", path=escape("${seed}"), replace={escape_key("\n"): escape("${")})
    config = unescape(Config(dataset, sampling=SamplingConfig(prompts=[escape("???")])))
    assert (config.dataset.path, config.dataset.replace, config.sampling.prompts) == ("${seed}", {"\n": "${"}, ["???"])
