"""The page in a headless Chromium: it writes what sample.py writes, shows what was measured, and fits a phone."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_scripts import SWITCHES, save_run, set_size
from page_scripts import browser as browser
from settings import QUICK, Program, Trained

from microgpt.insight.samples_over_time import read_samples

# Each switch in one of the modes, in turn; no switch and all of them in both.
MODES = ["discrete", "stream"]
ARCHITECTURES = [(name, MODES[i % 2]) for i, name in enumerate(SWITCHES)] + [("plain", "stream"), ("all", "stream")]

FIND = "return document.getElementById(arguments[0])"


def write(browser: Any) -> list[str]:
    """Press the button that writes; the samples, when all are written."""
    browser.find_element("id", "write").click()
    wait(browser)
    return samples(browser)


def wait(browser: Any) -> None:
    deadline = time.monotonic() + 60
    while not browser.execute_script(f"{FIND}.disabled", "stop"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def samples(browser: Any) -> list[str]:
    """The texts of the samples on the page, with their prompts and without their marks."""
    parts = "[...sample.querySelectorAll('b, span')].map(part => part.textContent).join('')"
    return browser.execute_script(f"return [...document.querySelectorAll('.sample')].map(sample => {parts})")


def set_value(browser: Any, selector: str, value: Any) -> None:
    code = "const field = document.querySelector(arguments[0]); field.value = arguments[1]; field.oninput();"
    browser.execute_script(code, selector, str(value))


@pytest.fixture(autouse=True)
def no_errors(browser: Any) -> Iterator[None]:
    """No test of the page may leave an error in the console."""
    yield
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("name", "mode"), ARCHITECTURES)
def test_a_thousand_tokens_are_those_of_sample_py(
    name: str, mode: str, browser: Any, program: Program, tmp_path: Path
) -> None:
    n_samples, max_tokens = (600, 30) if mode == "discrete" else (1, 1000)
    folder = save_run(tmp_path / "run", mode, n_samples, max_tokens, **SWITCHES[name])
    program("-m", "microgpt", "page", "run=run", "bits=12", "ngram_bits=12")
    browser.get((folder / "page.html").as_uri())
    for prompt, seed in (("", 1337), ("abc", 5)):
        expected = program("sample.py", "run=run", f"prompt={prompt}", f"seed={seed}").stdout
        set_value(browser, "#prompt", prompt)
        set_value(browser, "#settings [name=seed]", seed)
        found = write(browser)
        assert len(found) == n_samples and "".join(f"{text}\n" for text in found) == expected
        assert sum(len(text) + 1 for text in found) > 1000  # with the end of each


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_the_page_of_a_trained_run_writes_what_sample_py_writes(
    mode: str, browser: Any, program: Program, trained: Trained
) -> None:
    settings = ["train.steps=150", "sampling.n_samples=1", "sampling.max_tokens=1000", f"dataset.mode={mode}"]
    settings += ["sampling.n_samples=150", "sampling.max_tokens=40"] if mode == "discrete" else []
    trained(*QUICK, *settings)
    program("-m", "microgpt", "page", "run=run", "bits=24")
    browser.get(Path(trained(*QUICK, *settings, at="again").parent / "run/page.html").as_uri())
    wait(browser)  # it begins to write by itself
    words = ["sampling.temperature=1.1", "sampling.top_k=9", "sampling.top_p=0.9"]
    for word in words:
        name, value = word.removeprefix("sampling.").split("=")
        set_value(browser, f"#settings [name={name}]", value)
    found = write(browser)
    assert "".join(f"{text}\n" for text in found) == program("sample.py", "run=run", *words).stdout
    assert sum(map(len, found)) >= 1000
    command = browser.find_element("id", "command").text
    assert command.startswith("python ") and command.endswith("sample.py run=run " + " ".join(words))
    browser.find_element("id", "check").click()
    assert browser.find_element("id", "checked").text.startswith("The same: all ")


def test_the_page_shows_what_was_measured(browser: Any, program: Program, trained: Trained) -> None:
    folder = trained(*QUICK)
    program("-m", "microgpt", "page", "run=run")
    browser.get((folder / "page.html").as_uri())
    wait(browser)
    assert browser.execute_script("return document.querySelectorAll('#chart circle').length") == 2
    browser.execute_script("const slider = document.getElementById('step'); slider.value = 1; slider.oninput();")
    shown = browser.execute_script("return document.getElementById('step-samples').textContent")
    assert shown == "\n".join(read_samples(folder)[1])
    assert browser.find_element("id", "step-name").text == "1 step"
    for words in ("as good as the", "of 1,000 samples", "discrete", "949", "validation split", "warning: "):
        assert words.lower() in browser.find_element("tag name", "body").text.lower(), words
    marks = browser.execute_script("return [...document.querySelectorAll('.mark')].map(mark => mark.textContent)")
    assert marks and set(marks) <= {"new", "in the training set", "in the held-out set", "cut off after 12"}


def test_known_documents_are_marked_as_such(browser: Any, program: Program, trained: Trained) -> None:
    folder = trained(*QUICK, "sampling.max_tokens=40")
    program("-m", "microgpt", "page", "run=run")
    browser.get((folder / "page.html").as_uri())
    wait(browser)
    code = "return run.play.mark(run.tokenizer.promptIds(arguments[0]), false)[0].textContent"
    marks = [browser.execute_script(code, name) for name in ("cloudy blue", "dark pastel green", "blueish cloud")]
    assert set(marks[:2]) <= {"in the training set", "in the held-out set"} and marks[2] == "new"


def test_bars_and_attention_follow_what_is_typed(browser: Any, program: Program, trained: Trained) -> None:
    folder = trained(*QUICK)
    program("-m", "microgpt", "page", "run=run")
    browser.get((folder / "page.html").as_uri())
    wait(browser)
    browser.find_element("id", "prompt").send_keys("Sea%")
    assert 'holds no "%"' in browser.find_element("id", "unknown").text
    tiles = "return [...document.querySelectorAll('#tiles b')].map(tile => tile.textContent).join('')"
    assert browser.execute_script(tiles) == "⏎sea"  # lower case, as the corpus
    button = browser.find_element("css selector", "#bars button:not(:disabled)")
    char = button.text.replace("␣", " ")
    button.click()
    assert browser.execute_script("return document.getElementById('prompt').value") == "Sea%" + char
    strips = browser.execute_script(
        "return [...document.querySelectorAll('#tiles i')].map(strip => Number(strip.textContent))"
    )
    assert len(strips) == 5 and 97 <= sum(strips) <= 103
    heads = browser.find_elements("css selector", "#heads button")
    assert [head.text for head in heads] == ["mean of all heads", "1.1", "1.2"]


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_the_screen(width: int, browser: Any, program: Program, trained: Trained) -> None:
    folder = trained(*QUICK)
    program("-m", "microgpt", "page", "run=run")
    set_size(browser, width, 900)
    try:
        browser.get((folder / "page.html").as_uri())
        wait(browser)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_chooser_opens_another_model(browser: Any, program: Program, tmp_path: Path) -> None:
    quick = [setting for setting in QUICK if "n_layer" not in setting]
    program("train.py", "-m", "model.n_layer=1,2", "hydra.sweep.dir=sweep", *quick)
    program("-m", "microgpt", "page", "run=sweep", "jobs=2")
    browser.get((tmp_path / "sweep/page.html").as_uri())
    wait(browser)
    layers = []
    for choice in browser.find_elements("css selector", "#chooser option"):
        choice.click()
        wait(browser)
        layers.append(browser.execute_script("return run.model.blocks.length"))
        assert samples(browser)
    assert sorted(layers) == [1, 2]
