"""The table of corpora."""

from pathlib import Path

from settings import CORPORA, Program, needs_corpora


def cells(output: str, name: str) -> list[str]:
    return next(line for line in output.splitlines() if line.split()[:1] == [name]).split()


def test_every_corpus_is_listed_without_a_download(program: Program, tmp_path: Path) -> None:
    out = program("-m", "microgpt", "corpora").stdout
    assert cells(out, "colors") == [
        "colors",
        "discrete",
        "949",
        "0",
        "0",
        "854",
        "95",
        "29",
        "26",
        "100.0%",
        "embedded",
    ]
    for name in ("cities", "english_words", "names", "paul_graham", "pokemon", "shakespeare"):
        assert cells(out, name)[-1] == "no"
    assert not (tmp_path / "datasets").exists()


@needs_corpora
def test_cached_corpora_are_listed_with_their_statistics(program: Program) -> None:
    out = program("-m", "microgpt", "corpora", f"datasets_dir={CORPORA}").stdout
    assert cells(out, "names") == [
        "names",
        "discrete",
        "29,494",
        "2,539",
        "0",
        "26,545",
        "2,949",
        "26",
        "15",
        "100.0%",
        "yes",
    ]
    assert cells(out, "shakespeare")[:3] == ["shakespeare", "stream", "7,222"]


def test_a_misspelt_option_is_a_one_line_error(program: Program) -> None:
    done = program("-m", "microgpt", "corpora", "datasets_di=x", status=2)
    assert "did you mean datasets_dir?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
