"""The page as a file: it loads nothing, no text can break out of its data, and it is as small as promised."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from page_scripts import save_run
from settings import CORPORA, ROOT, Page, needs_corpora

from microgpt.commands.hydra_app import register
from microgpt.config.checks import parse
from microgpt.config.groups import CONF
from microgpt.config.schema import Config
from microgpt.data.loading import load_data
from microgpt.errors import UserError
from microgpt.model.transformer import GPT
from microgpt.page.contents import prepare
from microgpt.page.writing import SCRIPTS, SKELETON, check_size, source, write_page
from microgpt.plots.style import page_colors
from microgpt.runs import checkpoint
from microgpt.runs.opening import open_run


def page_runs(text: str) -> list[dict[str, Any]]:
    """The data of each run of a page."""
    return [json.loads(data) for data in re.findall(r'class="run">(.*?)</script>', text, re.DOTALL)]


def test_the_page_loads_no_files_and_holds_the_runs(tmp_path: Path) -> None:
    run = open_run(save_run(tmp_path / "<b>&'", "discrete", 2, 5), "best", torch.device("cpu"))
    runs = [prepare(run, name, 18, 8, None) for name in ("one </script>", "two")]
    size = write_page(runs, "a <i>title</i>", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    parsed = Page(text)
    assert size == len(text.encode()) and not parsed.loads and "i" not in parsed.tags
    assert parsed.tags.count("script") == 3 and parsed.tags.count("option") == 2 + 3
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\((?!#)|fetch\(|XMLHttpRequest", text)
    assert [data["name"] for data in page_runs(text)] == ["one </script>", "two"]


def test_a_single_run_has_no_chooser(tmp_path: Path) -> None:
    run = open_run(save_run(tmp_path, "discrete", 2, 5), "best", torch.device("cpu"))
    write_page([prepare(run, "one", 18, 8, None)], "one", tmp_path / "page.html")
    assert 'id="chooser"' not in (tmp_path / "page.html").read_text()


def test_a_page_that_would_be_too_large_is_refused_before_it_is_measured(tmp_path: Path) -> None:
    run = open_run(save_run(tmp_path, "discrete", 2, 5), "best", torch.device("cpu"))
    with pytest.raises(UserError, match=r"^max_mb=0.05: the page would have about 0.1 MB; use max_mb=1; fewer bits"):
        check_size([prepare(run, "one", 18, 8, None)] * 2, 0.05)


def test_the_scripts_and_the_style_are_in_the_package() -> None:
    names = {path.name for path in (ROOT / "microgpt" / "page").iterdir() if path.suffix in (".js", ".css", ".j2")}
    assert names == {*SCRIPTS, "page.css", "page.html.j2"}
    assert all("</script" not in source(name) for name in SCRIPTS)


@needs_corpora
@pytest.mark.parametrize(("name", "bits", "max_mb"), [("names", 18, 0.6), ("shakespeare", 20, 3.0)])
def test_a_recipe_fits_its_page(name: str, bits: int, max_mb: float, tmp_path: Path) -> None:
    """With the bits that a trained run of the recipe gets."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = parse(compose("config", [f"dataset={name}"]), Config)
    data = load_data(config.dataset, config.seed, CORPORA)
    config.sampling.max_tokens = 5
    model = GPT(data.tokenizer.vocab_size, config.model)
    state = {"model": model.state_dict(), "tokenizer": data.tokenizer.chars, "config": asdict(config)}
    checkpoint.save(tmp_path / "best.pt", state)
    run = open_run(tmp_path, "best", torch.device("cpu"))
    prepared = prepare(run, name, bits, 8, data)
    size = write_page([prepared], name, tmp_path / "page.html")
    assert size < (max_mb - 0.01) * 1e6
    assert size == pytest.approx(prepared.n_bytes + SKELETON, rel=0.05)


def test_the_example_in_the_docs_has_the_scripts_of_today() -> None:
    text = (ROOT / "docs" / "example.html").read_text(encoding="utf-8")
    changed = [name for name in (*SCRIPTS, "page.css") if source(name) not in text]
    assert page_colors() in text
    assert changed == [], "make example writes docs/example.html again"
