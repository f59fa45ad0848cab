"""Well-formed checkpoints of wrong content are refused in one line that names the file and the fault."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from settings import QUICK, Program, Trained

from microgpt.errors import UserError
from microgpt.runs import checkpoint
from microgpt.runs.contents import read_contents
from microgpt.runs.directory import BEST, LAST

Change = Callable[[dict[str, Any]], object]

HEAD = "head.weight"
WRONG: dict[str, tuple[Change, str]] = {
    "no weights": (lambda s: s.pop("model"), "model is missing"),
    "weights in a list": (lambda s: s.update(model=[1]), "model is list"),
    "no tokenizer": (lambda s: s.pop("tokenizer"), "tokenizer is missing"),
    "a tokenizer of bytes": (lambda s: s.update(tokenizer=b"abc"), "tokenizer is bytes"),
    "a character twice": (lambda s: s.update(tokenizer="aa" + s["tokenizer"][2:]), "twice"),
    "fewer characters": (lambda s: s.update(tokenizer=s["tokenizer"][1:]), "vocab_size"),
    "no config": (lambda s: s.pop("config"), "holds no settings"),
    "a config of text": (lambda s: s.update(config="model"), "holds no settings"),
    "an unknown setting": (lambda s: s["config"]["model"].update(width=3), "width"),
    "a setting of another type": (lambda s: s["config"]["model"].update(n_embd="wide"), "n_embd"),
    "a setting out of range": (lambda s: s["config"]["model"].update(n_layer=-1), "n_layer"),
    "an unknown activation": (lambda s: s["config"]["model"].update(activation="sin"), "activation"),
    "a huge width": (lambda s: s["config"]["model"].update(n_embd=10**9), "n_embd"),
    "a huge depth": (lambda s: s["config"]["model"].update(n_layer=10**9), "n_layer"),
    "a huge context": (lambda s: s["config"]["model"].update(block_size=10**12), "block_size"),
    "huge n-grams": (lambda s: s["config"]["model"].update(ngrams=64, ngram_rows=10**9), "ngram_embedding"),
    "heads that do not divide": (lambda s: s["config"]["model"].update(n_head=3), "n_head=3"),
    "another activation's weights": (lambda s: s["config"]["model"].update(rotary=True), "position_embedding"),
    "a weight missing": (lambda s: s["model"].pop(HEAD), f"{HEAD} is missing"),
    "a weight too many": (lambda s: s["model"].update(x=torch.ones(1)), "x is unknown"),
    "a weight of another shape": (lambda s: s["model"].update({HEAD: s["model"][HEAD].mT.contiguous()}), HEAD),
    "a weight that is a number": (lambda s: s["model"].update({HEAD: 1.0}), HEAD),
    "a weight of whole numbers": (lambda s: s["model"].update({HEAD: s["model"][HEAD].int()}), HEAD),
    "a weight of one number": (lambda s: s["model"].update({HEAD: torch.ones(1).expand(10**6, 10**6)}), HEAD),
    "NaN": (lambda s: s["model"][HEAD][0].fill_(math.nan), f"{HEAD} holds numbers that are not finite"),
    "infinity": (lambda s: s["model"][HEAD][0, 0].fill_(math.inf), f"{HEAD} holds numbers that are not finite"),
    "an average of numbers": (lambda s: s.update(average=3), "average is int"),
    "an average without weights": (lambda s: s.update(average={"is_best": True}), "average is missing"),
    "an average that says nothing": (lambda s: s.update(average={"weights": s["model"]}), "is_best"),
    "an average of another shape": (
        lambda s: s.update(average={"weights": {**s["model"], HEAD: torch.ones(2, 2)}, "is_best": False}),
        HEAD,
    ),
    "raw weights of another model": (lambda s: s.update(raw_model={HEAD: s["model"][HEAD]}), "token_embedding"),
    "a corpus that is a number": (lambda s: s.update(corpus=3), "corpus is int"),
    "progress in a list": (lambda s: s.update(progress=[1]), "progress is list"),
    "no step": (lambda s: s["progress"].pop("step"), "progress holds"),
    "a step of text": (lambda s: s["progress"].update(step="6"), "step='6'"),
    "a negative step": (lambda s: s["progress"].update(step=-1), "step=-1"),
    "a huge step": (lambda s: s["progress"].update(step=10**30), "step="),
    "a fraction of a token": (lambda s: s["progress"].update(tokens=1.5), "tokens=1.5"),
}


@pytest.fixture
def run(trained: Trained) -> Path:
    return trained(*QUICK)


def change(path: Path, how: Change) -> None:
    state = checkpoint.load(path)
    how(state)
    checkpoint.save(path, state)


def test_a_checkpoint_of_a_run_holds_all_its_parts(run: Path) -> None:
    contents = read_contents(run / LAST)
    assert contents.progress is not None and contents.progress.step == 6
    assert contents.config.model.n_embd == 16 and contents.corpus
    assert contents.tokenizer.vocab_size == contents.model.head.weight.size(0)
    assert torch.equal(contents.model.head.weight, contents.state["model"][HEAD])


def test_a_converted_run_has_weights_alone(run: Path) -> None:
    for key in ("progress", "optimizer", "corpus"):
        change(run / BEST, lambda state, key=key: state.pop(key))
    contents = read_contents(run / BEST)
    assert contents.progress is None and contents.corpus is None


@pytest.mark.parametrize("name", WRONG)
def test_wrong_content_is_refused_in_one_line(name: str, run: Path) -> None:
    how, words = WRONG[name]
    change(run / BEST, how)
    with pytest.raises(UserError) as error:
        read_contents(run / BEST)
    message = str(error.value)
    assert message.startswith(f"{run / BEST}: ") and "\n" not in message and len(message) < 500
    assert words in message


def test_an_interpolation_in_a_checkpoint_is_text(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a")
    change(run / BEST, lambda state: state["config"]["sampling"].update(prompts=["${oc.env:SECRET}"]))
    assert read_contents(run / BEST).config.sampling.prompts == ["${oc.env:SECRET}"]


@pytest.mark.parametrize(
    "command",
    [
        ["sample.py", "run=run"],
        ["-m", "microgpt", "explain", "run=run", "text=a"],
        ["-m", "microgpt", "compare", "runs=run,other", "text=a"],
        ["-m", "microgpt", "tradeoff", "run=run"],
        ["train.py", "resume=run", "train.steps=9"],
    ],
    ids=" ".join,
)
def test_every_command_refuses_it(command: list[str], run: Path, trained: Trained, program: Program) -> None:
    trained(*QUICK, at="other")
    for name in (BEST, LAST):
        change(run / name, WRONG["NaN"][0])
    (run / "ckpt.previous.pt").unlink()
    done = program(*command, status=2)
    assert len(done.stderr.splitlines()) == 1 and "numbers that are not finite" in done.stderr
    assert "optim.lr" not in done.stderr
