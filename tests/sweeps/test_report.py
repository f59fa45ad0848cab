"""The report of a sweep: its files are complete, and its page works in a browser and loads no other files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_job
from matplotlib.image import imread
from page_scripts import FAINT_TEXTS, set_scheme, set_size
from page_scripts import browser as browser
from settings import ROOT, Page

from microgpt.plots.losses import curves_figure
from microgpt.sweeps import report, summary
from microgpt.sweeps.jobs import read_jobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f"{step},{4 - step / 50},{4.1 - step / 50},{3.9 - step / 50}\n" for step in range(10, 70, 10))
    for n in range(3):
        make_job(tmp_path / f"{n}-lr{n}", {"optim.lr": n}, val_loss=2.5 + n / 10)
        (tmp_path / f"{n}-lr{n}/metrics.csv").write_text("step,train/loss,train/loss_ema,val/loss\n" + rows)
        (tmp_path / f"{n}-lr{n}/samples.txt").write_text(f"sample <b>{n}</b>\nemma\n")
    make_job(tmp_path / "3-bad", {"optim.lr": 9}, status="failed", error="the loss is nan <script>")
    (tmp_path / "3-bad/train.log").write_text("last words\n")
    jobs = read_jobs(tmp_path)
    report.save_figure(jobs, tmp_path)
    report.save_page(jobs, tmp_path)
    return tmp_path


def test_the_report_writes_every_file_and_prints_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (report.FIGURE, report.PAGE):
        (folder / name).unlink()
    jobs = report.gather(folder)
    assert [job.name for job in jobs] == ["0-lr0", "1-lr1", "2-lr2", "3-bad"]
    assert (folder / summary.CSV).read_text().splitlines()[1].startswith("0-lr0,names,0,finished,2.5,")
    assert (folder / summary.MARKDOWN).read_text().startswith(f"# {folder.name}\n")
    assert (folder / report.FIGURE).is_file() and (folder / report.PAGE).is_file()
    out = capsys.readouterr().out
    assert "4 jobs: 3 finished, 1 failed" in out and "3-bad: the loss is nan <script>" in out
    rows = [line.split() for line in out.splitlines() if re.match(r" +\d  ", line)]
    assert [row[0] for row in rows] == ["0", "1", "2", "3"] and rows[0][1] == "2.5000"
    assert "Not shown" not in out and "The same in all jobs: dataset names" in out


@pytest.mark.parametrize("width", [80, 120])
def test_the_printed_table_fits_the_terminal(
    width: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for n in range(12):
        path, lr = f"/home/someone/corpora/of/mine/number-{n}.txt", 0.003 * (n + 1)
        overrides = {"dataset": "file", "dataset.path": path, "optim.lr": f"{lr:.3f}", "seed": n % 3}
        make_job(tmp_path / f"{n}-x", overrides, val_loss=2 + n / 10, seconds=10.0 + n, val_bpc=3 + n / 10)
    report.print_summary(read_jobs(tmp_path), tmp_path)
    lines = [line.rstrip() for line in capsys.readouterr().out.split("\n12 jobs:")[0].splitlines()]
    assert max(map(len, lines)) <= width
    first = next(line for line in lines if line.split()[:1] == ["0"])
    assert first.split()[:5] == ["0", "2.0000", "/home/someo…number-0.txt", "0.003", "0"]  # one line, nothing broken


def test_the_last_lines_say_what_to_type_next(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    report.gather(folder)
    name = shlex.quote(folder.name)
    assert capsys.readouterr().out.splitlines()[-4:] == [
        f"  sample from the best:    python {ROOT / 'sample.py'} run={name}/0-lr0",
        f"  train it for longer:     python {ROOT / 'train.py'} resume={name}/0-lr0 train.steps=120",
        f"  open the report:         python -m webbrowser {(folder / report.PAGE).as_uri()}",
        f"  open TensorBoard:        tensorboard --logdir {name}",
    ]
    make_job(folder / "4-colors", {"dataset": "colors"}, val_loss=1.5)
    jobs = read_jobs(folder)
    assert list(report.next_commands(jobs, folder))[:2] == [
        "sample from the best of colors",
        "sample from the best of names",
    ]
    assert report.next_commands([job for job in jobs if job.val_loss is None], folder) == {}


def test_the_page_is_self_contained(folder: Path) -> None:
    text = (folder / report.PAGE).read_text()
    page = Page(text)
    assert all(load.startswith(("data:", "#")) for load in page.loads)
    assert page.tags.count("svg") == 1 and page.tags.count("img") == 1
    assert page.tags.count("script") == 1 and "b" not in page.tags  # samples and errors are text, not HTML
    for words in ("2.6000", "sample &lt;b&gt;2", "the loss is nan &lt;script&gt;", "last words", "optim.lr"):
        assert words in text, words


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The browser with the page; no test may leave an error in its console."""
    browser.get((folder / report.PAGE).as_uri())
    yield browser
    assert browser.get_log("browser") == []


def test_a_click_on_a_heading_sorts_the_rows(page: Any) -> None:
    def column(name: str) -> list[str]:
        script = """
          const [table] = document.querySelectorAll("table"), headings = [...table.tHead.rows[0].cells];
          const i = headings.findIndex(heading => heading.textContent === arguments[0]);
          return [...table.tBodies[0].rows].map(row => row.cells[i].textContent);
        """
        return page.execute_script(script, name)

    def click(name: str) -> None:
        page.find_element("xpath", f"(//table)[1]//th/button[text()='{name}']").click()

    assert column("job") == ["0", "1", "2", "3"] and column("val") == ["2.5000", "2.6000", "2.7000", ""]
    for name, orders in {"val": ["0123", "2103"], "job": ["0123", "3210"], "status": ["3210", "2103"]}.items():
        for order, direction in zip(orders, ("ascending", "descending"), strict=True):
            click(name)
            assert "".join(column("job")) == order, (name, direction)  # the one without a loss is last in both
            sorted_by = page.find_elements("css selector", "th[aria-sort]")
            assert [(h.text[: len(name)], h.get_attribute("aria-sort")) for h in sorted_by] == [(name, direction)]


def test_all_columns_can_be_reached_and_the_page_is_not_wider_than_the_screen(page: Any) -> None:
    reached = """
      return [...document.querySelectorAll(".wide")].map(part => {
        part.scrollLeft = part.scrollWidth;
        const content = part.querySelector("tr > :last-child, svg, img"), right = content.getBoundingClientRect().right;
        return right <= part.getBoundingClientRect().right + 1 && right <= innerWidth;
      });
    """
    for width in (400, 1280):
        set_size(page, width, 900)
        page.refresh()
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert page.execute_script(reached) == [True] * 4  # the jobs, the curves, the panels, the differences
    (pixels,) = page.execute_script("return [...document.images].map(image => image.naturalWidth)")
    assert pixels > 500


def test_texts_and_figures_can_be_read_in_light_and_dark(page: Any, tmp_path: Path) -> None:
    for scheme, paper in {"light": 1.0, "dark": 24 / 255}.items():
        set_scheme(page, scheme)
        assert page.execute_script(FAINT_TEXTS) == []
        file = tmp_path / f"{scheme}.png"
        file.write_bytes(page.find_element("css selector", "svg").screenshot_as_png)
        brightness = np.asarray(imread(file))[..., :3].mean(-1)
        assert abs(np.median(brightness) - paper) < 0.03  # the ground of a figure is that of the page
        assert np.abs(brightness - paper).max() > 0.5  # and its labels stand out


@pytest.mark.parametrize("n", [2, 12, 40])
def test_every_curve_has_a_name_and_a_look_of_its_own(n: int) -> None:
    val, train = ([1, 2, 3, 4], [3.0, 2.5, 2.2, 2.1]), ([1, 2], [3.0, 2.5])
    figure = curves_figure({f"{i}-names-seed{i}": (val, train) for i in range(n)}, "names")
    (axes,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"{i}-names-seed{i}" for i in range(n)]
    looks = {(str(line.get_color()), str(line._dash_pattern)) for line in axes.lines}  # type: ignore[attr-defined]
    assert len(looks) == n
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.y0 >= 0 and box.x1 <= figure.bbox.width and not box.overlaps(axes.get_window_extent())


def test_where_validations_are_few_the_training_loss_is_drawn() -> None:
    train = ([10, 20, 30, 40], [3.0, 2.5, 2.2, 2.1])
    figure = curves_figure({"a": (([40], [2.3]), train), "b": (([40], [2.4]), train)}, "names")
    (axes,) = figure.axes
    assert sorted(len(line.get_xdata()) for line in axes.lines) == [1, 1, 4, 4]  # type: ignore[arg-type]
    assert "EMA of the training loss" in axes.get_title(loc="left")


@pytest.mark.parametrize("n", [1, 3, 12, 40])
def test_every_job_has_a_panel_under_a_readable_legend(n: int) -> None:
    from microgpt.plots.losses import Panel, panels_figure

    losses = {tag: ([1, 2, 3], [3.0, 2.5, 2.2]) for tag in ("train/loss", "train/loss_ema", "val/loss")}
    figure = panels_figure([Panel(f"{i}-names-lr0.0{i}", losses) for i in range(n)], f"{n} jobs")
    figure.canvas.draw()
    assert len(figure.axes) == n
    (legend,) = figure.legends
    texts = legend.get_texts()
    assert texts[0].get_text() == "train (raw)"
    box = legend.get_window_extent()
    assert all(float(text.get_fontsize()) >= 8 for text in texts)
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    titles = [axes.title.get_window_extent() for axes in figure.axes]
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert not any(box.overlaps(title) for title in titles)
