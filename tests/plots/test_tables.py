"""Tables: in a terminal, as CSV, as Markdown."""

import csv
import io

import pytest
from rich.console import Console

from microgpt.plots.tables import WIDTH, is_text, to_csv, to_markdown, to_table, wide_console

ROWS = [
    {"run": "colors", "val": "2.1150 ± 0.0071", "steps": "1,000"},
    {"run": "a|b", "val": "-1e-05", "steps": ""},
]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "2.5", "1,000"], False),
        (["2.1150 ± 0.0071", "-0.5", "+0.25", "1e-05", "3/4"], False),
        (["", ""], False),
        (["1", "failed"], True),
        (["2.5%"], True),
    ],
)
def test_a_column_is_text_if_any_of_its_values_is_no_figure(values: list[str], expected: bool) -> None:
    assert is_text([{"x": value} for value in values], "x") is expected


def test_csv_has_all_columns_that_any_row_has() -> None:
    text = to_csv([{"a": 1, "b": 'x, "y"'}, {"b": None, "c": 0.1 + 0.2}])
    assert text == 'a,b,c\n1,"x, ""y""",\n,,0.30000000000000004\n'
    assert list(csv.DictReader(io.StringIO(text)))[1] == {"a": "", "b": "", "c": "0.30000000000000004"}


def test_markdown_aligns_figures_to_the_right_and_escapes_bars() -> None:
    assert to_markdown(ROWS).splitlines() == [
        "| run | val | steps |",
        "| --- | ---: | ---: |",
        "| colors | 2.1150 ± 0.0071 | 1,000 |",
        "| a\\|b | -1e-05 |  |",
    ]


def printed(rows: list[dict[str, str]], colours: bool = False) -> str:
    """The table as it is printed, with the row of a|b highlighted."""
    file = io.StringIO()
    console = Console(file=file, width=80, color_system="standard" if colours else None, force_terminal=colours)
    console.print(to_table(rows, lambda row: row["run"] == "a|b"))
    return file.getvalue()


def test_a_table_has_a_line_for_each_row_with_figures_on_the_right() -> None:
    header, _, first, second = (line for line in printed(ROWS).splitlines() if line.strip())
    assert header.split() == ["run", "val", "steps"] and first.split() == ["colors", "2.1150", "±", "0.0071", "1,000"]
    assert first.index("2.1150") + len("2.1150 ± 0.0071") == second.index("-1e-05") + len("-1e-05")
    assert first.index("colors") == second.index("a|b")


def test_only_the_highlighted_rows_are_red() -> None:
    lines = printed(ROWS, colours=True).splitlines()
    assert ["\x1b[31m" in line for line in lines if "a|b" in line or "colors" in line] == [False, True]
    assert "\x1b[31m" not in printed(ROWS)


def test_values_are_not_parsed_as_markup() -> None:
    assert "[red]x[/red]" in printed([{"run": "[red]x[/red]"}])


def test_in_a_pipe_the_width_of_a_line_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in ("40", "500"):
        monkeypatch.setenv("COLUMNS", columns)
        assert wide_console().width == wide_console(at_least=120).width == WIDTH


def test_in_a_terminal_a_line_has_the_terminal_width_or_the_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich, this is a terminal
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    assert wide_console().width == 100
    assert wide_console(at_least=120).width == 120 and wide_console(at_least=80).width == 100


def test_a_long_row_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    wide_console().print(to_table([{"run": "outputs/" + "x" * 150, "val": "2.5"}]))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "outputs/" in line)
    assert line.split() == ["outputs/" + "x" * 150, "2.5"] and len(line) <= WIDTH
