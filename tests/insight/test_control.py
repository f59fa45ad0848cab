"""The negative control: on names with shuffled letters, only letter frequencies and lengths can be learnt.

Models are trained on 6,000 names whose letters are shuffled, and compared with a reference that has the frequencies
of letters and lengths. The bounds are wider than what seeds 1, 2 and 3 gave on names.txt and on made-up names, in nats
per token:
- among all names: the model ends 0.010 to 0.023 above the reference. Its letters are independent of each other and of
  the length, so that the reference is the best there is.
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
from omegaconf import OmegaConf
from settings import CORPORA

from microgpt.config.checks import parse
from microgpt.config.schema import Config
from microgpt.data.loading import load_data
from microgpt.insight.baselines import corpus_baselines
from microgpt.insight.novelty import Novelty, build_novelty
from microgpt.model.generation import generate, random_draws
from microgpt.training.build import build_model, build_trainer

N, SEED = 6000, 1
CPU = torch.device("cpu")


def load_or_generate_names() -> list[str]:
    """N different names: from the corpus if it is cached, else generated from syllables."""
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


def shuffle_each_name(names: list[str]) -> list[str]:
    """The names with the letters of each shuffled."""
    rng = random.Random(SEED)
    return list(dict.fromkeys("".join(rng.sample(name, len(name))) for name in names))


def shuffle_across_names(names: list[str]) -> list[str]:
    """The names with their letters shuffled across all names; the lengths stay the same."""
    letters = list("".join(names))
    random.Random(SEED).shuffle(letters)
    dealt = iter(letters)
    return list(dict.fromkeys("".join(next(dealt) for _ in name) for name in names))


def letters_and_lengths_loss(training: list[str], held_out: list[str]) -> float:
    """The loss on `held_out`, in nats per token, of a model of the frequencies of letters and lengths only.

    It counts both in `training`. A name ends after n letters with the share of those that do among the names of at
    least n letters (add-one smoothing); if it does not end, a letter is drawn.
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
class ControlResult:
    """Losses on the held-out names, in nats per token; samples of the model, and their comparison with the corpus."""

    reference: float
    model: float
    baselines: dict[str, float]
    novelty: Novelty
    training: list[str]
    samples: list[str]


@pytest.fixture(scope="module")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[str]], ControlResult]:
    def learn(names: list[str]) -> ControlResult:
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
        config = parse(OmegaConf.create(settings), Config)
        data = load_data(config.dataset, SEED, tmp_path_factory.getbasetemp())
        model = build_model(config, data.tokenizer.vocab_size, CPU)
        trainer = build_trainer(config, data, model)
        trainer.fit()
        training, held_out = data.train.documents, data.val.documents
        bos = data.tokenizer.bos
        samples = generate(model, [bos], random_draws(500, 16, SEED), stop=bos)
        return ControlResult(
            reference=letters_and_lengths_loss(training, held_out),
            model=trainer.evaluate(trainer.whole_val).loss,
            baselines=corpus_baselines(data),
            novelty=build_novelty(data),
            training=training,
            samples=[data.tokenizer.decode(ids) for ids in samples],
        )

    return learn


@pytest.mark.parametrize(("shuffle", "below"), [(shuffle_each_name, 0.13), (shuffle_across_names, 0.01)])
def test_from_shuffled_letters_only_letter_frequencies_and_lengths_are_learnt(
    shuffle: Callable[[list[str]], list[str]], below: float, learn: Callable[[list[str]], ControlResult]
) -> None:
    learnt = learn(shuffle(load_or_generate_names()))
    assert -below < learnt.model - learnt.reference < 0.05
    assert min(learnt.baselines.values()) - learnt.reference > -below
    assert learnt.baselines["5-gram"] > learnt.baselines["unigram"]  # what a longer context adds is noise
    shares = learnt.novelty.shares(learnt.samples)
    assert shares["new"] > 0.95 and shares["training"] < 0.04  # short names are hit by chance
    assert learnt.novelty.shares(learnt.training)["new"] == 0


def test_from_unshuffled_names_much_more_is_learnt(learn: Callable[[list[str]], ControlResult]) -> None:
    learnt = learn(load_or_generate_names())
    assert learnt.model < learnt.reference - 0.4
    assert learnt.baselines["5-gram"] < learnt.baselines["trigram"] + 0.15 < learnt.reference - 0.1
