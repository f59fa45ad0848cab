"""Prompts to texts, and opening a run from its directory."""

from pathlib import Path

import pytest
import torch
from conftest import QUICK, Trained

from microgpt.config import Sampling
from microgpt.errors import UserError
from microgpt.model import GPT
from microgpt.samples import Writer, draw_texts, open_run, stream_texts
from microgpt.tokenizer import Tokenizer

SAMPLING = Sampling(n_samples=3, max_tokens=20, prompts=["", "ab"])


def writer(mode: str) -> Writer:
    torch.manual_seed(0)
    tokenizer = Tokenizer("\n abc")
    return Writer(GPT(tokenizer.vocab_size, 8, 8, 1, 2), tokenizer, mode)


def test_a_prompt_begins_with_bos_and_a_blank_line_of_a_stream_is_one() -> None:
    discrete, stream = writer("discrete"), writer("stream")
    bos = discrete.tokenizer.bos
    assert discrete.prompt_ids("ab") == [bos, 2, 3]
    assert stream.prompt_ids("") == [bos]
    assert stream.prompt_ids("a\n\nb ") == [bos, 2, bos, 3, 1]
    assert stream.prompt_ids("a\n\n") == [bos, 2, bos]
    assert stream.prompt_ids("a\n") == [bos, 2, 0]


def test_a_character_that_the_corpus_lacks_is_named() -> None:
    with pytest.raises(UserError, match=r"prompt='aé': the corpus holds no 'é'"):
        writer("discrete").prompt_ids("aé")


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_there_are_n_samples_for_each_prompt_and_each_begins_with_it(mode: str) -> None:
    texts = draw_texts(writer(mode), SAMPLING, seed=1)
    assert len(texts) == 6
    assert all(text.startswith("ab") for text in texts[3:])


def test_draws_are_seeded() -> None:
    assert draw_texts(writer("stream"), SAMPLING, 1) == draw_texts(writer("stream"), SAMPLING, 1)
    assert draw_texts(writer("stream"), SAMPLING, 1) != draw_texts(writer("stream"), SAMPLING, 2)


@pytest.mark.parametrize("mode", ["discrete", "stream"])
def test_streamed_texts_are_the_same_texts_in_pieces(mode: str) -> None:
    pieces = list(stream_texts(writer(mode), SAMPLING, seed=1))
    assert "".join(pieces) == "".join(f"{text}\n" for text in draw_texts(writer(mode), SAMPLING, seed=1))
    assert len(pieces) > 30


def test_discrete_texts_end_with_the_document_and_streams_go_on() -> None:
    discrete = draw_texts(writer("discrete"), Sampling(n_samples=20, max_tokens=50), seed=1)
    assert not any("\n\n" in text for text in discrete) and len({len(text) for text in discrete}) > 3
    assert any("\n\n" in text for text in draw_texts(writer("stream"), Sampling(max_tokens=50), seed=1))


def test_a_run_opens_from_its_best_checkpoint_alone(trained: Trained, tmp_path: Path) -> None:
    trained(*QUICK)
    for file in (tmp_path / "run").iterdir():
        if file.name != "best.pt" and file.is_file():
            file.unlink()
    opened, config = open_run(tmp_path / "run", "best", torch.device("cpu"))
    assert config.model.n_embd == 16
    assert draw_texts(opened, config.sampling, 3)
