"""Steps, the time to a loss, and sampling, beside the ancestor's and nanoGPT's way of doing the same."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from peers import AncestorTrainer, NanoGPTTrainer, Peer, mean_loss, sample_without_cache
from timing import Row, compare, in_turn, seconds

from microgpt.commands.hydra_app import register
from microgpt.config.checks import parse
from microgpt.config.groups import CONF
from microgpt.config.schema import Config
from microgpt.data.loading import Data, load_data
from microgpt.model.device import keep_freed_memory
from microgpt.model.generation import generate, random_draws
from microgpt.model.transformer import GPT
from microgpt.training.build import build_model, build_trainer
from microgpt.training.distributed import Ranks
from microgpt.training.engine import TinyEngine
from microgpt.training.run import set_up_torch
from microgpt.training.trainer import Trainer

NANOGPT_STEPS, ANCESTOR_STEPS = 2000, 2000
NANOGPT = ["dataset=shakespeare", "optim=adamw", "optim.lr=0.001", "train.batch_size=12"]
TINY = ["dataset=names", "experiment=ancestor", "model.block_size=16", "train.engine=tiny"]


def composed(*overrides: str) -> Config:
    """The config that train.py has with these words."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return parse(compose("config", list(overrides)), Config)


def trainer(datasets: str, *overrides: str) -> tuple[Data, Trainer]:
    """The data and the trainer that train.py has with these words, ready for its steps."""
    config = composed(datasets, *overrides)
    device = set_up_torch(config, Ranks())
    keep_freed_memory()
    data = load_data(config.dataset, config.seed, Path(config.datasets_dir))
    run = build_trainer(config, data, build_model(config, data.tokenizer.vocab_size, device))
    if run.tiny:
        run.engine = TinyEngine(run.model, run.optimizer, run.optim)
    return data, run


def new_model(vocab_size: int, *overrides: str) -> GPT:
    return build_model(composed(*overrides), vocab_size, torch.device("cpu"))


def step_of(run: Trainer) -> Callable[[], None]:
    def step() -> None:
        run.train_step()
        run.progress.step += 1
        run.pending_losses.clear()

    return step


def documents(data: Data) -> list[list[int]]:
    """The documents of the training split, with BOS at both ends."""
    rows = data.mode.batches(data.train, 32, 1, data.seed, False, torch.device("cpu"))
    ends = []
    for n in range(5000):
        batch = rows(n)
        ids = batch.targets[0][batch.targets[0] >= 0].tolist()
        ends.append([data.tokenizer.bos, *ids])
    return ends


def step_rows(folder: Path, datasets: str, rounds: int) -> list[Row]:
    """Milliseconds of a step."""
    names, tiny = trainer(datasets, *TINY)
    step_of(tiny)()  # compiles it
    theirs = AncestorTrainer(Peer(27, 16, 1, 4, 16, False), documents(names), 16, 10**6)
    a, b = in_turn(rounds, seconds(step_of(tiny), 1000), seconds(theirs.step, 200))
    rows = [row("a document, 16 wide, 1 layer (compiled, Numba)", a, "the ancestor's way", b)]

    names, packed = trainer(datasets, "dataset=names")
    theirs = AncestorTrainer(Peer(27, 64, 3, 4, 16, False), documents(names), 16, 10**6)
    n_documents = int((packed.batches(0).targets == names.tokenizer.bos).sum())
    a, b = in_turn(rounds, seconds(step_of(packed), 40), seconds(lambda: [theirs.step() for _ in range(n_documents)]))
    rows.append(row(f"the {n_documents} documents of a step of `names`", a, "the ancestor's way", b))

    _, ours = trainer(datasets, *NANOGPT)
    nano = NanoGPTTrainer(Peer(65, 128, 4, 4, 64, True), nanogpt_ids(datasets)[0], 64, 10**6)
    a, b = in_turn(rounds, seconds(step_of(ours), 20), seconds(nano.step, 20))
    rows.append(row("nanoGPT's CPU preset (128 wide, 4 layers, 12 x 64 tokens), AdamW", a, "nanoGPT's way", b))

    for corpus in ("names", "shakespeare"):
        (_, plain), (_, modern) = (trainer(datasets, f"dataset={corpus}", f"model={m}") for m in ("tuned", "modern"))
        a, b = in_turn(rounds, seconds(step_of(modern), 20), seconds(step_of(plain), 20))
        rows.append(row(f"`{corpus}` with `model=modern`", a, "plain", b))
    return rows


def row(what: str, here: list[float], beside: str, there: list[float]) -> Row:
    here, there = ([1000 * value for value in values] for values in (here, there))
    return compare(what, here, beside, there, " ms", 1 if here[0] > 1 else 3)


def nanogpt_ids(datasets: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The characters of tiny Shakespeare as nanoGPT numbers and splits them: the first 90 % and the last 10 %."""
    text = (Path(datasets.partition("=")[2]) / "shakespeare.txt").read_text()
    numbers = {character: i for i, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([numbers[character] for character in text])
    return ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]


def seconds_to(run: Trainer, loss: float, every: int, per_character: bool = False) -> tuple[float, float]:
    """Seconds of training, with its validations, until the validation loss is at most `loss`, and that loss.

    In nats per token, or per character of the text.
    """
    step, began = step_of(run), time.perf_counter()
    while True:
        for _ in range(every):
            step()
        found = run.evaluate(run.val)
        reached = found.bpc * math.log(2) if per_character else found.loss
        if reached <= loss or run.progress.step >= run.config.steps:
            return time.perf_counter() - began, reached


def goal_rows(folder: Path, datasets: str, rounds: int) -> list[Row]:
    """Time until the loss that another tool ends with."""
    names, _ = trainer(datasets, "dataset=names")

    def ancestor() -> float:
        theirs = AncestorTrainer(Peer(27, 16, 1, 4, 8, False), documents(names), 8, ANCESTOR_STEPS)
        return seconds(lambda: [theirs.step() for _ in range(ANCESTOR_STEPS)])()

    def ours() -> float:
        return seconds_to(trainer(datasets, "dataset=names")[1], 2.376, 5)[0]

    a, b = in_turn(rounds, ours, ancestor)
    rows = [compare("`names`: until the ancestor's loss, 2.376", a, "the ancestor's way", b)]
    ids, val = nanogpt_ids(datasets)
    torch.manual_seed(1337)
    nano = NanoGPTTrainer(Peer(65, 128, 4, 4, 64, True), ids, 64, NANOGPT_STEPS)
    theirs = seconds(lambda: [nano.step() for _ in range(NANOGPT_STEPS)])()
    reached = mean_loss(nano.model, val, 64)
    for name, model in (("recipe", "tuned"), ("`model=ngram`", "ngram")):
        _, run = trainer(datasets, "dataset=shakespeare", f"model={model}")
        took, loss = seconds_to(run, 1.88, 20, per_character=True)
        what = f"`shakespeare`, {name}: until 1.88 nats per character (reached {loss:.3f})"
        beside = f"nanoGPT's way, {NANOGPT_STEPS} steps to {reached:.3f}: {theirs:.1f} s"
        rows.append(Row(what, f"{took:.1f} s", beside, f"{took / theirs:.2f}"))
    return rows


def sampling_rows(folder: Path, datasets: str, rounds: int) -> list[Row]:
    """Tokens per second of models with new weights; no text ends before its last token."""
    names, prose = new_model(27, "dataset=names"), new_model(66, "dataset=shakespeare")

    def speed(model: GPT, n: int, length: int) -> Callable[[], float]:
        draws = random_draws(n, length, 1)
        timed = seconds(lambda: [generate(model, [0], part) for part in draws.split(250)])
        return lambda: n * length / timed()

    def without_cache(model: Peer, block_size: int, length: int) -> Callable[[], float]:
        timed = seconds(lambda: sample_without_cache(model, 0, length, block_size))
        return lambda: length / timed()

    small, large = Peer(27, 64, 3, 4, 16, False), Peer(66, 128, 4, 4, 64, False)
    a, b = in_turn(rounds, speed(names, 1000, 15), without_cache(small, 16, 150))
    c, d, e = in_turn(rounds, speed(prose, 1, 300), speed(prose, 32, 200), without_cache(large, 64, 150))
    unit = " tokens/s"
    return [
        compare("sample 1,000 names at once", a, "without a cache, one by one", b, unit, 0),
        compare("sample one text of `shakespeare`", c, "without a cache", e, unit, 0),
        compare("sample 32 texts of `shakespeare` at once", d, "without a cache, one by one", e, unit, 0),
    ]
