"""What is measured of a run beside its losses: is it good, is it new, how did it learn.

A run calls a few methods and knows nothing of what they do; the rooms that do it know nothing of runs.
"""

import contextlib
import json
import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import platformdirs
import torch
import torch.nn.functional as F

from microgpt import baselines, doctor, layers, novelty, portraits, probe, runs
from microgpt.batches import split_documents, split_stream
from microgpt.build import Data
from microgpt.config import Config
from microgpt.samples import Writer, draw_texts
from microgpt.tracking import Tracker

log = logging.getLogger(__name__)

FINAL = 5  # times as many samples at the end as at a validation
LOOKED_AT = 2000  # tokens of the validation split for the sizes by layer, at least
LONGEST = 500  # tokens of a sample whose end is waited for
COUNTED = 20_000_000  # training tokens that the counting models see at the most
EMBEDDINGS, ATTENTION, OVER_TIME = "embeddings.png", "attention.png", "samples_over_time.txt"


class Insight:
    """All that `insight` of the config asks for, of one run in its `folder`."""

    def __init__(self, config: Config, data: Data, writer: Writer, folder: Path, step: int) -> None:
        self.config, self.writer, self.folder, self.data = config, writer, folder, data
        self.losses = counting_losses(config, data) if config.insight.baselines else {}
        if data.corpus.mode == "discrete":
            self.training, self.held_out = split_documents(data.corpus.documents, config.seed)
        else:
            self.training, self.held_out = [training_text(data.corpus.documents)], []
        self.meter: novelty.Documents | novelty.Prose | None = None
        if config.insight.novelty and self.held_out:
            self.meter = novelty.Documents(self.training, self.held_out)
        elif config.insight.novelty:
            self.meter = novelty.Prose(self.training[0])
        self.over_time = {n: texts for n, texts in read_over_time(folder / OVER_TIME).items() if n < step}

    def watched_steps(self) -> frozenset[int]:
        """The steps before which samples are drawn: 0 and the powers of two."""
        if not self.config.insight.over_time:
            return frozenset()
        return frozenset([0, *(2**n for n in range(self.config.train.steps.bit_length()))])

    def watch(self, step: int, tracker: Tracker) -> None:
        """Keep what the model writes now, from the same random draws each time: only the weights differ."""
        if not all(weight.isfinite().all() for weight in self.writer.model.parameters()):
            return  # the trainer is about to say so
        size = {"n_samples": 5, "max_tokens": 40} if self.held_out else {"n_samples": 1, "max_tokens": 120}
        few = replace(self.config.sampling, prompts=[""], **size)
        self.over_time[step] = draw_texts(self.writer, few, self.config.seed)
        runs.write_atomically(self.folder / OVER_TIME, show_over_time(self.over_time))
        tracker.text(step, "samples_over_time", "\n".join(self.over_time[step]))

    def at_validation(self) -> dict[str, float]:
        """Scalars for TensorBoard: the losses of the counting models, how new the samples are, sizes by layer."""
        scalars = {f"baselines/{name}": loss for name, loss in self.losses.items()}
        if self.config.insight.layers:
            scalars |= layers.sizes(self.writer.model, self.data.val.first_tokens(LOOKED_AT))
        if self.meter:
            shares = self.meter.shares(self.draw(self.config.insight.novelty))
            scalars |= {f"novelty/{name}": share for name, share in shares.items()}
        return scalars

    def draw(self, n: int) -> list[str]:
        """n samples without a prompt, long enough to come to their end; of a running text, one of n characters."""
        size = {"n_samples": n, "max_tokens": min(LONGEST, 1 + max(map(len, self.training)))}
        if not self.held_out:
            size = {"n_samples": 1, "max_tokens": n}
        return draw_texts(self.writer, replace(self.config.sampling, prompts=[""], **size), self.config.seed)

    def look(self, tracker: Tracker, step: int) -> None:
        """What there is to look at in the final weights, those of `step`."""
        model, tokenizer, wanted = self.writer.model, self.data.tokenizer, self.config.insight
        if wanted.over_time:
            self.watch(step, tracker)
        names = tokenizer.names()
        if wanted.embeddings:
            embeddings = model.token_embedding.weight.detach().float().cpu()
            shutil.rmtree(self.folder / f"{step:05}", ignore_errors=True)  # from before the run was resumed
            tracker.embeddings(step, embeddings, names)
            portraits.save_embeddings(*principal(embeddings), names, self.folder / EMBEDDINGS)
        if wanted.attention:
            ids = self.data.val.idx[0, : min(24, model.block_size)]
            if self.held_out:
                ids = self.document()
            maps = probe.attention_maps(model, ids[None].to(model.head.weight.device))
            texts = [names[i] for i in ids.tolist()]
            portraits.save_attention([layer.tolist() for layer in maps], texts, self.folder / ATTENTION)

    def document(self) -> torch.Tensor:
        """The tokens of the first held-out document that is long enough to see something, as a model reads them."""
        size = self.config.model.block_size
        text = next((t for t in self.held_out if 6 < len(t) < size), max(self.held_out, key=len))
        return torch.tensor(self.data.tokenizer.encode_documents([text]))[: min(24, size)]

    def at_end(self, val_loss: float, texts: Sequence[str], metrics: dict[str, doctor.Curve]) -> dict[str, Any]:
        """Figures for `result.json`, of the final weights, whose loss on the whole split and samples are given."""
        figures: dict[str, Any] = {"baselines": self.losses or None}
        if isinstance(self.meter, novelty.Documents):
            figures["novelty"] = self.meter.summary(self.draw(FINAL * self.config.insight.novelty))
        elif self.meter:
            figures["novelty"] = self.meter.summary(self.without_prompts(texts))
        figures["findings"] = list(map(str, self.findings(val_loss, metrics, figures.get("novelty", {}))))
        return figures

    def said(self, val_loss: float, figures: dict[str, Any]) -> list[str]:
        """The figures of `at_end` in sentences, a line each."""
        lines = [baselines.verdict(val_loss, self.losses)] if self.losses else []
        lines += [novelty.sentence(figures["novelty"])] if "novelty" in figures else []
        return lines + [f"note: {finding}" for finding in figures["findings"]]

    def marked(self, texts: Sequence[str]) -> list[str]:
        """The texts, each with its mark: known or new, or cut off, which is neither."""
        if not self.meter:
            return list(texts)
        written = self.without_prompts(texts)
        if isinstance(self.meter, novelty.Prose):
            marks = map(self.meter.mark, written)
            return [f"{text}\n[{mark}]\n" for text, mark in zip(texts, marks, strict=True)]
        width, most = min(24, max(map(len, texts))), self.config.sampling.max_tokens
        return [
            f"{text:<{width}}  [{self.meter.mark(text) if len(new) < most else f'cut off after {most}'}]"
            for text, new in zip(texts, written, strict=True)
        ]

    def without_prompts(self, texts: Sequence[str]) -> list[str]:
        """What the model has added to each prompt of `sampling.prompts`, in their order."""
        sampling = self.config.sampling
        return [text[len(sampling.prompts[i // sampling.n_samples]) :] for i, text in enumerate(texts)]

    def findings(
        self, val_loss: float, metrics: dict[str, doctor.Curve], figures: dict[str, float]
    ) -> list[doctor.Finding]:
        if not (self.losses or self.meter):
            return []
        config, lengths = self.config, list(map(len, self.training))
        facts = doctor.Facts(
            steps=config.train.steps,
            parameters=self.writer.model.n_parameters(),
            training_characters=sum(lengths) + len(lengths),
            block_size=config.model.block_size,
            cut=sum(n >= config.model.block_size for n in lengths) / len(lengths) if self.held_out else 0.0,
            longest=max(lengths),
            lr=config.optim.lr,
            train=metrics.get("train/loss_ema", ([], [])),
            val=metrics.get("val/loss", ([], [])),
            val_loss=val_loss,
            baselines=self.losses,
            novelty=figures,
        )
        return doctor.examine(facts)


def principal(vectors: torch.Tensor) -> tuple[list[list[float]], float]:
    """Vectors (n, C) in their first two principal components (n, 2), and the share of the variance that these hold."""
    centred = vectors - vectors.mean(0)
    centred = F.pad(centred, (0, max(0, 2 - centred.size(1))))  # a component more for models of width 1
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[:2].T).tolist(), float(sizes[:2].square().sum() / sizes.square().sum())


# -- counting ----------------------------------------------------------------------------------------------


def split_tokens(config: Config, data: Data) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and held-out tokens (N,), (M,), as the model has them."""
    encode = data.tokenizer.encode_documents
    if data.corpus.mode == "stream":
        return split_stream(torch.tensor(encode(data.corpus.documents)))
    training, held_out = split_documents(data.corpus.documents, config.seed)
    return torch.tensor(encode(training)), torch.tensor(encode(held_out))


def training_text(paragraphs: Sequence[str]) -> str:
    """The text of a stream's training split, which ends within a paragraph."""
    left, parts = round(sum(map(len, paragraphs)) + len(paragraphs) + 1), []
    left -= max(1, round(0.1 * left)) + 1  # the tokens after the first BOS that are not held out
    for paragraph in paragraphs:
        if left <= 0:
            break
        parts.append(paragraph[:left])
        left -= len(paragraph) + 1
    return "\n\n".join(parts)


def counting_losses(config: Config, data: Data) -> dict[str, float]:
    """The ladder of the corpus and its split: counted once, then kept in the user's cache directory.

    Of a corpus with more than COUNTED training tokens, the last of these are counted.
    """
    split = str(config.seed) if data.corpus.mode == "discrete" else "stream"
    cached = platformdirs.user_cache_path("microgpt") / "baselines" / f"1-{data.corpus.fingerprint}-{split}.json"
    with contextlib.suppress(OSError, ValueError):
        losses = json.loads(cached.read_text())
        if list(losses) == list(baselines.RUNGS):
            return losses
    boundary = data.tokenizer.bos if data.corpus.mode == "discrete" else None
    train, held_out = split_tokens(config, data)
    losses = baselines.ladder(train[-COUNTED:], held_out, data.tokenizer.vocab_size, boundary)
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        runs.write_atomically(cached, json.dumps(losses))
    except OSError as error:
        log.debug("the losses of the counting models could not be kept: %s", error)
    return losses


# -- samples over time -------------------------------------------------------------------------------------


def show_over_time(over_time: dict[int, list[str]]) -> str:
    """`step 64` and below it the samples, indented, so that they can be told apart again."""
    return "".join(
        f"step {step}\n" + "".join(f"  {line}\n" for text in texts for line in text.split("\n"))
        for step, texts in sorted(over_time.items())
    )


def read_over_time(file: Path) -> dict[int, list[str]]:
    """What `show_over_time` wrote; empty if there is nothing."""
    if not file.is_file():
        return {}
    parts = re.split(r"^step (\d+)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        int(step): [line.removeprefix("  ") for line in lines.splitlines()]
        for step, lines in zip(parts[::2], parts[1::2], strict=True)
    }
