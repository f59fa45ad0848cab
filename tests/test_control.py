"""The negative control: where there is nothing to learn but letters and lengths, no figure of ours may say otherwise.

Corpora of 6,000 names whose letters are shuffled are learnt as any other, and held against what is there to be known.
The margins are what seeds 1, 2 and 3 gave on names.txt and on made-up names, with room:
- among all names: the model ends 0.010 to 0.023 nats a token above the reference. Its letters are independent of each
  other and of the length, so that the reference is the best there is.
- within each name: 0.049 to 0.101 below it. A name's letters are drawn without replacement, and consonants balance
  vowels: what remains when order is gone. That it is no more than this is what the shuffle among all names shows.
- as they are: 0.45 to 0.56 below it.
"""

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import CORPORA
from omegaconf import OmegaConf

from microgpt import baselines, novelty
from microgpt.batches import split_documents
from microgpt.build import build_trainer, load_data
from microgpt.config import typed
from microgpt.generate import generate, random_draws

N, SEED = 6000, 1
CPU = torch.device("cpu")


def real_or_made_up() -> list[str]:
    """N different names: of the corpus if it is there, else of syllables."""
    rng = random.Random(SEED)
    if (CORPORA / "names.txt").is_file():
        return rng.sample(sorted(set((CORPORA / "names.txt").read_text().split())), N)
    vowels, consonants = "aaaaaaeeeeiiiioouuy", "nnnnnlllllrrrrssssmmmtttddhhkkbbccjjggvvzfpw"
    names: set[str] = set()
    while len(names) < N:
        syllables = (
            rng.choice(consonants) * (rng.random() < 0.9) + rng.choice(vowels) for _ in range(rng.randint(1, 4))
        )
        names.add("".join(syllables) + rng.choice(["", "", *"nlsh"]))
    return sorted(names)


def within(names: list[str]) -> list[str]:
    """The letters of each name in any order."""
    rng = random.Random(SEED)
    return list(dict.fromkeys("".join(rng.sample(name, len(name))) for name in names))


def among(names: list[str]) -> list[str]:
    """The letters of all names shuffled as one, and dealt to names of the same lengths."""
    letters = list("".join(names))
    random.Random(SEED).shuffle(letters)
    dealt = iter(letters)
    return list(dict.fromkeys("".join(next(dealt) for _ in name) for name in names))


def letters_and_lengths(training: list[str], held_out: list[str]) -> float:
    """Nats a token of `held_out` to who knows from `training` how frequent each letter is, and how long names are.

    A name ends after n letters with the share of those that do among the names that get there (add-one smoothing);
    if it does not, a letter is drawn.
    """
    count, ends = Counter("".join(training)), Counter(map(len, training))
    nats = 0.0
    for name in held_out:
        for n in range(len(name) + 1):
            reach = sum(times for length, times in ends.items() if length >= n)
            end = (ends[n] + 1) / (reach + 2)
            nats -= math.log(end if n == len(name) else (1 - end) * count[name[n]] / count.total())
    return nats / sum(len(name) + 1 for name in held_out)


@dataclass(frozen=True)
class Learnt:
    """A corpus, and what became of it: losses in nats a token of the held-out names, samples and their measure."""

    reference: float
    model: float
    ladder: dict[str, float]
    meter: novelty.Documents
    samples: list[str]


@pytest.fixture(scope="module")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], Learnt]:
    def learn(names: list[str]) -> Learnt:
        """Train on `names` by the recipe of the names, made small: about a second."""
        file: Path = tmp_path_factory.mktemp("control") / "names.txt"
        file.write_text("\n".join(names))
        settings = {
            "dataset": {"name": "control", "path": str(file)},
            "model": {"n_embd": 32, "n_layer": 1, "n_head": 2, "block_size": 16},
            "optim": {"name": "muon", "lr": 0.02, "adam_lr": 0.006, "weight_decay": 0.1},
            "train": {"steps": 200, "batch_size": 64, "val_every": 100},
            "seed": SEED,
        }
        config = typed(OmegaConf.create(settings))
        data = load_data(config, CPU)
        trainer = build_trainer(config, data, CPU)
        trainer.fit()
        splits = split_documents(data.corpus.documents, SEED)
        tokenizer, bos = data.tokenizer, data.tokenizer.bos
        tokens = [torch.tensor(tokenizer.encode_documents(names)) for names in splits]
        samples = generate(trainer.model, [bos], random_draws(500, 16, SEED), stop=bos)
        return Learnt(
            reference=letters_and_lengths(*splits),
            model=trainer.evaluate(data.val).loss,
            ladder=baselines.ladder(tokens[0], tokens[1], tokenizer.vocab_size, bos),
            meter=novelty.Documents(*splits),
            samples=[tokenizer.decode(ids) for ids in samples],
        )

    return learn


@pytest.mark.parametrize(("shuffle", "below"), [(within, 0.13), (among, 0.01)])
def test_of_shuffled_letters_nothing_is_learnt_but_letters_and_lengths(
    shuffle: Callable[[list[str]], list[str]], below: float, learn: Callable[[list[str]], Learnt]
) -> None:
    learnt = learn(shuffle(real_or_made_up()))
    assert -below < learnt.model - learnt.reference < 0.05
    assert min(learnt.ladder.values()) - learnt.reference > -below
    assert learnt.ladder["5-gram"] > learnt.ladder["unigram"]  # what a longer context adds is noise
    shares = learnt.meter.shares(learnt.samples)
    assert shares["new"] > 0.95 and shares["training"] < 0.04  # short names are hit by chance
    assert learnt.meter.shares(learnt.meter.training)["new"] == 0


def test_of_names_as_they_are_much_more_is_learnt(learn: Callable[[list[str]], Learnt]) -> None:
    learnt = learn(real_or_made_up())
    assert learnt.model < learnt.reference - 0.4
    assert learnt.ladder["5-gram"] < learnt.ladder["trigram"] + 0.15 < learnt.reference - 0.1
