"""`explain`: what it prints, where its page goes, and its error messages."""

import json
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from settings import QUICK, Program, Trained

from microgpt.commands.explain import show
from microgpt.config.schema import ModelConfig
from microgpt.data.modes import find_mode
from microgpt.data.tokenizer import Tokenizer
from microgpt.insight.explanation import Explanation, explain_text
from microgpt.model.text_generator import TextGenerator
from microgpt.model.transformer import GPT

TEXT = "abcab cab/abc <b>"  # longer than a block


@pytest.fixture
def folder(trained: Trained) -> Path:
    return trained(*QUICK)


def make_generator(mode: str, chars: str = "\n &/<>abc") -> TextGenerator:
    torch.manual_seed(0)
    tokenizer = Tokenizer(chars)
    model = GPT(tokenizer.vocab_size, ModelConfig(n_embd=8, n_layer=2, n_head=2, block_size=8))
    return TextGenerator(model, tokenizer, find_mode(mode))


def printed(explanation: Explanation, top: int = 5) -> str:
    file = StringIO()
    show(explanation, top, Console(file=file, width=120))
    return file.getvalue()


def page_data(text: str) -> dict[str, Any]:
    (found,) = re.findall(r"^const \{.+\} = (\{.+\});$", text, re.MULTILINE)
    return json.loads(found)


def test_the_text_is_printed_with_its_ends_and_newlines_shown() -> None:
    explained = explain_text(make_generator("stream"), "a\nb\n\nc")
    assert printed(explained).startswith("a\\n\nb⏎\nc\n")


def test_a_text_longer_than_the_block_has_a_line_for_each_character() -> None:
    generator = make_generator("discrete")
    explained = explain_text(generator, TEXT)
    assert len(explained.places) == len(TEXT) + 1 > generator.model.block_size
    text = printed(explained)
    lines = re.findall(r"^ (\S+) +(\d+\.\d) +(\d+)  ", text, re.MULTILINE)
    assert "".join(char for char, *_ in lines) == TEXT.replace(" ", "␣") + "⏎"
    assert [(bits, rank) for _, bits, rank in lines] == [(f"{p.bits:.1f}", str(p.rank)) for p in explained.places]
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_table_names_the_likeliest_and_what_heads_attend_to_most() -> None:
    explained = explain_text(make_generator("discrete"), "ab")
    (_, second, _) = explained.places
    token, p = second.likeliest(1)[0]
    share, j = second.attention[1, 0].max(-1)
    line = next(line for line in printed(explained).splitlines() if line.startswith(" b "))
    assert f"{explained.alphabet[token]} {p:.0%}" in line
    assert f"{'⏎a'[int(j)]}{'²¹'[int(j)]} {share.item():.0%}" in line


def test_the_program_prints_and_writes_the_page_into_the_run(program: Program, folder: Path, tmp_path: Path) -> None:
    done = program("-m", "microgpt", "explain", f"run={folder}", "text=sea", "checkpoint=last", "top=2")
    assert done.stdout.startswith("sea⏎\n") and done.stdout.endswith("explain.html\n")
    data = page_data((folder / "explain.html").read_text())
    assert data["tokens"] == [*"⏎sea⏎"] and len(data["places"][0]["likeliest"]) == 2
    program("-m", "microgpt", "explain", f"run={folder}", "text=tan", "out=page.html")
    assert page_data((tmp_path / "page.html").read_text())["tokens"] == [*"⏎tan⏎"]


def test_what_cannot_be_read_or_written_is_a_one_line_error(program: Program, folder: Path) -> None:
    nowhere = program("-m", "microgpt", "explain", "run=nowhere", "text=a", status=2)
    assert nowhere.stderr.startswith("error: run=nowhere: not the directory of a run")
    unwritten = program("-m", "microgpt", "explain", f"run={folder}", "text=sea", "out=no/page.html", status=2)
    assert unwritten.stderr == "error: out=no/page.html: No such file or directory; name another file with out=\n"


def test_a_text_is_normalised_as_the_corpus_was(program: Program, names_file: Path, trained: Trained) -> None:
    trained("dataset=file", f"dataset.path={names_file}", *QUICK)
    done = program("-m", "microgpt", "explain", "run=run", "text=Kara")
    assert done.stdout.startswith("kara") and "Normalised as its corpus was: 'kara'" in done.stdout
    assert "Normalised" not in program("-m", "microgpt", "explain", "run=run", "text=kara").stdout
    assert "holds no 'z'" in program("-m", "microgpt", "explain", "run=run", "text=Kaz", status=2).stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run: must be given"),
        (["run=x"], "text: must be given (the text to explain); add text=abc"),
        (["run=x", "txt=a"], "txt: there is no such key; did you mean text?"),
        (["run=x", "text=a", "checkpoint=first"], "checkpoint=first: must be one of best, last; the default is"),
        (["run=x", "text=a", "device=tpu"], "device=tpu: must be one of auto, cpu, cuda, mps"),
        (["run=x", "text=a", "top=0"], "top=0: must be at least 1; the default is top=5"),
    ],
)
def test_an_error_in_the_settings_is_one_line(words: list[str], message: str, program: Program) -> None:
    assert program("-m", "microgpt", "explain", *words, status=2).stderr.startswith(f"error: {message}")
