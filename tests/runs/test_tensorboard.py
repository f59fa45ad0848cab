"""TensorBoard itself: what it tells of a sweep, and what a headless Chromium shows at a width of 1280 pixels."""

import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fork_server import ForkServer
from helpers import tensorboard
from page_scripts import browser as browser
from page_scripts import set_size
from settings import QUICK

from microgpt.runs.directory import read_result
from microgpt.sweeps.jobs import slug

WIDTH = 1280
# The longest name of a job, and one with a part that holds no hyphen, at which a line could end.
LONG = "12" + slug("dataset.path=/home/me/songs_of_the_sea.txt,optim.lr=0.003,train.batch_size=128,model.n_embd=64")
JOBS = ["0-lr0.01", "1-lr0.03"]

# Each visible text with its left and right edge, in pixels; also those in shadow roots, of which TensorBoard has many.
TEXTS = """
const found = [];
const walk = node => [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes].forEach(child => {
  if (child.nodeType !== Node.TEXT_NODE) return ["STYLE", "SCRIPT"].includes(child.nodeName) || walk(child);
  const range = document.createRange(), text = child.textContent.trim();
  range.selectNodeContents(child);
  const { left, right } = range.getBoundingClientRect();
  if (text && right > left) found.push([text, left, right]);
});
walk(document.body);
return found;
"""


class Text(NamedTuple):
    text: str
    left: float
    right: float


@pytest.fixture(scope="module")
def root(trained_once: Callable[..., Path], fork_server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs`, two single runs, and `sweep`, two jobs and one of them again under a long name."""
    root = tmp_path_factory.mktemp("tensorboard")
    for name in ("2026-01-31_12-00-00", "2026-01-31_12-00-01"):
        shutil.copytree(trained_once(*QUICK), root / "runs/colors" / name)
    sweep = ["-m", "optim.lr=0.01,0.03", *QUICK, "insight=full", "hydra.sweep.dir=sweep"]
    for arguments in (sweep, ["resume=sweep"]):  # the latter adds nothing
        done = fork_server.run(root, "train.py", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(root / "sweep" / JOBS[0], root / "sweep" / LONG)
    return root


@pytest.fixture(scope="module")
def addresses(root: Path) -> Iterator[dict[str, str]]:
    """The address of a TensorBoard of `runs`, and of one of `sweep`."""
    with ExitStack() as servers:
        yield {name: servers.enter_context(tensorboard(root / name)) for name in ("runs", "sweep")}


@pytest.fixture
def show(browser: Any, addresses: dict[str, str]) -> Iterator[Callable[..., list[Text]]]:
    """`show("sweep", "images", "plots/loss")`: the visible texts of a tab, when all that are named are among them."""

    def texts_of(logdir: str, tab: str, *expected: str) -> list[Text]:
        if browser.current_url.startswith(addresses[logdir]):
            browser.execute_script("location.hash = arguments[0]", tab)
        else:
            browser.get(f"{addresses[logdir]}/#{tab}")
        deadline = time.monotonic() + 120
        while True:
            texts = [Text(*found) for found in browser.execute_script(TEXTS)]
            if set(expected) <= {found.text for found in texts}:
                return texts
            assert time.monotonic() < deadline, (expected, texts)
            time.sleep(0.3)

    set_size(browser, WIDTH, 900)
    yield texts_of
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_tensorboard_compares_the_jobs_of_a_sweep(root: Path, addresses: dict[str, str]) -> None:
    def ask(path: str, body: dict[str, object] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{addresses['sweep']}/data/{path}", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    names = sorted([*JOBS, LONG])
    deadline = time.monotonic() + 60
    while sorted(ask("runs")) != names:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    tags = ask("plugin/scalars/tags")
    assert all("z_final/val_loss" in tags[name] and "val/loss" in tags[name] for name in names)
    assert [point[1] for point in ask(f"plugin/scalars/scalars?run={JOBS[0]}&tag=val%2Floss")] == [3, 6]
    experiment = ask("plugin/hparams/experiment", {"experimentName": ""})
    assert "z_final/val_loss" in {metric["name"]["tag"] for metric in experiment["metricInfos"]}
    wanted = {"startIndex": 0, "sliceSize": 10, "colParams": [], "allowedStatuses": ["STATUS_SUCCESS"]}
    groups = ask("plugin/hparams/session_groups", {"experimentName": "", **wanted})["sessionGroups"]
    assert sorted(group["name"] for group in groups) == names
    assert sorted(group["hparams"]["optim.lr"] for group in groups) == [0.01, 0.01, 0.03]
    assert [info["name"] for info in experiment["hparamInfos"]] == ["optim.lr"]  # only what the sweep varies
    for group in groups:
        shown = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
        result = read_result(root / "sweep" / group["name"])
        assert shown["z_final/val_loss"] == pytest.approx(result["val_loss"], rel=1e-5)


def test_the_losses_come_first_and_no_name_of_a_run_is_cut_off(show: Callable[..., list[Text]], browser: Any) -> None:
    texts = show("sweep", "timeseries", *JOBS, LONG, "loss/colors", "/train", "/val")
    words = [found.text for found in texts]
    assert words.index("/train") < words.index("/val") and words[words.index("/train") - 1] == "loss/colors"
    shown_before = words[words.index("Pinned") : words.index("/train")]
    assert not any("/" in word for word in shown_before[:-1])  # no other chart
    names = """
      const side = document.querySelector("runs-data-table").getBoundingClientRect();
      const cells = [...document.querySelectorAll("runs-data-table tb-data-table-content-cell")];
      return cells.filter(cell => /^\\s*\\d+-/.test(cell.textContent)).map(cell => (
        cell.scrollWidth <= cell.clientWidth && cell.getBoundingClientRect().right < side.right
          && cell.scrollHeight <= cell.closest("tb-data-table-content-row").clientHeight));
    """
    assert browser.execute_script(names) == [True] * 3


def test_hparams_of_single_runs_show_the_final_metrics_without_scrolling(
    show: Callable[..., list[Text]], root: Path
) -> None:
    columns = ["dataset", "overrides", "val loss", "val bpc", "trigram gain"]
    result = read_result(root / "runs/colors/2026-01-31_12-00-00")
    gain = result["baselines"]["trigram"] - result["val_loss"]
    values = [f"{value:#.5g}" for value in (result["val_loss"], result["val_bpc"], gain)]
    texts = show("runs", "hparams", "Trial ID", *columns, *values)
    start = next(found.left for found in texts if found.text == "Trial ID")  # what is left of it are check boxes
    headings = [found for found in texts if found.text in columns and found.left > start]
    assert [found.text for found in sorted(headings, key=lambda found: found.left)] == columns
    assert all(found.right <= WIDTH for found in texts if found.text in (*columns, *values))


def test_images_and_custom_scalars_show_the_figures_and_a_chart_of_the_corpus(
    show: Callable[..., list[Text]],
) -> None:
    show("sweep", "images", "plots/attention", "plots/embeddings", "plots/loss", "plots/novelty")
    show("sweep", "custom_scalars", "colors", "Matches (6)")  # of each run the loss, and that of a 5-gram model
