"""A text explained: the figures of a plain forward pass, and the page that shows them."""

import base64
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from page_scripts import FAINT_TEXTS, set_scheme, set_size
from page_scripts import browser as browser
from settings import QUICK, Page, Trained

from microgpt.config.schema import ModelConfig
from microgpt.data.batches import document_rows
from microgpt.data.modes import find_mode
from microgpt.data.tokenizer import Tokenizer
from microgpt.errors import UserError
from microgpt.insight.explanation import MAX_BITS, SHADES, color, explain_text, most_focused, page, percent
from microgpt.model.evaluation import evaluate
from microgpt.model.text_generator import TextGenerator
from microgpt.model.transformer import GPT
from microgpt.plots.style import page_colors
from microgpt.runs.opening import open_run

TEXT = "dark sea blue green"  # longer than a block of 16


@pytest.fixture(scope="module")
def folder(trained_once: Trained) -> Path:
    """A run on the colours."""
    return trained_once(*QUICK)


@pytest.fixture(scope="module")
def generator(folder: Path) -> TextGenerator:
    return open_run(folder, "best", torch.device("cpu")).generator


def make_generator(mode: str, chars: str = "\n &/<>abc") -> TextGenerator:
    torch.manual_seed(0)
    tokenizer = Tokenizer(chars)
    model = GPT(tokenizer.vocab_size, ModelConfig(n_embd=8, n_layer=2, n_head=2, block_size=8))
    return TextGenerator(model, tokenizer, find_mode(mode))


def test_bits_and_ranks_are_those_of_a_forward_pass(generator: TextGenerator) -> None:
    explained = explain_text(generator, "sea blue")
    ids = [*generator.prompt_ids("sea blue"), generator.tokenizer.bos]
    with torch.no_grad():
        logprobs = generator.model(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
    expected = [-logprobs[t, token].item() / math.log(2) for t, token in enumerate(ids[1:])]
    assert explained.tokens == [*"⏎sea␣blue⏎"]
    assert [place.bits for place in explained.places] == pytest.approx(expected)
    order = logprobs.argsort(-1, descending=True).tolist()
    assert [place.rank for place in explained.places] == [
        1 + row.index(i) for row, i in zip(order, ids[1:], strict=True)
    ]
    assert explained.summary().startswith(
        f"{sum(expected):.1f} bits in all, {sum(expected) / 9:.3f} bits per character (9 "
    )
    hottest = expected.index(max(expected))
    assert f"most surprising: {'sea␣blue⏎'[hottest]} after {'⏎sea␣blue'[: hottest + 1]}," in explained.summary()


def test_bits_per_character_are_what_validation_reports(generator: TextGenerator) -> None:
    explained = explain_text(generator, "sea blue")
    tokens = torch.tensor(generator.tokenizer.encode_documents(["sea blue"]))
    rows = document_rows(tokens, generator.tokenizer.bos, generator.model.block_size, pack=True)
    bpc = evaluate(generator.model, rows, chars=9).bpc  # the end of the document is a character too
    assert sum(place.bits for place in explained.places) / explained.chars == pytest.approx(bpc, rel=1e-5)


def test_a_stream_has_no_end_and_its_blank_lines_are_two_characters() -> None:
    explained = explain_text(make_generator("stream"), "a\nb\n\nc")
    assert explained.tokens == ["⏎", "a", "\\n", "b", "⏎", "c"]
    assert len(explained.places) == 5 and explained.chars == 6


def test_nothing_to_predict_is_refused(generator: TextGenerator) -> None:
    with pytest.raises(UserError, match=r"^text=: holds no character to predict"):
        explain_text(make_generator("stream"), "")
    assert len(explain_text(generator, "").places) == 1  # the end of an empty document


def test_the_sharpest_heads_are_those_that_attend_to_a_character_rather_than_to_the_first_bos() -> None:
    place = explain_text(make_generator("discrete"), "ab").places[1]
    place.attention[:] = torch.tensor([[[0.9, 0.1], [0.3, 0.7]], [[0.4, 0.6], [1.0, 0.0]]])
    assert most_focused([place]) == [(0, 1), (1, 0), (0, 0), (1, 1)]


def test_colours_go_from_cool_to_hot() -> None:
    assert color(0) == "#b7d2ed" and color(MAX_BITS / 2) == "#fdf3d0"
    assert color(MAX_BITS) == color(99)


def page_data(text: str) -> dict[str, Any]:
    (found,) = re.findall(r"^const \{.+\} = (\{.+\});$", text, re.MULTILINE)
    return json.loads(found)


def test_the_page_is_self_contained() -> None:
    explained = explain_text(make_generator("discrete"), "a<b>&c </b>abc")
    text = page(explained, 3, "a run")
    parsed = Page(text)
    assert not parsed.loads and parsed.tags.count("script") == 1 and "a" not in parsed.tags
    assert not re.search(r"https?://|src=|@import|url\(|fetch\(", text)
    assert parsed.tags.count("button") == len(explained.tokens) and parsed.tags.count("b") == len(explained.tokens)
    data = page_data(text)
    assert data["tokens"] == explained.tokens
    for place, expected in zip(data["places"], explained.places, strict=True):
        assert place["bits"] == pytest.approx(expected.bits) and place["rank"] == expected.rank
        assert len(place["likeliest"]) == 3 and place["start"] == expected.start
        shares = torch.tensor(list(base64.b64decode(place["attention"]))).view(2, 2, -1) / 255
        torch.testing.assert_close(shares, expected.attention, rtol=0, atol=0.5 / 255 + 1e-6)


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_a_browser_shows_the_place_chosen_by_keyboard_or_pointer(tmp_path: Path) -> None:
    explained = explain_text(make_generator("discrete"), "abc <a> &")
    press = "document.getElementById('text').onkeydown({key: '%s', preventDefault() {}});"
    point = "document.querySelectorAll('.tile')[4].onmouseenter();"
    steps = point + "".join(press % key for key in ("ArrowRight", "ArrowDown", "ArrowDown"))
    file = tmp_path / "page.html"
    file.write_text(page(explained, 5, "a run").replace("</body>", f"<script>{steps}</script></body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    command = ["chromium", *flags, "--dump-dom", file.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    place = explained.places[4]
    assert (
        f"&lt;: {place.bits:.2f} bits (probability " in dom
        and f"rank {place.rank} of {len(explained.alphabet)}." in dom
    )
    assert 'aria-pressed="true" title="layer 1, head 2"' in dom
    strips = re.findall(r"<i[^>]*>(\d*)</i>", dom)
    assert strips[:5] == [f"{share * 100:.0f}" for share in place.attention[0, 1].tolist()]
    assert not any(strips[5:]) and len(strips) == len(explained.tokens)
    assert len(re.findall(r'class="tile outside-context"', dom)) == len(explained.tokens) - 6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read_in_light_and_dark(scheme: str, browser: Any, tmp_path: Path) -> None:
    explained = explain_text(make_generator("discrete"), "abc <a> &")
    file = tmp_path / "page.html"
    file.write_text(page(explained, 5, "a run"))
    set_scheme(browser, scheme)
    for width in (400, 1280):
        set_size(browser, width, 900)
        browser.get(file.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        for i in range(1, len(explained.tokens)):
            browser.execute_script("choose(arguments[0]); chooseHead(arguments[0] % 2);", i)
            assert browser.execute_script(FAINT_TEXTS) == []
    assert browser.get_log("browser") == []


def test_the_shades_of_light_pages_are_those_of_the_terminal() -> None:
    shades = [f"--s{i}: {color(MAX_BITS * i / (SHADES - 1))};" for i in range(SHADES)]
    assert " ".join(shades) in page_colors()


def test_an_unknown_character_is_named_under_the_key_that_was_typed(generator: TextGenerator) -> None:
    with pytest.raises(UserError, match=r"^text='Sea': the corpus holds no 'S'; use characters of: "):
        explain_text(generator, "Sea")


def test_a_text_that_is_too_long_for_the_page_is_refused(generator: TextGenerator) -> None:
    with pytest.raises(UserError, match=r"^text: has 5,001 characters, and explain shows at most 5,000; give a sho"):
        explain_text(generator, "a" * 5001)


@pytest.mark.parametrize(
    ("p", "shown"),
    [(0.42, "42%"), (2**-7.6, "0.5%"), (0.0099, "1.0%"), (0.00996, "1%"), (0.0004, "<0.1%"), (1.0, "100%")],
)
def test_a_small_probability_is_shown_with_a_digit_that_it_has(p: float, shown: str) -> None:
    assert percent(p) == shown
