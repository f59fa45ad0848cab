"""`guess`: it names the corpus that a text is from."""

from pathlib import Path

import pytest
from settings import Program

from microgpt.commands import guess


@pytest.mark.parametrize(("text", "corpus"), [("dark green", "colors"), ("QZ-117", "codes"), ("the sun is", "verses")])
def test_guess_names_the_corpus_that_a_text_is_from(
    text: str,
    corpus: str,
    compared_runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(compared_runs)
    guess.main([f"text={text}"])
    out = capsys.readouterr().out
    assert f"{text!r} sounds like {corpus} (" in out
    printed = [
        float(line.split()[1].rstrip("%"))
        for line in out.splitlines()
        if line.split()[:1] in [["codes"], ["colors"], ["verses"]]
    ]
    assert len(printed) == 3 and sum(printed) == pytest.approx(100, abs=0.2) and printed[0] > 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "text: must be given (the text); add text=Bulbaton"),
        (["text="], 'text=: needs a text to score; add text="Bulbaton"'),
        (["text=x"], "runs=: there must be two finished runs to compare"),
    ],
)
def test_a_user_error_is_one_line(words: list[str], message: str, program: Program) -> None:
    assert program("-m", "microgpt", "guess", *words, status=2).stderr.startswith(f"error: {message}")
