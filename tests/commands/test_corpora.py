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


def write_haiku(folder: Path) -> None:
    """A group of one's own in mine/, and its corpus."""
    (folder / "mine/dataset").mkdir(parents=True)
    (folder / "mine/dataset/haiku.yaml").write_text(
        "# @package _global_\ndataset: {name: haiku, mode: discrete, path: poems/*.txt}\nmodel: {dropout: 0.1}\n"
    )
    (folder / "poems").mkdir()
    (folder / "poems/a.txt").write_text("".join(f"old pond {i}\n" for i in range(30)))


def test_corpora_of_ones_own_are_listed(program: Program, tmp_path: Path) -> None:
    write_haiku(tmp_path)
    out = program("-m", "microgpt", "corpora", "--config-dir", "mine", "dataset.limit=0").stdout
    assert cells(out, "haiku")[:3] == ["haiku", "discrete", "30"] and cells(out, "haiku")[-1] == "yes"
    assert cells(out, "colors")[-1] == "embedded"
    (tmp_path / "poems/a.txt").unlink()
    assert cells(program("-m", "microgpt", "corpora", "-cd=mine").stdout, "haiku") == ["haiku", "discrete", "no"]
    (tmp_path / "mine/dataset/haiku.yaml").write_text("a: [b")
    done = program("-m", "microgpt", "corpora", "--config-dir=mine", status=2)
    assert "haiku.yaml, line 1: cannot be read as YAML" in done.stderr and len(done.stderr.splitlines()) == 1
    assert cells(done.stdout, "colors")[-1] == "embedded"  # the others are listed all the same


def test_a_misspelt_option_is_a_one_line_error(program: Program) -> None:
    done = program("-m", "microgpt", "corpora", "datasets_di=x", status=2)
    assert "did you mean datasets_dir?" in done.stderr
    assert len(done.stderr.splitlines()) == 1
