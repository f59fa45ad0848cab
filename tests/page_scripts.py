"""Runs the scripts of the page under node, and the page itself in Chromium; both skip where there is none."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from microgpt.config.schema import Config, DatasetConfig, ModelConfig, SamplingConfig
from microgpt.data.tokenizer import Tokenizer
from microgpt.model.transformer import GPT
from microgpt.page.contents import MODEL_KEYS
from microgpt.page.weights import pack_model, with_packed
from microgpt.page.writing import source
from microgpt.runs import checkpoint

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="needs node, to run the scripts of the page")

# Every switch of the model that changes its forward pass, alone and together.
SWITCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "odd": {"n_embd": 15},
    "rotary": {"rotary": True},
    "qk_norm": {"qk_norm": True},
    "relu_squared": {"activation": "relu_squared"},
    "gelu": {"activation": "gelu"},
    "final_norm": {"final_norm": True},
    "ngrams": {"ngrams": 4, "ngram_rows": 500},
    "all": {
        "rotary": True,
        "qk_norm": True,
        "activation": "relu_squared",
        "zero_init": True,
        "final_norm": True,
        "ngrams": 3,
        "ngram_rows": 300,
        "dropout": 0.1,
        "ngram_dropout": 0.2,
    },
}
CHARS = "\n abcdefghi"
BITS = 12  # of a weight


def random_model(vocab_size: int, **switches: Any) -> GPT:
    """A small model whose predictions are far from uniform. Its width is no multiple of 4; some n-grams are 0."""
    torch.manual_seed(0)
    model = GPT(vocab_size, ModelConfig(**{"n_embd": 18, "n_layer": 2, "n_head": 3, "block_size": 10, **switches}))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=1.5 / weight.size(1) ** 0.5)
        if model.ngram_embedding is not None:
            model.ngram_embedding.weight[::3] = 0
    return model


def save_run(folder: Path, mode: str, n_samples: int, max_tokens: int, **switches: Any) -> Path:
    """The directory of a run whose weights are those that a page holds, so that the page computes the same model."""
    tokenizer = Tokenizer(CHARS if mode == "stream" else CHARS[1:])
    model = random_model(tokenizer.vocab_size, **switches)
    model = with_packed(model, pack_model(model, BITS, BITS))
    sampling = SamplingConfig(n_samples=n_samples, max_tokens=max_tokens, temperature=0.9)
    config = Config(DatasetConfig(name="letters", mode=mode), model.config, sampling=sampling)
    folder.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "tokenizer": tokenizer.chars, "config": asdict(config)}
    checkpoint.save(folder / "best.pt", state)
    return folder


def model_json(model: GPT, bits: int = BITS) -> dict[str, Any]:
    """The model as `new GPT(config, unpackWeights(weights))` takes it."""
    weights = {name: matrix.as_json() for name, matrix in pack_model(model, bits, bits).items()}
    return {"config": {key: getattr(model.config, key) for key in MODEL_KEYS}, "weights": weights}


def run_node(scripts: Sequence[str], code: str, data: Any) -> Any:
    """What the function body `code` returns after these scripts; `data` is what it is called with."""
    program = "\n".join(map(source, scripts))
    program += f"\nconst answer = (data => {{ {code} }})(JSON.parse(require('fs').readFileSync(0, 'utf-8')));"
    program += "\nprocess.stdout.write(JSON.stringify(answer));"
    done = subprocess.run(["node", "-e", program], input=json.dumps(data), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium. Skips where there is none, or no driver of it on the path."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver, to open the page (apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --disable-dev-shm-usage --disable-3d-apis"
    for flag in [*flags.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()


# Each visible text whose contrast with what is behind it (WCAG 2, 1.4.3) is below 4.5, with that contrast.
FAINT_TEXTS = """
const parse = color => { const [r, g, b, alpha = 1] = color.match(/[\\d.]+/g).map(Number); return [r, g, b, alpha]; };
const over = (color, ground) => color.map((value, i) => i < 3 ? value * color[3] + ground[i] * (1 - color[3]) : 1);
const linear = value => value <= 0.04045 * 255 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ground = element => (
  element ? over(parse(getComputedStyle(element).backgroundColor), ground(element.parentElement)) : [255, 255, 255, 1]);
const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
  if (!text || element.closest("svg") || !element.checkVisibility({ visibilityProperty: true })) continue;
  const behind = ground(element), color = over(parse(getComputedStyle(element).color), behind);
  const [low, high] = [luminance(color), luminance(behind)].sort((a, b) => a - b);
  if ((high + 0.05) / (low + 0.05) < 4.5) found.push([text, (high + 0.05) / (low + 0.05)]);
}
return found;
"""


def set_scheme(browser: Any, scheme: str) -> None:
    """Prefer `light` or `dark` pages."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def set_size(browser: Any, width: int, height: int) -> None:
    """Set the size of the window in pixels, up to 800 as that of a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 800}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
