"""Sampling settings compared: which temperature and top_k give samples that are new, varied and plausible.

Of each setting of a grid, and of the run's own, from the same random draws:
- novelty: the share of samples that are in neither the training nor the held-out set; of a running text, the share of
  the samples' different spans of 8 characters that the training text does not hold.
- diversity: the share of samples that are different; of a running text, of their spans of 8 characters.
- plausibility: the mean loss of the samples, in nats per token, under the trigram model of the training split.
  Held-out text has a loss there too: samples with a lower one are made of commoner parts than it, with a higher one
  of rarer parts. Trigrams see three characters: whether words are words, say, they do not tell.

The rule by which a setting is recommended: of those whose samples are no less plausible than held-out text (a trigram
loss of at most its own + 0.05), the one with the highest novelty × diversity; of those within 0.02 of that, which is
noise, the most plausible. If none qualifies, the most plausible of all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from microgpt.config.schema import SamplingConfig
from microgpt.data.loading import Data
from microgpt.insight import baselines
from microgpt.insight.novelty import build_novelty
from microgpt.model.generation import generate, random_draws
from microgpt.model.text_generator import TextGenerator
from microgpt.plots.models import save_tradeoff
from microgpt.runs.opening import open_run

TEMPERATURES, TOP_KS = (0.4, 0.6, 0.8, 1.0, 1.2), (0, 3, 5, 10)
TOLERANCE = 0.05  # nats per token
NOISE = 0.02  # of their product: two standard errors of a share with 2,000 samples
STREAM_CHARACTERS, STREAM_TOKENS = 20, 1000  # of a running text: characters for each of n; tokens of a sample


@dataclass(frozen=True)
class Point:
    """A setting of `sampling`, and what its samples are."""

    temperature: float
    top_k: int
    top_p: float
    novelty: float
    diversity: float
    trigram: float  # nats per token

    @property
    def product(self) -> float:
        return self.novelty * self.diversity

    @property
    def place(self) -> tuple[float, float, float]:
        """Where it lies in the figure's panels."""
        return self.trigram, self.novelty, self.diversity

    @property
    def short(self) -> str:
        return str(self).replace("sampling.", "")

    def __str__(self) -> str:
        """The setting as it is typed."""
        top_p = f" sampling.top_p={self.top_p:g}" if self.top_p < 1 else ""
        return f"sampling.temperature={self.temperature} sampling.top_k={self.top_k}{top_p}"


def recommend(points: Sequence[Point], reference: float) -> Point:
    """The setting that the rule above chooses; `reference` is the trigram loss of held-out text."""
    plausible = [point for point in points if point.trigram <= reference + TOLERANCE]
    best = max((point.product for point in plausible), default=0.0)
    as_good = [point for point in plausible if point.product >= best - NOISE]
    return min(as_good or points, key=lambda point: point.trigram)


class Measure:
    """Measures samples of a run against the two halves of its corpus."""

    def __init__(self, data: Data, generator: TextGenerator) -> None:
        self.data, self.generator, self.novelty = data, generator, build_novelty(data)
        self.reference = self.trigram_loss(data.val.tokens)

    def trigram_loss(self, tokens: Tensor) -> float:
        """Nats per token of tokens (N,) under a trigram model of the training half."""
        data = self.data
        names, boundary = baselines.NAMES[:4], data.mode.stop_token(data.tokenizer)
        losses = baselines.baseline_losses(data.train.tokens, tokens, data.tokenizer.vocab_size, boundary, names)
        return losses["trigram"]

    def measure(self, samples: Sequence[Sequence[int]]) -> tuple[float, float, float]:
        """Novelty, diversity and trigram loss of samples, each the tokens after a BOS."""
        bos = self.data.tokenizer.bos
        tokens = [bos, *(token for sample in samples for token in (*sample, bos))]
        texts = [self.generator.decode(list(sample)) for sample in samples]
        return *self.novelty.novelty_and_diversity(texts), self.trigram_loss(torch.tensor(tokens))

    def point(self, sampling: SamplingConfig, draws: Tensor) -> Point:
        samples = generate(self.generator.model, [self.data.tokenizer.bos], draws, **self.generator.options(sampling))
        return Point(sampling.temperature, sampling.top_k, sampling.top_p, *self.measure(samples))


def grid(own: SamplingConfig) -> list[SamplingConfig]:
    """The settings to try, the run's own first."""
    tried = [SamplingConfig(temperature=temperature, top_k=top_k) for top_k in TOP_KS for temperature in TEMPERATURES]
    mine = SamplingConfig(temperature=own.temperature, top_k=own.top_k, top_p=own.top_p)
    return [mine, *(sampling for sampling in tried if sampling != mine)]


def measure_run(folder: Path, n: int, datasets_dir: str, console: Console) -> tuple[list[Point], float]:
    """The points of the run in `folder`, its own first, and the trigram loss of its held-out text.

    Raises `UserError` when the corpus has changed since.
    """
    run = open_run(folder, "best", torch.device("cpu"))
    data = run.load_data("run", datasets_dir)
    measure = Measure(data, run.generator)
    size = (max(1, STREAM_CHARACTERS * n // STREAM_TOKENS), STREAM_TOKENS)
    if data.mode.ends_at_bos:
        size = measure.novelty.sample_size(n)
    draws, settings, points = random_draws(*size, data.seed), grid(run.config.sampling), []
    with console.status("sampling") as status:
        for i, sampling in enumerate(settings, 1):
            status.update(f"sampling: setting {i} of {len(settings)}")
            points.append(measure.point(sampling, draws))
    return points, measure.reference


def table_rows(points: Sequence[Point], reference: float, chosen: Point) -> list[dict[str, str]]:
    """A row a setting, for the table in the terminal and for the file."""
    notes: dict[int, list[str]] = {id(point): [] for point in points}
    notes[id(chosen)].append("recommended")
    notes[id(points[0])].append("the run's own")
    return [
        {
            "top_k": str(point.top_k),
            "temperature": str(point.temperature),
            **({"top_p": f"{point.top_p:g}"} if points[0].top_p < 1 else {}),
            "novelty": f"{point.novelty:.4f}",
            "diversity": f"{point.diversity:.4f}",
            "product": f"{point.product:.4f}",
            "trigram": f"{point.trigram:.4f}",
            "above_held_out": f"{point.trigram - reference:+.4f}",
            "note": " and ".join(notes[id(point)]),
        }
        for point in sorted(points, key=lambda point: (point.top_k or math.inf, point.temperature))
    ]


def sentence(points: Sequence[Point], reference: float, chosen: Point) -> str:
    """The recommended setting, and the rule by which it is."""
    rule = f"of the settings no less plausible than that (+ {TOLERANCE}), the highest novelty × diversity, or the most"
    rule += f" plausible within {NOISE} of it"
    if chosen.trigram > reference + TOLERANCE:
        rule = "no setting is as plausible as that, and this comes nearest"
    is_own = " (the run has it)" if chosen is points[0] else ""
    return (
        f"recommended: {chosen}{is_own}, with {chosen.novelty:.0%} novelty and"
        f" {chosen.diversity:.0%} diversity at a trigram loss of {chosen.trigram:.3f} nats per token (held-out text:"
        f" {reference:.3f}): {rule}."
    )


def save_figure(points: Sequence[Point], reference: float, chosen: Point, out: Path, title: str) -> None:
    """Novelty and diversity over the trigram loss: a line for each top_k, through its temperatures."""
    lines = {}
    for top_k in sorted(TOP_KS, key=lambda top_k: top_k or math.inf):
        line = [point for point in points if point.top_k == top_k and point.top_p == 1]
        label = f"top_k={top_k}" if top_k else "top_k=0 (all)"
        lines[label] = [(str(p.temperature), p.place) for p in sorted(line, key=lambda p: p.temperature)]
    rings = {
        f"{whose}: {point.short}": point.place for whose, point in (("the run's", points[0]), ("recommended", chosen))
    }
    save_tradeoff(lines, rings, reference, reference + TOLERANCE, out, title)
