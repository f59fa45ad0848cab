"""What is typed: read, or refused in one line (`fuzz`)."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from fuzz import JSON, MANY, TEXT, fuzzed, read_or_refused
from hypothesis import example, given
from hypothesis import strategies as st
from settings import QUICK

from microgpt.commands.arguments import quote, quote_items, read_arguments, split_texts, unquote
from microgpt.commands.explain import ExplainConfig
from microgpt.commands.failure import user_errors
from microgpt.config.schema import Config, SamplingConfig
from microgpt.model.text_generator import TextGenerator
from microgpt.runs.opening import open_run


@pytest.fixture(scope="module")
def run(trained_once: Callable[..., Path]) -> Path:
    return trained_once(*QUICK)


@functools.cache
def generator_of(run: Path) -> TextGenerator:
    return open_run(run, "best", torch.device("cpu")).generator


@fuzzed(MANY)
@given(prompt=TEXT | st.text(st.sampled_from("abc \n\\⏎\x1e"), max_size=40))
@example(prompt="\udce9")
def test_a_prompt(run: Path, prompt: str) -> None:
    generator = generator_of(run)
    with read_or_refused():
        generator.notes([prompt])
        texts = generator.generate(SamplingConfig(prompts=[prompt], max_tokens=2, n_samples=1), 1)
        generator.lay_out(texts, SamplingConfig())


WORDS = st.tuples(
    st.sampled_from(
        ["run=", "text=", "checkpoint=", "top=", "out=", "device=", "nope=", "top", "", "=", "model.n_embd="]
    ),
    TEXT | st.sampled_from(["1", "null", "[1]", "{a:b}", "'", "\\", "${seed}", "???", "[" * 500, "9" * 5000]),
).map("".join)


@fuzzed(MANY)
@given(words=st.lists(WORDS, max_size=4))
def test_the_words_of_a_command(words: list[str]) -> None:
    with read_or_refused():
        read_arguments(["run=x", "text=y", *words], ExplainConfig)


@fuzzed(MANY)
@given(
    name=st.sampled_from(
        ["dataset.path", "dataset.replace", "sampling.prompts", "resume", "dataset.document", "model.n_embd"]
    ),
    value=TEXT | JSON.map(lambda data: yaml.safe_dump(data, default_flow_style=True)),
    sweep=st.booleans(),
)
def test_quotes(name: str, value: str, sweep: bool) -> None:
    with read_or_refused(), user_errors():
        quote(f"{name}={value}", Config, sweep)
        quote_items(value)
        unquote(value)
        split_texts(value)
