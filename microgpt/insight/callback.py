"""The callback that measures a run beyond its losses: baselines, novelty, samples over time, layers, diagnostics."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from microgpt.config.groups import CONF
from microgpt.config.schema import InsightConfig, SamplingConfig
from microgpt.data.corpus import fits_block
from microgpt.data.loading import Data
from microgpt.insight.attention import attention_maps
from microgpt.insight.baselines import NAMES, corpus_baselines, verdict
from microgpt.insight.diagnostics import Facts, Finding, diagnose
from microgpt.insight.embeddings import principal_components
from microgpt.insight.layer_statistics import layer_statistics
from microgpt.insight.novelty import build_novelty
from microgpt.insight.samples_over_time import FILE, is_sampled, join_samples, read_samples, write_samples
from microgpt.model.memory import n_weights
from microgpt.model.text_generator import TextGenerator
from microgpt.plots.models import character_pictures, draw_novelty, save_attention, save_embeddings
from microgpt.runs.callback import Callback, Progress
from microgpt.runs.metrics import Series
from microgpt.runs.tracking import Tracker

MIN_LAYER_STATISTICS_TOKENS = 2000  # of the validation split
MAX_ATTENTION_TOKENS = 24  # in the figure of the attention maps
PICTURE_SIZE = 48  # pixels of a character in TensorBoard's projector
EMBEDDINGS, ATTENTION = "embeddings.png", "attention.png"


def insight_files(config: InsightConfig) -> list[str]:
    """The files that a complete run has of what `config` lists."""
    files = {FILE: config.over_time, EMBEDDINGS: config.embeddings, ATTENTION: config.attention}
    return [name for name, wanted in files.items() if wanted]


class Insight(Callback):
    """Measures what `config` lists, for the run in `folder`; a resumed run continues after step `resumed_at`.

    It changes neither the weights nor the random numbers of the run, so the losses are the same without it.
    """

    def __init__(
        self,
        config: InsightConfig,
        sampling: SamplingConfig,
        data: Data,
        generator: TextGenerator,
        tracker: Tracker,
        folder: Path,
        resumed_at: int = 0,
    ) -> None:
        self.config, self.sampling, self.data = config, sampling, data
        self.generator, self.tracker, self.folder = generator, tracker, folder
        self.baselines = corpus_baselines(data) if config.baselines else {}
        self.novelty = build_novelty(data) if config.novelty else None
        if self.novelty:
            self.novelty.prepare()
        # Without those that were drawn after the checkpoint of `resumed_at`, and those of an earlier end of the run.
        samples = read_samples(folder) if resumed_at else {}
        self.samples = {step: texts for step, texts in samples.items() if step < resumed_at and is_sampled(step)}
        if config.layers:
            rows = data.val_rows(generator.model.block_size, generator.model.head.weight.device)
            self.rows = rows.first_tokens(MIN_LAYER_STATISTICS_TOKENS)

    def at_start(self, progress: Progress) -> None:
        self.tracker.chart_of_corpus(NAMES[-1])

    def before_step(self, progress: Progress) -> None:
        if self.config.over_time and is_sampled(progress.step):
            self.keep_samples(progress.step)

    def at_validation(self, progress: Progress) -> Mapping[str, float]:
        """The share of new samples, as a metric. All other figures are for the loggers."""
        self.tracker.baselines(progress.step, self.baselines)
        if self.config.layers:
            self.tracker.layers(progress.step, layer_statistics(self.generator.model, self.rows))
        metrics: dict[str, float] = {}
        details: dict[str, float] = {}
        if self.novelty:
            samples = self.draw(*self.novelty.sample_size(self.config.novelty))
            for name, share in self.novelty.shares(samples).items():
                (metrics if name == self.novelty.metric else details)[f"novelty/{name}"] = share
        self.tracker.details(progress.step, details)
        return metrics

    def draw(self, n_samples: int, max_tokens: int) -> list[str]:
        """Samples without a prompt, from the same random draws in each call: only the weights make a difference."""
        unprompted = {"prompts": [""], "n_samples": n_samples, "max_tokens": max_tokens, "one_document": False}
        sampling = replace(self.sampling, **unprompted)
        return self.generator.generate(sampling, self.data.seed)

    def keep_samples(self, step: int) -> None:
        """Generate samples and add them to the samples over time, under `step`, if they are not there yet."""
        if step in self.samples:
            return
        if not all(weight.isfinite().all() for weight in self.generator.model.parameters()):
            return  # training has diverged, which the trainer reports
        self.samples[step] = self.draw(*self.data.mode.overview)
        write_samples(self.folder, self.samples)
        self.tracker.text(step, "samples_over_time", join_samples(self.samples[step]))

    def save_figures(self, step: int) -> None:
        """Save samples, embeddings and attention maps of the final weights, which are those of `step`."""
        model, names = self.generator.model, self.data.tokenizer.names()
        if self.config.over_time:
            self.keep_samples(step)
        if self.config.embeddings:
            embeddings = model.token_embedding.weight.detach().float().cpu()
            self.tracker.embeddings(embeddings, names, character_pictures(names, PICTURE_SIZE), PICTURE_SIZE)
            save_embeddings(*principal_components(embeddings), names, self.folder / EMBEDDINGS)
            self.tracker.figure(step, "embeddings", (self.folder / EMBEDDINGS).read_bytes())
        if self.config.attention:
            tokens = self.data.val.excerpt(min(MAX_ATTENTION_TOKENS, model.block_size))
            maps = attention_maps(model, tokens[None].to(model.head.weight.device))  # one (H, T, T) per layer
            texts = [names[token] for token in tokens.tolist()]
            save_attention([layer.tolist() for layer in maps], texts, self.folder / ATTENTION)
            self.tracker.figure(step, "attention", (self.folder / ATTENTION).read_bytes())

    def novelty_figure(self, metrics: Series, final: Mapping[str, float]) -> bytes | None:
        """The share of new samples over the steps, and the shares at the end, as a PNG file; None if not measured."""
        if not self.novelty:
            return None
        return draw_novelty(metrics.get(f"novelty/{self.novelty.metric}", ([], [])), final)

    def mark(self, texts: Sequence[str]) -> list[str]:
        """The samples of the run, each with its mark: new, or in the training or held-out set."""
        if not self.novelty:
            return [self.generator.lay_out(texts, self.sampling)]
        return self.novelty.mark_all(texts, self.without_prompts(texts), self.sampling.max_tokens)

    def without_prompts(self, texts: Sequence[str]) -> list[str]:
        """The texts without the prompts that they begin with: `n_samples` texts for each of `sampling.prompts`."""
        prompts, n_samples = list(map(self.generator.prompt, self.sampling.prompts)), self.sampling.n_samples
        return [text[len(prompts[i // n_samples]) :] for i, text in enumerate(texts)]

    def final_figures(
        self, val_loss: float, texts: Sequence[str], metrics: Series, steps: int, lr: float
    ) -> dict[str, Any]:
        """Baselines, novelty and findings of the final weights, for `result.json`.

        `val_loss` (nats per token, whole split) and the samples `texts` are of the final weights. `metrics`, `steps`
        and the peak learning rate `lr` are of the run.
        """
        figures: dict[str, Any] = {"baselines": self.baselines or None}
        if self.novelty:
            size = self.novelty.final_size(self.config.novelty)
            figures["novelty"] = self.novelty.summary(self.draw(*size) if size else self.without_prompts(texts))
        findings: list[Finding] = []
        if self.baselines or self.novelty:
            findings = diagnose(self.facts(val_loss, figures.get("novelty", {}), metrics, steps, lr))
        return figures | {"findings": list(map(str, findings))}

    def facts(self, val_loss: float, novelty: Mapping[str, float], metrics: Series, steps: int, lr: float) -> Facts:
        """The facts of the run that the diagnostics check."""
        train, model = self.data.train, self.generator.model
        fit = fits_block(train.lengths, model.block_size) if self.data.mode.ends_at_bos else 1.0
        tiny = yaml.safe_load((CONF / "model/tiny.yaml").read_text(encoding="utf-8"))
        return Facts(
            steps=steps,
            parameters=sum(weight.numel() for _, weight in model.dense_weights()),
            training_characters=train.n_characters,
            smallest=n_weights(replace(model.config, **tiny), model.head.out_features)[0],
            block_size=model.block_size,
            cut=1 - fit,
            longest=max(train.lengths),
            lr=lr,
            train=metrics.get("train/loss_ema", ([], [])),
            val=metrics.get("val/loss", ([], [])),
            val_loss=val_loss,
            baselines=self.baselines,
            novelty=novelty,
        )

    def sentences(self, val_loss: float, figures: Mapping[str, Any]) -> list[str]:
        """The final figures as sentences, one per line."""
        lines = [verdict(val_loss, self.baselines)] if self.baselines else []
        if self.novelty:
            lines.append(self.novelty.sentence(figures["novelty"]))
        return lines + [f"warning: {finding}" for finding in figures["findings"]]
