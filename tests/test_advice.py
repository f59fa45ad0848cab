"""What an error message tells the user to type is typed back in, as into a shell, and works.

The messages with such advice are gathered from the sources, so that a new one needs a case here.
"""

import ast
import importlib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from settings import ROOT

from microgpt.commands.arguments import check_own_file, quote
from microgpt.commands.failure import user_errors
from microgpt.commands.hydra_app import register
from microgpt.config.checks import parse, validate
from microgpt.config.groups import CONF
from microgpt.config.schema import Config
from microgpt.data.loading import load_data
from microgpt.errors import UserError
from microgpt.model.device import find_device
from microgpt.training.build import build_model, build_trainer

KEY = r"[a-z_]+(?:\.[a-z_]+)*="  # of a setting
ADVICE = re.compile(rf"\b(?:try|use|add|did you mean|default is|kind:|around it:|brackets:|with)\s[^;]*?(?=\"?{KEY})")

FILE = ["dataset=file", "model.block_size=8", "train.batch_size=4", "model.n_embd=16", "train.steps=9"]
TRAIN = "train"  # composed, checked, and its corpus, model and trainer made, but not trained

# The command and the words that give a message; what is typed back in is the advice of the message itself.
CASES: list[tuple[str, list[str]]] = [
    (TRAIN, ["dataset=colrs"]),
    (TRAIN, ["optim.schedule=linaer"]),
    (TRAIN, ["optim.lr=-1"]),
    (TRAIN, ["model.n_embd=30"]),
    (TRAIN, ["model.rotary=true", "model.n_embd=12", "model.n_head=4"]),
    (TRAIN, ["optim.betas=[0.9]"]),
    (TRAIN, ["train.grad_accum=64", "train.batch_size=8"]),
    (TRAIN, ["dataset=file"]),
    (TRAIN, [*FILE[1:], "dataset.path=my.txt"]),
    (TRAIN, ["dataset.note=a, (b"]),
    (TRAIN, ['dataset.replace={"a":']),
    (TRAIN, ["sampling.prompts=[a"]),
    (TRAIN, ["optim.betas=[0.9"]),
    (TRAIN, [*FILE, "dataset.path=my poms.txt"]),
    (TRAIN, [*FILE, "dataset.path=my poems.txt,it's.txt"]),
    (TRAIN, [*FILE, "dataset.path=table.csv", "dataset.reader=csv"]),
    (TRAIN, [*FILE, "dataset.path=table.csv", "dataset.reader=csv", "dataset.column=no"]),
    (TRAIN, [*FILE, "dataset.path=table.csv", "dataset.reader=csv", "dataset.column=id", "dataset.delimiter=ab"]),
    (TRAIN, [*FILE, "dataset.path=latin.txt"]),
    (TRAIN, [*FILE, "dataset.path=wide.txt"]),
    (TRAIN, [*FILE, "dataset.path=my poems.txt", "dataset.document=recrd"]),
    (TRAIN, [*FILE, "dataset.path=one.txt"]),
    (TRAIN, [*FILE, "dataset.path=my poems.txt", "dataset.mode=stream", "model.block_size=9999"]),
    (TRAIN, ["dataset=names", "datasets_dir=spoiled folder"]),
    *([] if torch.cuda.is_available() else [(TRAIN, ["device=cuda"])]),
    (TRAIN, ["train.compile=true", "device=cpu"]),
    ("explain", ["run=nowhere", "text=red"]),
    ("explain", ["text=red"]),
    ("explain", ["run=outputs/colors/1"]),
    ("explain", ["run=latest", "text=red", "checkpoint=bst"]),
    ("explain", ["run=gpt run", "text=red"]),
    ("page", ["run=latest", "max_mb=0.01"]),
    ("compare", ["text="]),
    ("guess", []),
]

# Templates that no case here gives, and why.
ELSEWHERE = {
    "hydra/launcher=": "tests/sweeps/test_callback.py: the launcher is hidden there",
    "torchrun": "needs torchrun",
    "several GPUs": "needs two GPUs",
    "plot=live": "tests/commands/test_train.py: needs a machine without a display",
    "optim.clip_grad=1": "needs a run that diverges",
    "hydra.run.dir=": "another directory can always be named",
    "datasets_dir=": "another folder can always be named",
    "key=value; did you mean": "tests/test_mistakes.py: refused before it is composed",
    "folder=": "needs a search: another folder can always be named",
    "out=": "another path can always be named",
    "resume": "tests/training/test_run.py and tests/sweeps/test_callback.py: typed there",
    "list two, or train": "trains two corpora",
    "needs no download": "tests/data/test_download.py: needs a server",
    "needs a separator": "an empty setting is refused before",
    "iconv": "tests/data/test_decoding.py",
    "=$'": "tests/data/test_tokenizer.py: typed as a shell reads it",
}


def templates() -> dict[str, str]:
    """The messages with advice in the sources: place → message, in which ⋯ stands for a value."""
    found = {}
    for path in sorted((ROOT / "microgpt").rglob("*.py")):
        if path.name == "gpt.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise | ast.Return | ast.Assign):
                for part in ast.walk(node):
                    if isinstance(part, ast.JoinedStr) or (isinstance(part, ast.Constant) and type(part.value) is str):
                        text = text_of(part)
                        if ADVICE.search(text.replace("⋯=", "key=")) and (": " in text or "; " in text):
                            found[f"{path.relative_to(ROOT)}:{part.lineno}"] = text
    return found


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr)
    return "".join(str(value.value) if isinstance(value, ast.Constant) else placeholder(value) for value in node.values)


def placeholder(value: ast.expr) -> str:
    """⋯ for a value; of `typed("key", …)` also the key."""
    call = value.value if isinstance(value, ast.FormattedValue) else value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "typed":
        return f"{text_of(call.args[0]) if isinstance(call.args[0], ast.Constant) else '⋯'}=⋯"
    return "⋯"


@pytest.fixture
def folder(tmp_path: Path, compared_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory with runs and with files of many kinds."""
    shutil.copytree(compared_runs, tmp_path, dirs_exist_ok=True)
    words = "".join(f"{a}{b} {c}\n\n" for a in "kmnt" for b in "aeiou" for c in ("ra", "lin"))
    for name in ("my poems.txt", "it's.txt", "my.txt"):
        (tmp_path / name).write_text(words)
    (tmp_path / "one.txt").write_text("one long line " * 50)
    (tmp_path / "table.csv").write_text("id;the title\n" + "".join(f"{i};name {i}\n" for i in range(30)))
    (tmp_path / "latin.txt").write_bytes("".join(f"caf\xe9 {i}\nna\xefve {i}\n" for i in range(30)).encode("cp1252"))
    (tmp_path / "wide.txt").write_bytes(words.encode("utf-16-le"))
    (tmp_path / "spoiled folder").mkdir()
    (tmp_path / "spoiled folder/names.txt").write_text(words)
    (tmp_path / "gpt run").mkdir()
    (tmp_path / "gpt run/ckpt.json").write_text(json.dumps(gpt_run()))
    monkeypatch.chdir(tmp_path)
    register()
    yield tmp_path
    GlobalHydra.instance().clear()


def gpt_run() -> dict[str, object]:
    """The checkpoint of a run of gpt.py, as much of it as `convert` reads."""
    from microgpt.config.schema import ModelConfig
    from microgpt.model.transformer import GPT

    sizes = {"n_embd": 4, "n_layer": 1, "n_head": 1, "block_size": 8}
    model = GPT(5, ModelConfig(n_embd=4, n_layer=1, n_head=1, block_size=8))
    weights = {name.removesuffix(".weight"): weight.tolist() for name, weight in model.named_parameters()}
    settings = {**sizes, "data": "", "n_samples": 1, "temperature": 1.0, "topk": 0, "seed": 1}
    return {"weights": weights, "settings": settings, "chars": "dehr"}


def attempt(command: str, words: list[str]) -> str:
    """The message that a command ends with; empty if it succeeds."""
    try:
        with user_errors():
            if command != TRAIN:
                importlib.import_module(f"microgpt.commands.{command}").main(words)
                return ""
            check_own_file(words)
            sweep = "-m" in words
            typed = [quote(word, Config, sweep) for word in words if word != "-m"]
            with initialize_config_dir(str(CONF), version_base="1.3"):
                if sweep:
                    return ""  # tests/sweeps/test_callback.py
                config = parse(compose("config", typed), Config)
            validate(config)
            device = find_device(config.device)
            data = load_data(config.dataset, config.seed, Path(config.datasets_dir).expanduser())
            build_trainer(config, data, build_model(config, data.tokenizer.vocab_size, device))
    except UserError as error:
        return str(error)
    return ""


def advised(message: str) -> list[list[str]]:
    """Each piece of advice in a message, as the words that a shell makes of it."""
    advice = []
    for clause in re.split(r"; |,? or (?=add |\w+=|look)", message):
        found = re.search(rf"(?:^|[\s\"])({KEY}[^\s].*|python (?:-m microgpt|train\.py|sample\.py) .*)$", clause)
        if found and (ADVICE.search(clause) or "python" in found[1]):
            text = re.split(r" (?:samples|reads|takes|has rows)\b", found[0].strip().removesuffix("?"))[0]
            words = [word for word in shlex.split(text) if "=" in word or word in ("python", "microgpt", "convert")]
            advice.append(words)
    return advice


def follow(command: str, words: list[str], advice: list[str]) -> str:
    """The message after the advice was typed: settings take the place of those with the same key."""
    if advice[0] == "python":
        problem = attempt(advice[advice.index("microgpt") + 1], [word for word in advice if "=" in word])
        return problem or attempt(command, words)
    keys = {word.partition("=")[0] for word in advice}
    return attempt(command, [word for word in words if word.partition("=")[0] not in keys] + advice)


@pytest.mark.parametrize(("command", "words"), CASES, ids=[" ".join([command, *words]) for command, words in CASES])
def test_the_advice_of_a_message_works(
    command: str, words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = attempt(command, words)
    assert message and "\n" not in message
    pieces = [piece for piece in advised(message) if piece != ["device=cuda"] or torch.cuda.is_available()]
    assert pieces or "leave it out" in message, message
    for piece in pieces:
        following = follow(command, words, piece)
        # What was missing may not have been all.
        assert not following or (following.partition(":")[0] != message.partition(":")[0] and "must be" in following)


def test_every_message_with_advice_has_a_case(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages = [attempt(command, words) for command, words in CASES]
    missing = {
        place: text
        for place, text in templates().items()
        if not any(part in text for part in ELSEWHERE)
        and not any(re.search(".*".join(map(re.escape, text.split("⋯"))), message) for message in messages)
    }
    assert missing == {}
