"""The documentation: it builds as a site, without a network, with no link that leads nowhere."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from settings import QUICK, ROOT, Page, Trained

needs_mkdocs = pytest.mark.skipif(not importlib.util.find_spec("material"), reason="needs pip install -e '.[docs]'")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    # Nothing is fetched: a proxy that does not exist would refuse it.
    offline = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | offline, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_file_that_a_run_leaves_is_named(trained: Trained) -> None:
    text = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    for file in trained(*QUICK, "insight=full", "train.profile=true").iterdir():
        assert f"`{file.name.partition('tfevents')[0]}" in text, file.name


@needs_mkdocs
def test_every_page_of_the_documentation_and_the_tour_are_in_the_site(site: Path) -> None:
    pages = {path.parent.name for path in site.glob("*/index.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.md")} | {"tour"} <= pages
    assert (site / "images" / "names.png").is_file()
    assert "seconds on two CPU cores" in (site / "index.html").read_text(encoding="utf-8")


@needs_mkdocs
def test_the_reference_has_every_module(site: Path) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in site.glob("reference/*/index.html"))
    modules = list((ROOT / "microgpt").glob("*/[a-z]*.py"))
    assert len(modules) > 60
    for path in modules:
        assert f'id="microgpt.{path.parent.name}.{path.stem}"' in text, path


@needs_mkdocs
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.glob("**/index.html"):
        text = page.read_text(encoding="utf-8")
        loads = [address for address in Page(text).loads if address.startswith(("http", "//"))]
        assert not [address for address in loads if address.endswith((".js", ".css", ".woff2"))], page
