"""The scripts of the page under node: the same logits, distributions, random numbers and tokens as torch."""

import json
from typing import Any

import pytest
import torch
from page_scripts import BITS, SWITCHES, model_json, needs_node, random_model, run_node

from microgpt.config.registry import ACTIVATIONS
from microgpt.data.modes import Mode, find_mode
from microgpt.data.normalisation import Normaliser
from microgpt.data.tokenizer import Tokenizer
from microgpt.insight.attention import attention_maps
from microgpt.model.generation import generate, probabilities, random_draws
from microgpt.model.text_generator import TextGenerator
from microgpt.page import contents
from microgpt.page.contents import text_settings
from microgpt.page.weights import pack_model, with_packed

pytestmark = needs_node
MODEL = ["gpt.js", "weights.js", "generation.js"]
OPEN = "const model = new GPT(data.config, unpackWeights(data.weights));"


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_logits_and_attention_are_those_of_torch(switches: dict[str, Any]) -> None:
    model = random_model(13, **switches)
    model = with_packed(model, pack_model(model, BITS, BITS))
    idx = torch.randint(13, (1, model.block_size), generator=torch.Generator().manual_seed(1))
    code = f"""{OPEN}
      const cache = model.emptyCache(true);
      const logits = data.ids.map(id => [...model.forward(id, cache)]);
      return {{ logits, attention: cache.attention.map(weights => [...weights]) }};
    """
    found = run_node(MODEL, code, {**model_json(model), "ids": idx[0].tolist()})
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(found["logits"]), model(idx)[0], atol=2e-5, rtol=1e-4)
    maps = torch.stack(attention_maps(model, idx))  # (L, H, T, T)
    for t, weights in enumerate(found["attention"]):
        row = torch.tensor(weights, dtype=torch.float32).view(*maps.shape[:2], t + 1)
        torch.testing.assert_close(row, maps[:, :, t, : t + 1], atol=1e-5, rtol=1e-4)


def test_rounding_to_18_bits_moves_logits_by_less_than_a_hundredth() -> None:
    model = random_model(13, n_embd=64, n_layer=3, n_head=4, block_size=32)
    idx = torch.randint(13, (1, 32), generator=torch.Generator().manual_seed(1))
    code = f"{OPEN} const cache = model.emptyCache(); return data.ids.map(id => [...model.forward(id, cache)]);"
    found = torch.tensor(run_node(MODEL, code, {**model_json(model, 18), "ids": idx[0].tolist()}))
    with torch.no_grad():
        assert (found - model(idx)[0]).abs().max() < 1e-2 * max(1, found.abs().max().item() / 10)


def test_the_random_numbers_are_those_of_torch() -> None:
    code = "return data.map(seed => randomDraws(3, 700, seed).map(row => [...row]));"
    seeds = [0, 1337, 2**31 - 1]
    for seed, found in zip(seeds, run_node(["generation.js"], code, seeds), strict=True):
        assert found == random_draws(3, 700, seed).tolist()


SETTINGS = [(1.0, 0, 1.0), (0.5, 3, 1.0), (1.5, 0, 0.7), (0.9, 4, 0.5), (0.0, 0, 1.0), (1.0, 1, 1.0), (1.0, 0, 0.0)]


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
def test_the_distribution_is_that_of_torch(temperature: float, top_k: int, top_p: float) -> None:
    torch.manual_seed(0)
    logits = (2 * torch.randn(20, 7)).round(decimals=1)  # with ties
    data = {"logits": logits.tolist(), "temperature": temperature, "top_k": top_k, "top_p": top_p}
    code = "return data.logits.map(row => [...probabilities(Float32Array.from(row), data)]);"
    found = torch.tensor(run_node(["generation.js"], code, data), dtype=torch.float64)
    expected = probabilities(logits, temperature, top_k, top_p)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("block_size", [1, 2, 7, 10])
@pytest.mark.parametrize("prompt", [[8], [8, *range(8), 3, 1, 4, 1, 5]], ids=["no prompt", "longer than a block"])
def test_a_text_longer_than_the_block_goes_on_as_in_torch(prompt: list[int], block_size: int) -> None:
    model = random_model(9, block_size=block_size, ngrams=3, ngram_rows=40)
    model = with_packed(model, pack_model(model, BITS, BITS))
    code = f"""{OPEN}
      return randomDraws(2, 60, 5).map(draws => [...stream(model, data.prompt, draws, data)].map(step => step.token));
    """
    data = {**model_json(model), "prompt": prompt, "temperature": 1.2, "top_k": 5, "top_p": 0.9, "stop": None}
    expected = generate(model, prompt, random_draws(2, 60, 5), temperature=1.2, top_k=5, top_p=0.9)
    assert run_node(MODEL, code, data) == expected


PROMPTS = ["", "abc", "Ab C", "a\r\nb\n\nc\n\n\nd", "ÀB", "\nab", "a--b", "--ab", "e\u0301"]


@pytest.mark.parametrize(
    "normaliser", [Normaliser(), Normaliser("NFD", True, {"b": "c", "cc": "d"})], ids=["plain", "all"]
)
@pytest.mark.parametrize("mode", [find_mode("discrete"), find_mode("stream"), find_mode("stream", "--")], ids=str)
def test_a_prompt_is_read_as_sample_py_reads_it(mode: Mode, normaliser: Normaliser) -> None:
    tokenizer = Tokenizer("\n -abcdeàé\u0300\u0301")
    generator = TextGenerator(random_model(tokenizer.vocab_size), tokenizer, mode, normaliser)
    code = """
      const tokenizer = new Tokenizer(data.text);
      return data.prompts.map(text => [tokenizer.prompt(text), tokenizer.promptIds(tokenizer.prompt(text))]);
    """
    found = run_node(["weights.js", "text.js"], code, {"text": text_settings(generator), "prompts": PROMPTS})
    for prompt, (text, ids) in zip(PROMPTS, found, strict=True):
        assert text == generator.prompt(prompt)
        known = "".join(char for char in text if char in tokenizer.stoi or char == "\n")
        assert ids == generator.normalised_ids(known), json.dumps(prompt)


def test_the_page_computes_every_activation_of_the_registry() -> None:
    assert list(contents.ACTIVATIONS) == list(ACTIVATIONS)
    assert run_node(["gpt.js"], "return Object.keys(ACTIVATIONS);", None) == list(ACTIVATIONS)
