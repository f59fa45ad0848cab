"""The notebook of the tour: it runs from the first to the last cell, and is committed without outputs."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from settings import ROOT

TOUR = ROOT / "notebooks/tour.ipynb"
CELLS: list[dict[str, Any]] = json.loads(TOUR.read_text(encoding="utf-8"))["cells"]
MAX_SECONDS = 120  # on a busy machine; 27 s on a free one
WORDS_PER_MINUTE = 150  # that one reads, with some time for each of the cells


def test_it_is_committed_without_outputs() -> None:
    for cell in CELLS:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None


def test_it_is_read_in_a_quarter_of_an_hour() -> None:
    words = sum(len("".join(cell["source"]).split()) for cell in CELLS)
    assert words / WORDS_PER_MINUTE + 0.25 * len(CELLS) < 15
    for cell in CELLS:
        for link in "".join(cell["source"]).split("](")[1:]:
            assert (TOUR.parent / link.partition(")")[0]).is_file()


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(TOUR, as_version=4)
    started = time.monotonic()
    nbclient.NotebookClient(
        notebook, timeout=MAX_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert time.monotonic() - started < MAX_SECONDS
    outputs = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    shown = {kind for found in outputs.values() for output in found for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= shown
    printed = {source: "".join(o.text for o in found if "text" in o) for source, found in outputs.items()}
    assert not any(word in text for text in printed.values() for word in ("Traceback", "error: ", "Warning"))
    (compared,) = (text for source, text in printed.items() if "bits_of_torch" in source)
    rows = [line.split() for line in compared.splitlines() if "gpt.py" in line]
    assert len(rows) == 7 and all(float(row[2]) == pytest.approx(float(row[5]), abs=2e-4) for row in rows)
    assert len(list(tmp_path.glob("outputs/*/*"))) == 2 and len(list(tmp_path.glob("multirun/*/report.html"))) == 1
