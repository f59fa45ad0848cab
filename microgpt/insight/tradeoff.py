"""Compares sampling settings: which temperature and top_k give samples that are new, varied and plausible.

Measured for each setting of a grid, and for the run's own setting, with the same random draws:
- novelty: the share of samples that are in neither the training nor the held-out set. For a running text: the share of
  the distinct spans of 8 characters in the samples that are not in the training text.
- diversity: the number of distinct samples divided by the number of samples. For a running text: the same for spans.
- trigram loss: the mean loss of the samples, in nats per token, under a trigram model of the training split. The lower
  it is, the more plausible are the samples. The trigram loss of held-out text is the reference. A trigram model sees
  three characters: it does not show whether words are real words.

The rule for the recommendation: a setting qualifies if its trigram loss is at most 0.05 above that of held-out text. Of
these, find the highest novelty × diversity. Products within 0.02 of it count as equal, because that much is noise. Of
the settings with such a product, the one with the lowest trigram loss is recommended. If no setting qualifies, the one
with the lowest trigram loss of all is recommended.
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
MAX_EXCESS = 0.05  # nats per token: trigram loss above that of held-out text
PRODUCT_NOISE = 0.02  # of novelty times diversity: two standard errors of a share with 2,000 samples
STREAM_CHARACTERS, STREAM_TOKENS = 20, 1000  # of a running text: characters in all per unit of n; tokens per sample


@dataclass(frozen=True)
class Point:
    """A sampling setting, and the figures of its samples; novelty and diversity are shares from 0 to 1."""

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
        """Its coordinates in the figure: x, y in the left panel, y in the right panel."""
        return self.trigram, self.novelty, self.diversity

    @property
    def short(self) -> str:
        """`temperature=0.8 top_k=10`."""
        return str(self).replace("sampling.", "")

    def __str__(self) -> str:
        """The setting as it is typed on the command line."""
        top_p = f" sampling.top_p={self.top_p:g}" if self.top_p < 1 else ""
        return f"sampling.temperature={self.temperature} sampling.top_k={self.top_k}{top_p}"


def recommend(points: Sequence[Point], reference: float) -> Point:
    """The setting that the rule above recommends; `reference` is the trigram loss of held-out text."""
    qualified = [point for point in points if point.trigram <= reference + MAX_EXCESS]
    highest = max((point.product for point in qualified), default=0.0)
    equal = [point for point in qualified if point.product >= highest - PRODUCT_NOISE]
    return min(equal or points, key=lambda point: point.trigram)


class Measure:
    """Measures samples of a run by comparison with its corpus; `reference` is the trigram loss of held-out text."""

    def __init__(self, data: Data, generator: TextGenerator) -> None:
        self.data, self.generator, self.novelty = data, generator, build_novelty(data)
        self.train = baselines.split_windows(data, data.train, width=3)
        self.reference = self.trigram_loss(data.val.tokens)

    def trigram_loss(self, tokens: Tensor) -> float:
        """The loss of tokens (N,) in nats per token under a trigram model of the training split."""
        data = self.data
        vocab_size, boundary = data.tokenizer.vocab_size, data.mode.stop_token(data.tokenizer)
        scored = baselines.count_windows(tokens.numpy(), vocab_size, boundary, width=3)
        return baselines.baseline_losses(self.train, scored, vocab_size, baselines.NAMES[:4])["trigram"]

    def measure(self, samples: Sequence[Sequence[int]]) -> tuple[float, float, float]:
        """(novelty, diversity, trigram loss) of samples; each sample holds its tokens without BOS."""
        bos = self.data.tokenizer.bos
        tokens = [bos, *(token for sample in samples for token in (*sample, bos))]
        texts = [self.generator.decode(list(sample)) for sample in samples]
        return *self.novelty.novelty_and_diversity(texts), self.trigram_loss(torch.tensor(tokens))

    def point(self, sampling: SamplingConfig, draws: Tensor) -> Point:
        """The figures of a setting, of samples from the random draws (n_samples, max_tokens)."""
        samples = generate(self.generator.model, [self.data.tokenizer.bos], draws, **self.generator.options(sampling))
        return Point(sampling.temperature, sampling.top_k, sampling.top_p, *self.measure(samples))


def grid(own: SamplingConfig) -> list[SamplingConfig]:
    """The settings to compare: that of the run first, then all others of the grid."""
    settings = [
        SamplingConfig(temperature=temperature, top_k=top_k) for top_k in TOP_KS for temperature in TEMPERATURES
    ]
    first = SamplingConfig(temperature=own.temperature, top_k=own.top_k, top_p=own.top_p)
    return [first, *(sampling for sampling in settings if sampling != first)]


def measure_run(folder: Path, n: int, datasets_dir: str, console: Console) -> tuple[list[Point], float]:
    """The figures of all settings, that of the run in `folder` first, and the trigram loss of held-out text.

    Raises `UserError` if the corpus is not that of the run.
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
    """One row per setting, for the table in the terminal and for the CSV file."""
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
    """The recommended setting with its figures, and the reason."""
    limit = f"a trigram loss of at most {MAX_EXCESS} above that of held-out text"
    reason = (
        f"Of the settings with {limit}, it has the highest novelty × diversity, or the lowest trigram loss of those"
        f" within {PRODUCT_NOISE} of the highest"
    )
    if chosen.trigram > reference + MAX_EXCESS:
        reason = f"No setting has {limit}; this one is nearest"
    is_own = " (the run has it)" if chosen is points[0] else ""
    return (
        f"recommended: {chosen}{is_own}: novelty {chosen.novelty:.0%}, diversity {chosen.diversity:.0%}, trigram loss"
        f" {chosen.trigram:.3f} nats per token (held-out text: {reference:.3f}). {reason}."
    )


def save_figure(points: Sequence[Point], reference: float, chosen: Point, out: Path, title: str) -> None:
    """Save the figure of novelty and diversity over the trigram loss: a line per top_k, with a box per temperature."""
    lines = {}
    for top_k in sorted(TOP_KS, key=lambda top_k: top_k or math.inf):
        line = [point for point in points if point.top_k == top_k and point.top_p == 1]
        label = f"top_k={top_k}" if top_k else "top_k=0 (all)"
        lines[label] = [(str(p.temperature), p.place) for p in sorted(line, key=lambda p: p.temperature)]
    rings = {
        f"{whose}: {point.short}": point.place for whose, point in (("the run's", points[0]), ("recommended", chosen))
    }
    save_tradeoff(lines, rings, reference, reference + MAX_EXCESS, out, title)
